"""Waiting in benchmarks: for a condition, with an end; and for measured time to pass, which is no waiting at all."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOK_EVERY_S = 0.05
_NEVER = threading.Event()


def wait_until(condition: Callable[[], bool], timeout_s: float, *, every_s: float = _LOOK_EVERY_S) -> bool:
    """Ask until the condition holds, or time is up; returns whether it holds."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline_s:
            return False
        _NEVER.wait(every_s)
    return True


def pass_time(until_s: float) -> None:
    """Let the time up to a moment of the monotonic clock pass: the stretch is what is measured, or its pace."""
    _NEVER.wait(max(0.0, until_s - time.monotonic()))


__all__ = ["pass_time", "wait_until"]
