"""From compressed pictures to due frames: what is decoded when, and what never is.

A picture is needed only when a due one follows it before the next entry. So pictures are held until the due one is
there and then decoded in one go, while caches are warm; what is held when an entry comes is let go. Of a still scene
(`streamkd.media.stillness`) the entry of each group of pictures is analysed, and as many more as keep the last answer
young, the rest is held; where their pixels differ by noise only from what the student saw last, they say so, and its
answer holds. When the scene wakes up, everything since the last analysed frame is decoded and analysed, so that the
student sees how it began.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Protocol

from streamkd.anomaly.motion import largest_cell
from streamkd.media.due import Seen
from streamkd.media.sampler import DUE_SLACK_S
from streamkd.media.stillness import Scene, Stillness

if TYPE_CHECKING:
    from streamkd.media.due import DueFrames
    from streamkd.media.source import Arrival, DecodedFrame
    from streamkd.media.timestamps import Stamp
    from streamkd.types import Frame, UInt8Array

# Of the last answer about a still scene, when the next frame is analysed: so that no answer is older than 2 s when the
# next one comes, which may take 0.2 s longer than the one before.
MAX_AGE_S = 1.8
_OLDEST_S, _SOONEST_S, _SPREAD = 2.0, 1.6, 1.2
_HOLD_PICTURES = 300
_HOLD_BYTES = 8 << 20
_GROUPS = 4  # some cameras put entries where they like: the longest of these says how far apart they may be


class Decoder(Protocol):
    """What a flow needs of a source."""

    @property
    def reorders(self) -> bool: ...

    def decode(self, arrival: Arrival) -> Iterator[DecodedFrame]: ...


@dataclass(slots=True)
class FlowCounts:
    """What was not decoded, or not analysed, on purpose; over all of a camera's connections."""

    unneeded: int = 0  # pictures that were never decoded
    gated: int = 0  # due frames of a still scene that the student did not have to look at when they came
    caught_up: int = 0  # of these, how many were analysed later
    wakes: int = 0


def answer_by_s(analysed_s: float, entry_s: float | None, max_age_s: float) -> float:
    """When a still scene is looked at next, so that no answer grows older than `max_age_s`.

    As early in a group of pictures as will do: everything up to there has to be decoded, and the next entry costs
    nothing more. With an entry every 2 s and answers that may grow 1.8 s old, that is 0.2 s after each entry. Where the
    next entry is close enough (`MAX_AGE_S`), nothing before it is looked at, however young answers shall be by now:
    all of the group would be decoded for it, of every camera at once, just when answers have begun to take long.

    Args:
        analysed_s: PTS of the last analysed frame.
        entry_s: When the next entry is expected; None: not known.
        max_age_s: Of an answer.
    """
    if entry_s is None:
        return analysed_s + max_age_s
    if entry_s <= analysed_s + MAX_AGE_S + DUE_SLACK_S:
        return analysed_s + MAX_AGE_S
    return entry_s - max_age_s * (ceil((entry_s - analysed_s) / max_age_s - DUE_SLACK_S) - 1)


def max_age_s(latency_p95_s: float) -> float:
    """When a still scene is looked at again, so that no answer is 2 s old when the next one is there.

    Args:
        latency_p95_s: How long the slower answers take: the next one may, where the last one did not.
    """
    return min(MAX_AGE_S, max(_SOONEST_S, _OLDEST_S - _SPREAD * latency_p95_s))


