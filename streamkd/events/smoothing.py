"""The causal mean that turns flickering scores into steady ones."""

from __future__ import annotations

from collections import deque

import numpy as np

from streamkd.types import FloatArray

_SLACK_S = 1e-6  # PTS are rationals rounded to doubles


class CausalMean:
    """Mean of what was added in the last `window_s` seconds of PTS, fewer at the start; a window of 0 keeps only now.

    The window is open at its far end: at 5 Hz, 1 s holds five values.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._kept: deque[tuple[float, FloatArray]] = deque()

    def add(self, pts_s: float, values: FloatArray) -> FloatArray:
        """Add `values` `[C]` seen at `pts_s`, later than all before; returns the mean `[C]`."""
        self._kept.append((pts_s, values))
        oldest_s = pts_s - self._window_s + _SLACK_S
        while len(self._kept) > 1 and self._kept[0][0] <= oldest_s:
            self._kept.popleft()
        # Summed afresh: a running sum would carry rounding errors for months.
        total: FloatArray = np.add.reduce([entry for _, entry in self._kept]) / np.float32(len(self._kept))
        return total

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()

    def rename(self, before: tuple[str, ...], after: tuple[str, ...]) -> None:
        """Reorder what is kept from the classes `before` to the classes `after`; a class that is new has seen 0."""
        if before == after:
            return
        index = [before.index(name) if name in before else -1 for name in after]
        self._kept = deque(
            (pts_s, np.array([values[i] if i >= 0 else 0.0 for i in index], np.float32)) for pts_s, values in self._kept
        )


__all__ = ["CausalMean"]
