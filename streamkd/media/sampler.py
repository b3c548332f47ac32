"""Which frames are due; one rule for files and live cameras, so that a recording replays as it was analysed."""

from __future__ import annotations

DUE_SLACK_S = 1e-6  # PTS are rationals rounded to doubles


class DueGrid:
    """Which frames are due: a grid of `1 / rate_hz` anchored at the first frame, missed slots are skipped.

    A camera that is slower than the grid has every frame due; one whose rate is no multiple of it keeps the grid's
    average rate, because the grid does not move to the frame that was late.
    """

    def __init__(self, rate_hz: float) -> None:
        if rate_hz <= 0:
            raise ValueError(f"rate_hz must be positive, not {rate_hz}")
        self._period_s = 1.0 / rate_hz
        self._next_s: float | None = None

    @property
    def next_s(self) -> float | None:
        """When the next frame is due; None: the next one is, whenever it comes."""
        return self._next_s

    def due(self, pts_s: float) -> bool:
        """Whether the frame at `pts_s` is to be analysed; if so, the grid moves on."""
        if self._next_s is None:
            self._next_s = pts_s + self._period_s
            return True
        if pts_s < self._next_s - DUE_SLACK_S:
            return False
        missed = int((pts_s + DUE_SLACK_S - self._next_s) // self._period_s)
        self._next_s += (missed + 1) * self._period_s
        return True


class Sampler:
    """A `DueGrid` for each segment: every segment's first frame is due."""

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._segment: int | None = None
        self._grid = DueGrid(rate_hz)

    @property
    def next_s(self) -> float | None:
        """When the next frame of the present segment is due; None: the next one is."""
        return self._grid.next_s

    def set_rate(self, rate_hz: float) -> None:
        """Another rate from the next frame on, which is due."""
        self._rate_hz, self._grid = rate_hz, DueGrid(rate_hz)

    def restart(self) -> None:
        """The next frame is due, and the grid begins with it."""
        self._grid = DueGrid(self._rate_hz)

    def due(self, segment: int, pts_s: float) -> bool:
        """Whether the frame at `pts_s` of `segment` is to be analysed."""
        if segment != self._segment:
            self._segment, self._grid = segment, DueGrid(self._rate_hz)
        return self._grid.due(pts_s)


__all__ = ["DUE_SLACK_S", "DueGrid", "Sampler"]
