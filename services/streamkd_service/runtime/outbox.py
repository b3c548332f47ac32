"""Event updates that a worker has not yet been told are durable: kept, sent again, never lost on the way."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from streamkd.types import EventUpdate

_BATCH = 64
_MAX_SNAPSHOTS = 200  # about 20 MB
_MAX_EVENTS = 10_000


class Outbox:
    """Holds the newest revision of every unacknowledged event, in order of first arrival.

    Bounded for the case that nobody takes anything for hours: beyond `max_snapshots` events the oldest lose their
    pictures, beyond `max_events` the oldest are given up and counted in `lost`. `on_updates` sees everything that is
    added, once, on the thread that adds it.
    """

    def __init__(
        self,
        *,
        max_snapshots: int = _MAX_SNAPSHOTS,
        max_events: int = _MAX_EVENTS,
        on_updates: Callable[[Sequence[EventUpdate]], None] = lambda _: None,
    ) -> None:
        self._pending: dict[str, EventUpdate] = {}
        self._max_snapshots = max_snapshots
        self._max_events = max_events
        self._on_updates = on_updates
        self._lock = threading.Lock()
        self.lost = 0

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, updates: Iterable[EventUpdate]) -> None:
        """Keep updates until they are acknowledged; an older revision never replaces a newer one."""
        updates = tuple(updates)
        if not updates:
            return
        self._on_updates(updates)
        with self._lock:
            for update in updates:
                known = self._pending.get(update.id)
                if known is None:
                    self._pending[update.id] = update
                elif update.revision > known.revision:
                    picture = update.snapshot_jpeg or known.snapshot_jpeg
                    self._pending[update.id] = replace(update, snapshot_jpeg=picture)
            self._shrink()

    def batch(self) -> tuple[EventUpdate, ...]:
        """The oldest unacknowledged updates; they stay until `acknowledge`."""
        with self._lock:
            return tuple(self._pending.values())[:_BATCH]

    def acknowledge(self, updates: Iterable[EventUpdate]) -> None:
        """Forget what is durable now; what has a newer revision by now stays, without its delivered picture."""
        with self._lock:
            for update in updates:
                known = self._pending.get(update.id)
                if known is None:
                    continue
                if known.revision <= update.revision:
                    del self._pending[update.id]
                elif known.snapshot_jpeg is update.snapshot_jpeg:
                    self._pending[update.id] = replace(known, snapshot_jpeg=None)

    def _shrink(self) -> None:
        for event_id in list(self._pending)[: max(0, len(self._pending) - self._max_events)]:
            del self._pending[event_id]
            self.lost += 1
        for event_id in list(self._pending)[: max(0, len(self._pending) - self._max_snapshots)]:
            update = self._pending[event_id]
            if update.snapshot_jpeg is not None:
                self._pending[event_id] = replace(update, snapshot_jpeg=None)


__all__ = ["Outbox"]
