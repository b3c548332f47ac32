"""One slot a camera between its reader and the engine: the newest frame wins, what it replaces is counted.

Frames that are caught up on (`Frame.caught_up`) are not replaced: they queue in front of the newest, so many at most.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from streamkd.types import Frame

MOST_WAITING = 32


@dataclass(frozen=True, slots=True)
class MailboxCounts:
    """What happened to a camera's frames: `put == taken + superseded + discarded + pending`, always."""

    put: int = 0
    taken: int = 0
    superseded: int = 0  # a newer frame took the slot
    discarded: int = 0  # still there when the mailbox was removed
    pending: int = 0  # 0 or 1, and frames that are caught up on


@dataclass(slots=True)
class _Slot:
    waiting: deque[Frame] = field(default_factory=deque)  # oldest first; only the last may not be caught up on
    put: int = 0
    taken: int = 0
    superseded: int = 0
    discarded: int = 0
    segment: int = -1  # of the newest frame ever put


class MailboxSet:
    """The mailboxes of all cameras of a worker, behind one condition: one engine loop waits for any of them.

    Any thread may call anything.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._slots: dict[str, _Slot] = {}
        self._full = 0
        self._wanted: int | None = 1  # so many frames end the present wait
        self._without: Collection[str] = ()  # not counting those of these cameras
        self._woken = False

    def put(self, frame: Frame) -> Frame | None:
        """Leave a frame for the engine; returns the one that it replaces, which is counted as superseded."""
        with self._changed:
            slot = self._slots.setdefault(frame.camera_id, _Slot())
            slot.put += 1
            slot.segment = max(slot.segment, frame.segment)
            replaced = None
            if slot.waiting and not slot.waiting[-1].caught_up:
                replaced = slot.waiting.pop()
            elif len(slot.waiting) >= MOST_WAITING:
                replaced = slot.waiting.popleft()
            if replaced is not None:
                slot.superseded += 1
            elif not slot.waiting:
                self._full += 1
            slot.waiting.append(frame)
            if self._is_enough():
                self._changed.notify()
            return replaced

    def wait(self, timeout_s: float) -> bool:
        """Wait for a frame of any camera, or `wake`; returns whether there is a frame."""
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while not self._full and not self._woken:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    break
                self._changed.wait(left_s)
            self._woken = False
            return self._full > 0

    def gather(self, timeout_s: float, wanted: int | None, without: Collection[str] = ()) -> None:
        """Wait until frames of `wanted` cameras need the network; None: the whole time. `wake` does not end it.

        Args:
            timeout_s: At most so long.
            wanted: See above.
            without: Cameras whose frames are not for the next `collect`.
        """
        with self._changed:
            self._wanted, self._without = wanted, without
            self._changed.wait_for(self._is_enough, timeout_s)
            self._wanted, self._without = 1, ()

    def _is_enough(self) -> bool:
        if self._wanted is None or self._full < self._wanted:
            return False
        if self._wanted == 1 and not self._without:
            return True
        return sum(_needs_network(slot) for slot in self._waiting(self._without)) >= self._wanted

    def _waiting(self, without: Collection[str]) -> list[_Slot]:
        return [slot for name, slot in self._slots.items() if slot.waiting and name not in without]

    def oldest_s(self, without: Collection[str] = ()) -> float | None:
        """When the frame that has waited longest was received, not counting some cameras'; None if none waits."""
        with self._changed:
            return min((slot.waiting[0].received_s for slot in self._waiting(without)), default=None)

    def wake(self) -> None:
        """End the present (or the next) `wait` now."""
        with self._changed:
            self._woken = True
            self._changed.notify()

    def collect(self, most: int | None = None, without: Collection[str] = ()) -> list[Frame]:
        """Take the oldest waiting frame of every camera that has one, the one that has waited longest first.

        Args:
            most: Frames that need the network; what came later than these stays where it is. None: all.
            without: Cameras whose frames stay where they are.
        """
        with self._changed:
            frames = []
            for slot in sorted(self._waiting(without), key=lambda slot: slot.waiting[0].received_s):
                if most is not None:
                    most -= _needs_network(slot)
                    if most < 0:
                        break
                frames.append(slot.waiting.popleft())
                slot.taken += 1
                self._full -= not slot.waiting
        return frames

    def take(self, timeout_s: float) -> list[Frame]:
        """`wait`, then `collect`."""
        return self.collect() if self.wait(timeout_s) else []

    def remove(self, camera_id: str) -> None:
        """Throw away a camera's waiting frames; its counts stay, because counts never fall."""
        with self._changed:
            slot = self._slots.get(camera_id)
            if slot is not None and slot.waiting:
                slot.discarded += len(slot.waiting)
                slot.waiting.clear()
                self._full -= 1

    def next_segment(self, camera_id: str) -> int:
        """The first segment that a new reader of a camera may use, so that segments are unique in a worker's life."""
        with self._changed:
            slot = self._slots.get(camera_id)
            return 0 if slot is None else slot.segment + 1

    def counts(self, camera_id: str) -> MailboxCounts:
        """What happened to a camera's frames so far."""
        with self._changed:
            slot = self._slots.get(camera_id)
            if slot is None:
                return MailboxCounts()
            return MailboxCounts(slot.put, slot.taken, slot.superseded, slot.discarded, len(slot.waiting))


def _needs_network(slot: _Slot) -> bool:
    """Whether the next frame shows something new; see `Frame.same_as_s`."""
    return slot.waiting[0].same_as_s is None


__all__ = ["MOST_WAITING", "MailboxCounts", "MailboxSet"]
