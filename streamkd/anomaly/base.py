"""What the live path asks of a camera's normality model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from streamkd.types import FloatArray, UInt8Array


@dataclass(frozen=True, slots=True)
class Normality:
    """How unusual one frame is for its camera.

    Attributes:
        raw: The model's own unit, rising with unusualness; comparable over time on one camera.
        score: 0..1, 0.5 at the camera's own threshold; None while its history is too short for one.
        certified: The threshold keeps its false-alarm budget on exchangeable footage; else it is a guess.
    """

    raw: float
    score: float | None
    certified: bool = False


class NormalityModel(Protocol):
    """One camera's normality, learnt on line, bounded in memory."""

    def update(self, grey: UInt8Array, pts_s: float, *, frozen: bool) -> Normality:
        """Judge a frame, then learn from it.

        Args:
            grey: `[240, 360]` uint8.
            pts_s: Later than all frames of the segment before.
            frozen: An anomaly event is open: judge, but do not learn; what led to it is not learnt either.
        """
        ...

    def begin_segment(self) -> None:
        """The next frame does not follow the last one; what was learnt is kept."""
        ...

    def history(self) -> FloatArray:
        """What was learnt, `[n]` float32, oldest first."""
        ...

    def restore(self, history: FloatArray) -> None:
        """Begin with what was learnt earlier, as `history` gave it."""
        ...


__all__ = ["Normality", "NormalityModel"]
