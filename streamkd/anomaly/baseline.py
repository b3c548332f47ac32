"""The first normality model: how much the busiest cell moves, against the camera's own history."""

from __future__ import annotations

from streamkd.anomaly.base import Normality
from streamkd.anomaly.motion import MotionScore
from streamkd.anomaly.threshold import BlockThreshold
from streamkd.types import FloatArray, UInt8Array

LEAST_MOTION = 2.0  # grey levels; on a still picture, coding noise stays below this and is never unusual

STEEPNESS = 4


class MotionBaseline:
    """`NormalityModel` of the motion score; see `streamkd.anomaly.motion` and `streamkd.anomaly.threshold`.

    Args:
        warmup_s: Watched time before it has a score.
        false_alarms_per_day: Aim of its threshold.
    """

    def __init__(self, warmup_s: float, false_alarms_per_day: float) -> None:
        self._motion = MotionScore()
        self._threshold = BlockThreshold(warmup_s, false_alarms_per_day)

    def update(self, grey: UInt8Array, pts_s: float, *, frozen: bool) -> Normality:
        """Judge a frame, then learn from it unless `frozen`."""
        raw = self._motion.add(grey)
        limit, certified = self._threshold.value, self._threshold.certified
        if frozen:
            self._threshold.forget_recent()
        else:
            self._threshold.learn(raw, pts_s)
        return Normality(raw, None if limit is None else relative_score(raw, limit), certified)

    def begin_segment(self) -> None:
        """Forget the previous frame, keep the history."""
        self._motion.clear()
        self._threshold.break_off()

    def history(self) -> FloatArray:
        """The largest motion of each block, `[n]` float32."""
        return self._threshold.history()

    def restore(self, history: FloatArray) -> None:
        """Begin with the blocks of an earlier life."""
        self._threshold.restore(history)


def relative_score(raw: float, limit: float) -> float:
    """`raw^4 / (raw^4 + limit^4)`: 0 for no motion, 0.5 at the threshold, 0.94 at twice the threshold.

    The power makes hysteresis fit: what is usual, four fifths of the threshold and less, lies below 0.3, where an
    event ends by default.
    """
    odds: float = (raw / max(limit, LEAST_MOTION)) ** STEEPNESS
    return odds / (1.0 + odds)


__all__ = ["LEAST_MOTION", "STEEPNESS", "MotionBaseline", "relative_score"]
