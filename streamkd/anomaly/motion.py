"""The motion baseline: the largest cell of the mean absolute frame difference. No learning, hard to beat.

On UCSD Ped2 it has a micro AUC of 0.880, causal and without per-clip normalisation; see docs/reference/anomaly.md.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from streamkd.types import UInt8Array

GREY_SHAPE = (240, 360)
CELL = 15  # pixels; 16 x 24 cells
WINDOW_FRAMES = 11
_ROWS, _COLUMNS = GREY_SHAPE[0] // CELL, GREY_SHAPE[1] // CELL


def largest_cell(grey: UInt8Array, before: UInt8Array) -> float:
    """The largest of the 16 x 24 cell means of `|grey - before|`, both `[240, 360]` uint8; 0..255."""
    # max - min is |a - b| without leaving uint8, and a column of 15 such values fits into uint16.
    difference = np.maximum(grey, before) - np.minimum(grey, before)
    columns = difference.reshape(_ROWS, CELL, GREY_SHAPE[1]).sum(axis=1, dtype=np.uint16)
    cells = columns.reshape(_ROWS, _COLUMNS, CELL).sum(axis=2, dtype=np.uint32)
    return float(cells.max()) / (CELL * CELL)


class MotionScore:
    """Causal mean of `largest_cell` over the last 11 frames, fewer at the start of a segment."""

    def __init__(self) -> None:
        self._before: UInt8Array | None = None
        self._window: deque[float] = deque(maxlen=WINDOW_FRAMES)

    def add(self, grey: UInt8Array) -> float:
        """The score of the next frame `[240, 360]` uint8, in grey levels; the first frame of a segment moves by 0."""
        self._window.append(0.0 if self._before is None else largest_cell(grey, self._before))
        self._before = grey
        return sum(self._window) / len(self._window)

    def clear(self) -> None:
        """The next frame does not follow the last one."""
        self._before = None
        self._window.clear()


__all__ = ["CELL", "GREY_SHAPE", "WINDOW_FRAMES", "MotionScore", "largest_cell"]