class PacketFlow:
    """One connection's flow; used by the reader's thread.

    Args:
        decoder: Decodes what is needed.
        due: Which frames are due.
        fresh: What of the decoded frames is given on: a freshness gate, or a player's pace.
        counts: Goes on counting over connections.
        stillness: None: nothing is skipped for being still.
        keyframes_only: Nothing else is decoded.
        hold: False: everything is decoded at once (recordings that are played in real time).
        max_age_s: Of the last answer about a still scene.
    """

    def __init__(
        self,
        decoder: Decoder,
        due: DueFrames,
        fresh: Callable[[DecodedFrame], Sequence[DecodedFrame]],
        counts: FlowCounts,
        *,
        stillness: Stillness | None = None,
        hold: bool = True,
        keyframes_only: bool = False,
        max_age_s: float = MAX_AGE_S,
    ) -> None:
        self._decoder, self._due, self._fresh, self.counts = decoder, due, fresh, counts
        self._stillness = stillness
        self._hold = hold
        self.keyframes_only = keyframes_only  # may change at any time
        self.group_share = 1.0  # of each group of pictures, from its beginning, what is decoded; may change at any time
        self._whole = True  # nothing that later pictures refer to was left out
        self.max_age_s = max_age_s  # may change at any time
        self._held: list[Arrival] = []
        self._held_bytes = 0
        self._last_s: float | None = None  # PTS of the last picture
        self._analysed_s: float | None = None  # PTS of the last frame that was given on
        self._answered = False  # since the last entry
        self._aligned = False  # the grid of the rate begins with an entry
        self._entry_s: float | None = None  # PTS of the last entry
        self._entries_apart_s: float | None = None  # the last two
        self._groups_s: deque[float] = deque(maxlen=_GROUPS)  # how long the last groups were
        self._longest_s: float | None = None  # of these
        self._look_s: float | None = None  # PTS from which on a still scene is looked at again
        self._seen: Seen | None = None

    @property
    def holds(self) -> bool:
        """Whether the last picture was held on purpose."""
        return bool(self._held)

    @property
    def entries_apart_s(self) -> float | None:
        """How far apart entries are: the furthest of the last few; None: two have not been seen."""
        return self._longest_s

    @property
    def is_still(self) -> bool:
        """Whether the scene is still."""
        return self._stillness is not None and self._stillness.scene is Scene.STILL

    @property
    def quiet_until_s(self) -> float | None:
        """The source's time before which nothing that arrives is needed; None: everything may be."""
        if not self._hold or self._last_s is None:
            return None
        if self.keyframes_only or not self._whole:
            return self._next_entry_s
        if self.is_still and self._answered:
            entry_s, look_s = self._next_entry_s, self._look_s
            if entry_s is None or look_s is None or not self._last_s < entry_s < look_s:
                return look_s
            return entry_s
        return self._due.next_source_s

    def push(self, arrival: Arrival) -> Iterator[Frame]:
        """The frames to analyse now that a picture has arrived; iterate to the end."""
        at_s, last_s = arrival.pts_s, self._last_s
        self._last_s = at_s if at_s is not None else last_s
        was_still = self.is_still
        if not self._hold or self._decoder.reorders or (at_s is not None and last_s is not None and at_s <= last_s):
            at_s = None  # when it is shown can't be told from its place
        if self._stillness is not None and at_s is not None:
            # Sizes are learnt from what is left out, too: a camera that is slowed to keyframes can be found still.
            self._stillness.packet(arrival.size, at_s, keyframe=arrival.packet.is_keyframe)
        if self._leaves_out(arrival):
            return
        if arrival.entry and at_s is not None:
            self._enter(at_s, was_still=was_still)
        if self.keyframes_only and arrival.entry and arrival.pts_s is not None:
            # The grid of the rate may never meet a keyframe: each of them is analysed.
            self._let_go(was_still=False)
            self._take(arrival)
            yield from self._decode(only_last=True)
            return
        if at_s is None:
            self._take(arrival)
            yield from self._decode()
            return
        if self._look_s is None or at_s >= self._look_s:
            self._look_s = at_s + 1.0 / self._due.rate_hz
        self._take(arrival)
        if was_still and not self.is_still:
            self.counts.wakes += 1
            yield from self._decode(woke=True)
        elif self._is_needed(at_s):
            yield from self._decode(only_last=self.is_still)

    def _leaves_out(self, arrival: Arrival) -> bool:
        """Whether the picture is let go at once; then so is everything up to the next entry."""
        if arrival.entry:
            self._whole = True
        if arrival.pts_s is None or arrival.packet.is_keyframe:
            return False
        if self._whole and not self.keyframes_only and not self._is_past_share(arrival.pts_s):
            return False
        for held in self._held:
            self._due.skip(held.pts_s or 0.0)
        self.counts.unneeded += 1 + len(self._held)
        self._held, self._held_bytes, self._whole = [], 0, False
        self._due.skip(arrival.pts_s)
        return True

    def _is_past_share(self, at_s: float) -> bool:
        """Whether a picture comes after the part of its group that is decoded."""
        entry_s, apart_s = self._entry_s, self._longest_s
        if self.group_share >= 1.0 or entry_s is None or apart_s is None or self.is_still:
            return False
        return at_s - entry_s >= self.group_share * apart_s - DUE_SLACK_S

    def _is_needed(self, at_s: float) -> bool:
        if len(self._held) >= _HOLD_PICTURES or self._held_bytes >= _HOLD_BYTES:
            return True
        if self.is_still and self._analysed_s is not None:
            # An entry as soon as it is there, whatever the rate's grid says: what follows costs decoding.
            by_s = self._answer_by_s(self._analysed_s) if self._answered else self._analysed_s + 1.0 / self._due.rate_hz
            return at_s >= by_s - DUE_SLACK_S
        next_s = self._due.next_source_s
        return next_s is None or at_s >= next_s - DUE_SLACK_S

    def _enter(self, at_s: float, *, was_still: bool) -> None:
        """An entry has come."""
        self._let_go(was_still=was_still)
        self._answered = False
        self._entries_apart_s = None if self._entry_s is None else at_s - self._entry_s
        if self._entries_apart_s is not None:
            self._groups_s.append(self._entries_apart_s)
            self._longest_s = max(self._groups_s)
        self._entry_s = at_s
        self._align()

    def _align(self) -> None:
        """Once: let the grid of the rate begin with an entry, not with whatever came first of a connection.

        Where groups of pictures last whole periods of it, the most pictures then come after a group's last due one.
        """
        if not self._aligned and self._analysed_s is not None:
            self._aligned = True
            self._due.restart_grid()

    def _answer_by_s(self, analysed_s: float) -> float:
        return answer_by_s(analysed_s, self._next_entry_s, self.max_age_s)

    @property
    def _next_entry_s(self) -> float | None:
        """When the next entry is expected, from the last two."""
        apart_s, entry_s = self._entries_apart_s, self._entry_s
        return None if apart_s is None or entry_s is None else entry_s + apart_s

    def _take(self, arrival: Arrival) -> None:
        self._held.append(arrival)
        self._held_bytes += arrival.size

    def _let_go(self, *, was_still: bool) -> None:
        """An entry has come: nothing that is held is needed to decode what follows."""
        for arrival in self._held:
            assert arrival.pts_s is not None
            self.counts.unneeded += 1
            self.counts.gated += self._due.skip(arrival.pts_s) and was_still
        self._held, self._held_bytes = [], 0

    def _decode(self, *, woke: bool = False, only_last: bool = False) -> Iterator[Frame]:
        """Decode everything that is held; analyse what of it is due, or its end only."""
        held, self._held, self._held_bytes = self._held, [], 0
        for number, arrival in enumerate(held, 1):
            is_last = number == len(held)
            for decoded in self._decoder.decode(arrival):
                if only_last and not is_last and decoded.raw_pts_s is not None:
                    self.counts.gated += self._due.skip(decoded.raw_pts_s)
                    continue
                for fresh in self._fresh(decoded):
                    due_before = self._due.due
                    frame = self._due.push(fresh, anyway=only_last, recognise=self._recognise)
                    if frame is not None:
                        yield self._analysed(frame, due=self._due.due > due_before, caught_up=woke and not is_last)

    def _analysed(self, frame: Frame, *, due: bool, caught_up: bool) -> Frame:
        self._answered, self._analysed_s = True, frame.source_pts_s
        if caught_up:
            self.counts.gated += 1
            self.counts.caught_up += 1
        if frame.same_as_s is not None:
            self.counts.gated += due
            return frame
        if self._stillness is not None and frame.source_pts_s is not None:
            self._seen = Seen(frame.segment, frame.pts_s, frame.grey, frame.rgb)
        return replace(frame, caught_up=True) if caught_up else frame

    def _recognise(self, decoded: DecodedFrame, stamp: Stamp, grey: UInt8Array) -> Seen | None:
        """What the student saw last, where the frame of a still scene shows nothing else; the watch learns from it."""
        watch, seen = self._stillness, self._seen
        if watch is None or decoded.raw_pts_s is None:
            return None
        was_still = watch.scene is Scene.STILL
        motion = self._motion(grey, watch)
        watch.picture(motion, decoded.raw_pts_s)
        if not was_still or seen is None or seen.segment != stamp.segment:
            return None
        return seen if watch.is_same(motion, stamp.pts_s - seen.pts_s) else None

    def _motion(self, grey: UInt8Array, watch: Stillness) -> float | None:
        """How much moved since what the student saw: None if it saw nothing, infinity where sizes alone say so."""
        seen = self._seen
        if seen is None or seen.grey.shape != grey.shape:
            return None
        return largest_cell(grey, seen.grey) if watch.wants_picture else float("inf")


__all__ = ["MAX_AGE_S", "Decoder", "FlowCounts", "PacketFlow", "answer_by_s", "max_age_s"]
