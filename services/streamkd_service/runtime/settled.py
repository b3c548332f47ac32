"""Keeping Python's cyclic collector from looking through half a million objects that stay for good."""

from __future__ import annotations

import gc


def settle() -> None:
    """Call once, when a process has loaded what it keeps.

    A full collection walks over every object there is, modules and classes included: about 0.1 s in the API's and the
    Controller's processes, now and then in the middle of an answer. What exists now is left out of later ones.
    """
    gc.collect()
    gc.freeze()


__all__ = ["settle"]
