"""Loads and warms a model beside the one that answers, without holding anything up."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import structlog

from streamkd.engine import open_engine
from streamkd.errors import StreamkdError

if TYPE_CHECKING:
    from pathlib import Path

    from streamkd.clock import Clock
    from streamkd.config import StudentConfig
    from streamkd.engine import InferenceEngine

_AGAIN_AFTER_S = 30.0
_log = structlog.get_logger(__name__)


class StudentLoader:
    """Loads the wanted version in the background; at most one at a time, so at most one extra model is in memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wanted = ""
        self._taken = ""
        self._loaded: InferenceEngine | None = None
        self._thread: threading.Thread | None = None
        self._not_before_s: dict[str, float] = {}

    def want(self, version: str, path: Path, student: StudentConfig) -> None:
        """Say which version shall answer; cheap to repeat."""
        self._wanted = version
        busy = self._thread is not None and self._thread.is_alive()
        if self._loaded is not None and self._loaded.version != version:
            self._loaded = None  # wanted no more: it must not stay in memory
        have = version == self._taken or (self._loaded is not None and self._loaded.version == version)
        if busy or have or self._clock.monotonic_s() < self._not_before_s.get(version, 0.0):
            return
        self._thread = threading.Thread(
            target=self._load, args=(version, path, student), name="student-loader", daemon=True
        )
        self._thread.start()

    def take(self) -> InferenceEngine | None:
        """The wanted version's engine, warm, once it is there; each is given once."""
        engine = self._loaded
        if engine is None or engine.version != self._wanted:
            return None
        self._loaded = None
        self._taken = engine.version
        return engine

    def refuse(self, version: str) -> None:
        """Whoever took it can't use it; it is tried again later."""
        self._taken = ""
        self._not_before_s[version] = self._clock.monotonic_s() + _AGAIN_AFTER_S

    def _load(self, version: str, path: Path, student: StudentConfig) -> None:
        try:
            engine = open_engine(path, device=student.device, threads=student.threads)
            engine.warm()
        except (StreamkdError, RuntimeError, OSError) as error:
            _log.error("model not loaded", version=version, reason=str(error))
            self._not_before_s[version] = self._clock.monotonic_s() + _AGAIN_AFTER_S
            return
        if engine.version != version:
            _log.error("bundle holds another version", wanted=version, found=engine.version)
            self._not_before_s[version] = self._clock.monotonic_s() + _AGAIN_AFTER_S
            return
        self._loaded = engine


__all__ = ["StudentLoader"]
