"""Cumulative histograms that a worker fills and the metrics page shows; the bounds are the same everywhere."""

from __future__ import annotations

import threading
from bisect import bisect_left
from itertools import accumulate
from math import inf, isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

from streamkd_service.runtime.ports import HistogramTotals

# One millisecond is a small student alone, 500 ms the age at which frames are dropped, 5 s a machine in distress.
LATENCY_BOUNDS_MS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, inf)
BATCH_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, inf)


class Histogram:
    """Counts observations by size; any thread may observe or read.

    Args:
        bounds: Upper bounds, inclusive and strictly rising; +inf is added if it is missing.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds) if bounds and bounds[-1] == inf else (*bounds, inf)
        if any(low >= high for low, high in zip(self._bounds, self._bounds[1:], strict=False)):
            raise ValueError(f"bounds must rise: {self._bounds}")
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, value: float, times: int = 1) -> None:
        """Count `value`; what is not finite is ignored, because one NaN would spoil the sum for ever."""
        if not isfinite(value):
            return
        index = bisect_left(self._bounds, value)
        with self._lock:
            self._counts[index] += times
            self._sum += value * times

    def totals(self) -> HistogramTotals:
        """Everything observed so far."""
        with self._lock:
            counts, total = tuple(self._counts), self._sum
        return HistogramTotals(self._bounds, tuple(accumulate(counts)), total)


__all__ = ["BATCH_BOUNDS", "LATENCY_BOUNDS_MS", "Histogram"]
