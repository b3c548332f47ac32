"""When a frame was, in UTC: a live camera's by the clock, a recording's by its PTS."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

from streamkd.clock import Clock
from streamkd.types import Frame

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TimeBase(Protocol):
    def utc_of(self, frame: Frame) -> datetime:
        """UTC at which what the frame shows happened, as well as it is known."""
        ...


class LiveTime:
    """A frame of a live camera happened when its packet arrived."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def utc_of(self, frame: Frame) -> datetime:
        """Now, less the frame's age."""
        return self._clock.utc() - timedelta(seconds=self._clock.monotonic_s() - frame.received_s)


class RecordingTime:
    """A frame of a recording happened so long after the recording's start: the same at every replay.

    Its frames carry that time in `received_s`: PTS begin anew with every segment.
    """

    def __init__(self, start: datetime = EPOCH) -> None:
        self._start = start

    def utc_of(self, frame: Frame) -> datetime:
        """The start plus the frame's time in the recording."""
        return self._start + timedelta(seconds=frame.received_s)


__all__ = ["EPOCH", "LiveTime", "RecordingTime", "TimeBase"]
