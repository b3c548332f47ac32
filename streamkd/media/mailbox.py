"""One slot a camera between its reader and the engine: the newest frame wins, what it replaces is counted."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamkd.types import Frame


@dataclass(frozen=True, slots=True)
class MailboxCounts:
    """What happened to a camera's frames: `put == taken + superseded + discarded + pending`, always."""

    put: int = 0
    taken: int = 0
    superseded: int = 0  # a newer frame took the slot
    discarded: int = 0  # still there when the mailbox was removed
    pending: int = 0  # 0 or 1


@dataclass(slots=True)
class _Slot:
    frame: Frame | None = None
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
        self._woken = False

    def put(self, frame: Frame) -> Frame | None:
        """Leave a frame for the engine; returns the one that it replaces, which is counted as superseded."""
        with self._changed:
            slot = self._slots.setdefault(frame.camera_id, _Slot())
            replaced, slot.frame = slot.frame, frame
            slot.put += 1
            slot.segment = max(slot.segment, frame.segment)
            if replaced is None:
                self._full += 1
                self._changed.notify()
            else:
                slot.superseded += 1
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

    def wake(self) -> None:
        """End the present (or the next) `wait` now."""
        with self._changed:
            self._woken = True
            self._changed.notify()

    def collect(self) -> list[Frame]:
        """Take every waiting frame, at most one of each camera, the one that has waited longest first."""
        with self._changed:
            frames = []
            for slot in self._slots.values():
                if slot.frame is not None:
                    frames.append(slot.frame)
                    slot.frame = None
                    slot.taken += 1
            self._full = 0
        return sorted(frames, key=lambda frame: frame.received_s)

    def take(self, timeout_s: float) -> list[Frame]:
        """`wait`, then `collect`."""
        return self.collect() if self.wait(timeout_s) else []

    def remove(self, camera_id: str) -> None:
        """Throw away a camera's waiting frame; its counts stay, because counts never fall."""
        with self._changed:
            slot = self._slots.get(camera_id)
            if slot is not None and slot.frame is not None:
                slot.frame = None
                slot.discarded += 1
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
            pending = int(slot.frame is not None)
            return MailboxCounts(slot.put, slot.taken, slot.superseded, slot.discarded, pending)


__all__ = ["MailboxCounts", "MailboxSet"]
