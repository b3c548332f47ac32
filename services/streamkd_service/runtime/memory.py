"""How a worker process uses its memory."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8  # of glibc's malloc.h
_ARENAS = 2


def share_arenas(arenas: int = _ARENAS) -> bool:
    """Let all threads take memory from a few arenas; to be called before threads are started.

    glibc gives up to eight arenas a core to threads. A reader thread a camera would fill every one with pictures, and
    what one camera gives back could not be used for another.

    Args:
        arenas: At most.

    Returns:
        Whether this C library can.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_ARENA_MAX, arenas))


__all__ = ["share_arenas"]
