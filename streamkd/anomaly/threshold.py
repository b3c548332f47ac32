"""A camera's anomaly threshold, from its own history and an aim of false alarms a day.

History is kept as the largest score of each block of 5 s: frames of one block depend on each other, blocks much less.
With `p = aim * 5 s / 1 day`, a block should exceed the threshold with probability at most `p`:

- With at least `1 / p - 1` blocks, the threshold is the k-th largest of them, `k = floor(p * (n + 1))`. If the blocks
  and the next one are exchangeable, the next one exceeds it with probability at most `k / (n + 1) <= p` (the conformal
  rank; Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005).
- Below that no finite threshold is certified. Until then the tail above the 80 % quantile is continued as an
  exponential one, `u + b * log(0.2 / p)`, with the mean excess `b` raised by `1 + 1 / sqrt(m)` for m excesses, and
  never below 1.25 times the largest block seen. That is a guess about the tail, meant to err on the quiet side, no
  guarantee.

Neither is worth more than its assumption: a day differs from the night before it.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from streamkd.types import FloatArray

BLOCK_S = 5.0
KEEP_BLOCKS = 17_280  # a day that was watched throughout
MIN_BLOCKS = 4
TAIL_SHARE = 0.2
HEADROOM = 1.25  # of n blocks, the next one exceeds the largest with probability 1 / (n + 1): far too often at first
_DAY_S = 86_400.0


def block_threshold(maxima: np.ndarray, false_alarms_per_day: float) -> tuple[float, bool]:
    """The threshold for block maxima `[n]`, and whether it is the conformal one; see the module."""
    p = min(false_alarms_per_day * BLOCK_S / _DAY_S, 0.5)
    count = len(maxima)
    rank = math.floor(p * (count + 1))
    if rank >= 1:
        return float(np.partition(maxima, count - rank)[count - rank]), True
    tail_from = float(np.quantile(maxima, 1.0 - TAIL_SHARE))
    excesses = maxima[maxima > tail_from] - tail_from
    least = HEADROOM * float(maxima.max())
    if not len(excesses):
        return least, False
    mean_excess = float(excesses.mean()) * (1.0 + 1.0 / math.sqrt(len(excesses)))
    return max(least, tail_from + mean_excess * math.log(TAIL_SHARE / min(p, TAIL_SHARE))), False


class BlockThreshold:
    """Collects scores into blocks and keeps a threshold; bounded memory, one estimate a block.

    A block counts only after the one that follows it: what led up to an event must not be learnt as normal.

    Args:
        warmup_s: Watched time before there is a threshold.
        false_alarms_per_day: The aim.
    """

    def __init__(self, warmup_s: float, false_alarms_per_day: float) -> None:
        self._needed = max(MIN_BLOCKS, math.ceil(warmup_s / BLOCK_S))
        self._aim = false_alarms_per_day
        self._maxima: deque[float] = deque(maxlen=KEEP_BLOCKS)
        self._pending: float | None = None
        self._largest = 0.0
        self._began_s: float | None = None
        self.value: float | None = None
        self.certified = False

    def learn(self, score: float, pts_s: float) -> None:
        """Take the score of a frame of normal footage."""
        if self._began_s is None:
            self._began_s, self._largest = pts_s, score
        elif pts_s - self._began_s < BLOCK_S:
            self._largest = max(self._largest, score)
        else:
            self._finish_block()
            self._began_s, self._largest = pts_s, score

    def forget_recent(self) -> None:
        """Drop the block that is being collected and the one before it."""
        self._pending = None
        self._began_s = None

    def break_off(self) -> None:
        """The next frame does not follow the last one: drop the block that is being collected."""
        self._began_s = None

    def history(self) -> FloatArray:
        """The blocks that count, `[n]` float32, oldest first."""
        return np.array(self._maxima, dtype=np.float32)

    def restore(self, history: FloatArray) -> None:
        """Begin with blocks of an earlier life, as `history` gave them."""
        self._maxima.clear()
        self._maxima.extend(history.astype(float).tolist())
        self._estimate()

    def _finish_block(self) -> None:
        if self._pending is not None:
            self._maxima.append(self._pending)
            self._estimate()
        self._pending = self._largest

    def _estimate(self) -> None:
        if len(self._maxima) >= self._needed:
            self.value, self.certified = block_threshold(np.array(self._maxima), self._aim)


__all__ = ["BLOCK_S", "KEEP_BLOCKS", "MIN_BLOCKS", "BlockThreshold", "block_threshold"]
