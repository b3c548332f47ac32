"""Time as a parameter: monotonic seconds inside, UTC at the edge."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What the live path asks of time; tests pass a `FakeClock`."""

    def monotonic_s(self) -> float:
        """Seconds that never go backwards, with an arbitrary origin."""
        ...

    def utc(self) -> datetime:
        """Wall-clock time, timezone-aware UTC; may step."""
        ...

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Wait until `event` is set or `timeout_s` has passed; returns whether it is set."""
        ...


class SystemClock:
    """The machine's clocks."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def utc(self) -> datetime:
        return datetime.now(UTC)

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        return event.wait(timeout_s)


class FakeClock:
    """A clock that moves only when told to (or when waited on)."""

    def __init__(self, start_s: float = 1000.0, utc: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now_s = start_s
        self._utc = utc

    def monotonic_s(self) -> float:
        return self._now_s

    def utc(self) -> datetime:
        return self._utc

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        self.advance(timeout_s)
        return event.is_set()

    def advance(self, seconds: float) -> None:
        self._now_s += seconds
        self._utc += timedelta(seconds=seconds)


__all__ = ["Clock", "FakeClock", "SystemClock"]
