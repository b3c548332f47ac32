"""Overload as a mode: rates are lowered, fairly and by priority, before frames come too late. A pure decision.

A camera has one of four paces: everything, half of it, a quarter, keyframes only (`streamkd.media.pace` says half of
what). Under pressure, cameras of the lowest priority go down a pace each in turn, all of them to the last before the
next priority is touched; when there is room again they come back the other way round, slower than they went.

Whether there is room for more is only known once it was tried. So rates come back a little at a time, then twice as
much at a time and a little sooner for as long as that goes well; each time that it was too much, the next try is small
again, and comes twice as late.
"""

from __future__ import annotations

from collections import defaultdict, deque
from math import ceil
from typing import TYPE_CHECKING

from streamkd.media.pace import KEYFRAMES_PACE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SLOWEST = KEYFRAMES_PACE  # at pace p below that 1 / 2 ** p of what is due is analysed
_HIGH, _LOW = 0.8, 0.7  # p95 latency as a share of the limit beyond which frames are dropped
_LASTING_S = 2.5  # of pressure; longer than the span it is measured over, in which one hiccup shows all the time
_CALM_S, _LONGEST_CALM_S = 3.0, 60.0  # without pressure before anything comes back
_SOONER = 0.7
_TRIED_S = 6.0  # pressure so soon after a rise is the rise's fault
# Of all paces, at a time. Down: at the limit of what is bearable, and at most; it grows with the pressure in between.
_LEAST_DOWN_SHARE, _MOST_DOWN_SHARE, _DOWN_BY_PRESSURE = 0.03, 0.3, 0.5
_UP_SHARE, _MOST_UP_SHARE = 0.04, 0.16
_LOST_SPAN_S, _LOST_SPANS = 2.0, 3
_LOST_FLOOR, _BY_LOST = 0.6, 2.0  # a tenth of the due frames lost is as bad as `_HIGH`, a twentieth as `_LOW`


class Losses:
    """How much of what was due is being lost, as pressure: the least of the last three spans of two seconds.

    A frame that a newer one replaces, or that was too old when it came to be decoded, leaves no latency behind: where
    that is what goes wrong, latencies of the others look well. But a burst of some seconds is over before lower rates
    would help, and then they cost more than it did; and what was lost before rates were lowered must not lower them
    again. So only what goes on counts.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float, float]] = deque()  # when, due so far, lost so far

    def pressure(self, due: float, lost: float, now_s: float) -> float:
        """See `Governor.step`; 0 where a span passed without losses, 2.6 where everything was lost in each.

        Args:
            due: Frames that were due so far, those that were lost among them. Where cameras go it may fall.
            lost: Of these, so many.
            now_s: Monotonic time.
        """
        if self._seen and (due < self._seen[-1][1] or lost < self._seen[-1][2]):
            self._seen.clear()
        self._seen.append((now_s, due, lost))
        while len(self._seen) > 1 and now_s - self._seen[1][0] >= _LOST_SPANS * _LOST_SPAN_S:
            self._seen.popleft()
        least = min(self._shares(now_s), default=0.0)
        return _LOST_FLOOR + _BY_LOST * min(1.0, least) if least > 0.0 else 0.0

    def _shares(self, now_s: float) -> Iterator[float]:
        """What was lost in each span, of what was due; none before there are as many."""
        if now_s - self._seen[0][0] < _LOST_SPANS * _LOST_SPAN_S:
            return
        later, span = self._seen[-1], 1
        for seen in reversed(self._seen):
            if now_s - seen[0] >= span * _LOST_SPAN_S:
                yield (later[2] - seen[2]) / max(1.0, later[1] - seen[1])
                later, span = seen, span + 1


class Governor:
    """Decides the pace of a worker's cameras."""

    def __init__(self) -> None:
        self._lowered = 0  # paces taken away, all cameras together
        self._changed_s = float("-inf")
        self._pressed_s: float | None = None
        self._high_since_s: float | None = None
        self._raised_s = float("-inf")
        self._calm_s = _CALM_S
        self._up_share = _UP_SHARE
        self._most = 0  # paces that there were to take

    def step(self, pressure: float, priorities: Mapping[str, int], now_s: float) -> dict[str, int]:
        """Judge the present pressure; called a few times a second.

        Args:
            pressure: The p95 latency of the last seconds as a share of the limit, or what `Losses` says if more.
            priorities: Of every camera whose rate may be lowered; a higher one keeps its rate longer. They may be
                others each time: the same share of the paces stays taken.
            now_s: Monotonic time.

        Returns:
            The pace of each of them: 0 is everything, `SLOWEST` keyframes only.
        """
        most = SLOWEST * len(priorities)
        if self._most != most:
            self._lowered = round(self._lowered * most / self._most) if self._most else 0
            self._most = most
        if self._pressed_s is None or pressure > _LOW:
            self._pressed_s = now_s
        if pressure <= _HIGH:
            self._high_since_s = None
        elif self._high_since_s is None:
            self._high_since_s = now_s
        lasting = self._high_since_s is not None and now_s - self._high_since_s >= _LASTING_S
        if lasting:
            # The harder it is pressed the more is let go at once.
            share = min(_MOST_DOWN_SHARE, _LEAST_DOWN_SHARE + _DOWN_BY_PRESSURE * (pressure - _HIGH))
            self._lowered = min(most, self._lowered + ceil(share * most))
            # What was late before the change says nothing of what it did, and is measured for a while yet.
            self._changed_s = self._high_since_s = now_s
            if now_s - self._raised_s <= _TRIED_S:
                self._calm_s, self._raised_s = min(_LONGEST_CALM_S, 2.0 * self._calm_s), float("-inf")
            self._up_share = _UP_SHARE
        elif self._lowered and now_s - max(self._pressed_s, self._changed_s) >= self._calm_s:
            self._lowered = max(0, self._lowered - max(1, round(self._up_share * most)))
            self._up_share = min(_MOST_UP_SHARE, 2.0 * self._up_share)
            if self._raised_s > float("-inf"):  # the rise before this one went well
                self._calm_s = max(_CALM_S, _SOONER * self._calm_s)
            self._changed_s = self._raised_s = now_s
        elif not self._lowered and now_s - max(self._pressed_s, self._changed_s) >= _LONGEST_CALM_S:
            self._calm_s = _CALM_S
        return paces(priorities, self._lowered)


def paces(priorities: Mapping[str, int], lowered: int) -> dict[str, int]:
    """The pace of every camera when so many paces are taken away in all.

    Args:
        priorities: Of every camera.
        lowered: How many; at most `SLOWEST` for each camera.
    """
    found = dict.fromkeys(priorities, 0)
    order = _order(priorities)
    for _ in range(min(lowered, SLOWEST * len(priorities))):
        found[next(order)] += 1
    return found


def _order(priorities: Mapping[str, int]) -> Iterator[str]:
    """Who goes down a pace next."""
    groups: dict[int, list[str]] = defaultdict(list)
    for camera_id, priority in priorities.items():
        groups[priority].append(camera_id)
    for _, cameras in sorted(groups.items()):
        for _ in range(SLOWEST):
            yield from sorted(cameras)


__all__ = ["SLOWEST", "Governor", "Losses", "paces"]
