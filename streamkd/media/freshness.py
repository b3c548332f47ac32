"""How old a live frame is when it arrives, and what to do with those that are too old.

After a connection was silent, all that piled up comes at once and looks live. A frame's PTS tells when it was filmed,
on a clock with an unknown origin; the smallest `arrival - PTS` seen is the origin under the fastest delivery seen, and
what arrives later than that is old by the difference. The origin may rise slowly, because clocks of cameras and of
machines drift apart.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from streamkd.errors import SourceError
from streamkd.types import FailureReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from streamkd.media.source import Arrival, DecodedFrame

DRIFT = 5e-4  # a quartz is off by 1e-4 at most; twice that, doubled for safety
LOOSE_DRIFT = 0.05  # of cameras that count frames instead of reading a clock
JUMP_BACK_S = 0.5
_SETTLE_S = 1.0
_HELD = 16
_LAG_S = 5.0
_BLOCKED_SHARE = 0.25  # of the frame interval: reading that waited this long found nothing lying ready


class LaggingError(SourceError):
    """For seconds every frame has been too old, and they do not catch up."""


class ArrivalClock:
    """Age of frames at arrival, in seconds; 0 for the fastest delivery seen.

    Args:
        drift: Seconds a second by which the origin may rise.
    """

    def __init__(self, drift: float = DRIFT) -> None:
        self._drift = drift
        self._offset_s: float | None = None
        self._at_s = 0.0
        self._raw_s = 0.0

    def learn(self, arrived_s: float, raw_pts_s: float) -> None:
        """Take a frame's delivery into account."""
        offset_s = arrived_s - raw_pts_s
        if self._offset_s is None or raw_pts_s < self._raw_s - JUMP_BACK_S:
            self._offset_s = offset_s  # the camera's clock was set back: nothing learnt before holds
        else:
            risen_s = self._offset_s + self._drift * max(0.0, arrived_s - self._at_s)
            self._offset_s = min(offset_s, risen_s)
        self._at_s, self._raw_s = max(self._at_s, arrived_s), raw_pts_s

    def expected_s(self, raw_pts_s: float) -> float | None:
        """When a frame arrives at the earliest; None before anything was learnt."""
        return None if self._offset_s is None else self._offset_s + raw_pts_s

    def age_s(self, arrived_s: float, raw_pts_s: float) -> float:
        """How old a frame is, after `learn`."""
        return 0.0 if self._offset_s is None else max(0.0, arrived_s - raw_pts_s - self._offset_s)


class FreshnessGate:
    """Lets through one connection's frames that are fresh, in order.

    The first pictures of a connection may have been lying ready, and only the first one that reading had to wait for
    says how old they were: until then, a second at most, the gate is not settled, and lets nothing through. Let it see
    pictures before they are decoded (`when_settled`), and none is lost for it.

    Args:
        max_age_s: Older frames are dropped.
        interval_s: Time between the camera's frames, if it says.
        drift: See `ArrivalClock`.
        timed: Whether PTS are the camera's own. Where they are not (Motion JPEG over HTTP), what comes after a silence
            without reading having to wait is taken to be its backlog.
    """

    def __init__(self, max_age_s: float, *, interval_s: float = 0.04, drift: float = DRIFT, timed: bool = True) -> None:
        self._max_age_s = max_age_s
        self._interval_s = interval_s
        self._blocked_s = _BLOCKED_SHARE * interval_s
        self._clock = ArrivalClock(drift)
        self._timed = timed
        self._backlog = False
        self._first_s: float | None = None  # arrival of the first picture
        self._learnt_s = float("-inf")  # arrival of the last picture that was seen before it was decoded
        self._first_pts_s: float | None = None  # of these pictures, the first that has one
        self.settled = False
        self._late_since: tuple[float, float] | None = (
            None  # (time, age) of the first of the latest run of stale frames
        )
        self.stale = 0

    def expected_s(self, raw_pts_s: float) -> float | None:
        """When a frame arrives at the earliest; None where that is not known."""
        return self._clock.expected_s(raw_pts_s) if self._timed and self.settled else None

    def settle(self, arrival: Arrival) -> None:
        """Take the delivery of a picture into account that is not decoded yet; as long as it is not `settled`."""
        if arrival.pts_s is not None:
            self._clock.learn(arrival.arrived_s, arrival.pts_s)
            if self._first_pts_s is None:
                self._first_pts_s = arrival.pts_s
        self._learnt_s = arrival.arrived_s
        if self._first_s is None:
            self._first_s = arrival.arrived_s
        else:
            waited = arrival.waited_s >= self._blocked_s
            self.settled = waited or arrival.arrived_s - self._first_s >= _SETTLE_S

    def push(self, frame: DecodedFrame) -> list[DecodedFrame]:
        """The frame, if it is fresh: `arrived_s` less what it was late by.

        Raises:
            LaggingError: For seconds every frame has been too old, and they do not catch up; connect again.
        """
        if not self.settled:
            self.stale += 1
            return []
        if not self._timed:
            return [frame] if self._fresh_untimed(frame) else []
        age_s = self._age_s(frame)
        # What it was late by belongs to its age, for whoever looks at it next.
        return [replace(frame, arrived_s=frame.arrived_s - age_s)] if self._in_time(frame, age_s) else []

    def _age_s(self, frame: DecodedFrame) -> float:
        pts_s, is_new = frame.raw_pts_s, frame.arrived_s > self._learnt_s
        if pts_s is None:
            if is_new or self._first_pts_s is None:
                return 0.0  # nothing is known; such frames are few, and between others
            # Over RTSP a connection's first picture often has none: it is older than the one after it.
            pts_s = self._first_pts_s - self._interval_s
        elif is_new:
            self._clock.learn(frame.arrived_s, pts_s)
        return self._clock.age_s(frame.arrived_s, pts_s)

    def _in_time(self, frame: DecodedFrame, age_s: float) -> bool:
        if age_s <= self._max_age_s:
            self._late_since = None
            return True
        self.stale += 1
        if self._late_since is None:
            self._late_since = (frame.arrived_s, age_s)
        since_s, first_age_s = self._late_since
        if frame.arrived_s - since_s > _LAG_S:
            if age_s > 0.9 * first_age_s:
                raise LaggingError(
                    f"Frames come {age_s:.1f} s late and do not catch up.",
                    hint="Lower the camera's bitrate, or the load of this machine.",
                    reason=FailureReason.TIMEOUT,
                )
            self._late_since = (frame.arrived_s, age_s)
        return False

    def _fresh_untimed(self, frame: DecodedFrame) -> bool:
        if frame.waited_s > self._max_age_s:
            self._backlog = True  # of this silence; the frame that ended it was the first to be stuck in it
        elif frame.waited_s >= self._blocked_s:
            self._backlog = False
        self.stale += self._backlog
        return not self._backlog


def when_settled(arrivals: Iterable[Arrival], gate: FreshnessGate) -> Iterator[Arrival]:
    """A connection's pictures, held back until the gate is settled.

    They wait while they are compressed: decoded, they would be up to 17 pictures that each camera's decoder keeps
    memory for as long as it is connected. Of more than that the oldest go on, to be decoded and dropped.
    """
    held: deque[Arrival] = deque()
    for arrival in arrivals:
        if gate.settled:
            yield arrival
            continue
        gate.settle(arrival)
        held.append(arrival)
        while held and (gate.settled or len(held) > _HELD):
            yield held.popleft()


__all__ = ["DRIFT", "LOOSE_DRIFT", "ArrivalClock", "FreshnessGate", "LaggingError", "when_settled"]
