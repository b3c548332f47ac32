"""What cameras usually look like, kept on disk: a day's history is not lost with the process that learnt it."""

from __future__ import annotations

import hashlib
import os
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from streamkd.clock import Clock
    from streamkd.config import CameraConfig
    from streamkd.types import FloatArray

SAVE_EVERY_S = 60.0
KEEP = timedelta(days=1)  # an older one says little of today, and its gap nothing at all


class HistoryFolder:
    """One small file a camera. A camera with another address is another camera.

    Args:
        folder: Where the files are; made when first needed.
        clock: Time.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._saved_s: dict[str, float] = {}
        for path in folder.glob("*.npz"):  # of cameras that are no more
            if clock.utc().timestamp() - path.stat().st_mtime > KEEP.total_seconds():
                path.unlink(missing_ok=True)

    def read(self, camera: CameraConfig) -> FloatArray | None:
        """`[n]` float32 as it was written; None if there is none, or it is too old, or not readable."""
        try:
            with np.load(self._path(camera), allow_pickle=False) as stored:
                history, saved_s, source = stored["history"], float(stored["saved_s"]), str(stored["source"])
        except (OSError, ValueError, KeyError, EOFError):
            return None
        age_s = self._clock.utc().timestamp() - saved_s
        usable = source == _source(camera) and 0 <= age_s <= KEEP.total_seconds() and np.isfinite(history).all()
        return history.astype(np.float32) if usable and history.ndim == 1 else None

    def due(self, camera: CameraConfig) -> bool:
        """Whether it is time to write the camera's history again; the first time is a while after its first frames."""
        now_s = self._clock.monotonic_s()
        return now_s - self._saved_s.setdefault(camera.id, now_s) >= SAVE_EVERY_S

    def write(self, camera: CameraConfig, history: FloatArray) -> None:
        """Keep `[n]` float32.

        Raises:
            OSError: The folder can't be written to.
        """
        self._saved_s[camera.id] = self._clock.monotonic_s()
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(camera)
        partial = path.with_name(f".{path.name}.{os.getpid()}.npz")
        saved_s = self._clock.utc().timestamp()
        np.savez(partial, history=history.astype(np.float32), saved_s=saved_s, source=_source(camera))
        partial.replace(path)

    def _path(self, camera: CameraConfig) -> Path:
        return self._folder / f"{camera.id}.npz"


def _source(camera: CameraConfig) -> str:
    return hashlib.sha256(camera.redacted_url.encode()).hexdigest()[:16]


__all__ = ["KEEP", "SAVE_EVERY_S", "HistoryFolder"]
