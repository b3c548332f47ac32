"""Tensors on disk by key: one safetensors file an entry, complete or not there, shared by all runs. No torch.

A key is a clip's hash and the version of what looked at it, so an entry never goes stale; when the folder grows over
its limit, the entries that were not asked for the longest go first.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from streamkd.errors import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

MAX_BYTES = 4 << 30
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class TensorCache:
    """A folder of named arrays.

    Args:
        folder: Created when first needed.
        max_bytes: What `prune` leaves at most.
    """

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.folder = folder
        self._max_bytes = max_bytes

    def get(self, version: str, key: str) -> dict[str, np.ndarray] | None:
        """The entry, or None; a damaged one is removed."""
        path = self._path(version, key)
        try:
            found: dict[str, np.ndarray] = load_file(path)
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, ValueError):
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):  # a folder that may only be read still serves
            os.utime(path)
        return found

    def put(self, version: str, key: str, tensors: dict[str, np.ndarray]) -> None:
        """Write an entry: under another name first, so that a crash leaves all of it or nothing.

        Raises:
            UnavailableError: The disk is full or the folder can't be written.
        """
        path = self._path(version, key)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(save(tensors))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            why = "the disk is full" if error.errno in _FULL else f"{error.strerror or error}"
            raise UnavailableError(
                f"The cache {self.folder} can't be written: {why}.",
                hint="Free space there, or name another folder with --cache.",
            ) from error

    def prune(self) -> int:
        """Remove the entries that were used the longest ago, and what a crash left, until the limit holds.

        Returns:
            How many entries went.
        """
        entries: list[tuple[float, int, Path]] = []
        for path in self.folder.glob("*/*/*"):
            with contextlib.suppress(OSError):
                known = path.stat()
                entries.append((known.st_mtime, known.st_size, path))
        entries.sort(key=lambda one: one[0], reverse=True)
        total, gone = 0, 0
        for _, size, path in entries:
            total += size
            if total > self._max_bytes:
                with contextlib.suppress(OSError):
                    path.unlink()
                    gone += 1
        return gone

    def _path(self, version: str, key: str) -> Path:
        return self.folder / version[:24] / key[:2] / f"{key}.safetensors"


def digest(*parts: str) -> str:
    """Hex SHA-256 of some text, in order."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


__all__ = ["MAX_BYTES", "TensorCache", "digest"]
