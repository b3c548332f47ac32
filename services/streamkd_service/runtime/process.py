"""What a worker process sets for itself before its threads start: memory, and the interpreter's lock."""

from __future__ import annotations

import ctypes
import sys

_M_ARENA_MAX = -8  # of glibc's malloc.h
_ARENAS = 2
_SWITCH_INTERVAL_S = 0.03


def prepare_process() -> None:
    """Settings for many threads that read and one that analyses."""
    _share_arenas()
    # Whoever waits for the lock wakes up once an interval to ask for it, and dozens of readers wait. None holds it for
    # long: 5 ms, Python's own, cost 8 % more CPU with 100 still cameras, and 13 to 30 % of the frames of 46 moving
    # ones on a full machine; with 100 ms the loop waits too long for the few that do.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)


def _share_arenas() -> None:
    """Let all threads take memory from a few arenas.

    glibc gives up to eight arenas a core to threads. A reader thread a camera would fill every one with pictures, and
    what one camera gives back could not be used for another.

    Other C libraries than glibc are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)


__all__ = ["prepare_process"]
