"""What a worker process sets for itself: memory, the interpreter's lock, the processors that it stays on."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from streamkd_service.runtime.processors import usable_processors

if TYPE_CHECKING:
    from streamkd_service.runtime.slots import Place

_M_ARENA_MAX = -8  # of glibc's malloc.h
_ARENAS = 2
_SWITCH_INTERVAL_S = 0.03
_THREADS = Path("/proc/self/task")
_ALLOWED = usable_processors()  # before anything was set here


def prepare_process() -> None:
    """Settings for many threads that read and one that analyses."""
    _share_arenas()
    # Whoever waits for the lock wakes up once an interval to ask for it, and dozens of readers wait. None holds it for
    # long: 5 ms, Python's own, cost 8 % more CPU with 100 still cameras, and 13 to 30 % of the frames of 46 moving
    # ones on a full machine; with 100 ms the loop waits too long for the few that do.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)


def stay(place: Place) -> None:
    """Let all threads of this process run where `Place.processors` says; may be said again at any time.

    The decoder of a camera finds its pictures in the processor's own cache, and threads that wait for the interpreter's
    lock need not be woken on another one. Where the processors of this process have changed meanwhile (a container's),
    it stays as it is; so it does on a system that binds no process to processors (macOS).
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    processors = place.processors(_ALLOWED)
    for _ in range(2):  # a thread that was started meanwhile, by one that had not been told yet
        for thread in _THREADS.iterdir():
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(thread.name), processors)


def _share_arenas() -> None:
    """Let all threads take memory from a few arenas.

    glibc gives up to eight arenas a core to threads. A reader thread a camera would fill every one with pictures, and
    what one camera gives back could not be used for another.

    Other C libraries than glibc are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)


__all__ = ["prepare_process", "stay"]
