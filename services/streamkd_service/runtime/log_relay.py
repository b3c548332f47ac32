"""The actors' log lines on the service's own standard error.

Ray keeps what its processes print in files of the session, which are deleted with it, and can only forward them with a
prefix that no JSON log survives. So the actors of a local session append to one file, and the driver copies it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, TextIO

from streamkd_service.logs import set_up_logs

if TYPE_CHECKING:
    from pathlib import Path

    from streamkd.config import LogConfig

_EVERY_S = 0.2
_TRUNCATE_BYTES = 4 * 2**20


def log_to(config: LogConfig, path: Path | None) -> None:
    """Set up the logs of an actor's process; without a path they stay in the session's files."""
    # Append mode: every line is one write at the file's end, whoever else writes, also after it was truncated.
    stream: TextIO | None = None if path is None else path.open("a", encoding="utf-8", buffering=1)
    set_up_logs(config, stream=stream)


class LogRelay:
    """Copies what is appended to a file, on a thread of its own.

    Args:
        path: The file; created.
        stream: Where the lines go.
    """

    def __init__(self, path: Path, stream: TextIO | None = None) -> None:
        self._path = path
        self._stream = stream or sys.stderr
        self._ended = threading.Event()
        path.touch()
        self._thread = threading.Thread(target=self._run, name="log-relay", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Copy what is left and end."""
        self._ended.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        with (
            contextlib.suppress(OSError, ValueError),
            self._path.open("r+", encoding="utf-8", errors="replace") as file,
        ):
            while True:
                ended = self._ended.is_set()
                lines = file.read()
                if lines:
                    self._stream.write(lines)
                    self._stream.flush()
                if file.tell() > _TRUNCATE_BYTES:
                    file.seek(0)
                    file.truncate()
                if ended:
                    return
                self._ended.wait(_EVERY_S)


__all__ = ["LogRelay", "log_to"]
