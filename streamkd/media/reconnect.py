"""When to try again, and when a camera counts as online: one pure state machine, driven by what a reader reports.

A camera is online when a *video frame* has been decoded, not when a socket is open. After a failure the next attempt
waits a random time between half of and the whole `min(cap, base · 2^(failures-1))`, so that a rebooting recorder is not
stormed by all of its cameras at once. Only a run of frames of `healthy_s` forgets earlier failures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from streamkd.types import FailureReason

if TYPE_CHECKING:
    import numpy as np


class Phase(StrEnum):
    """Where a camera's connection stands."""

    CONNECTING = "connecting"  # an attempt runs; no frame yet
    ONLINE = "online"  # a frame has been decoded on this connection
    WAITING = "waiting"  # failed; the next attempt is at `retry_at_s`


class Signal(StrEnum):
    """What a reader reports."""

    FRAME = "frame"  # a video frame was decoded
    FAILED = "failed"  # the attempt or the connection ended
    RETRY = "retry"  # the wait is over, or was cut short


@dataclass(frozen=True, slots=True)
class BackOff:
    """How long to wait.

    Attributes:
        base_s: Longest wait after the first failure; the shortest is half of it.
        cap_s: No wait is longer.
        healthy_s: Frames for this long forget earlier failures.
    """

    base_s: float = 1.0
    cap_s: float = 30.0
    healthy_s: float = 10.0

    def bound_s(self, failures: int, reason: FailureReason) -> float:
        """Longest wait after so many failures in a row; a wrong password begins at the cap, or accounts get locked."""
        if reason is FailureReason.AUTH:
            return self.cap_s
        return float(min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, 30)))

    def delay_s(self, failures: int, reason: FailureReason, rng: np.random.Generator) -> float:
        """A wait between half of the bound and the bound."""
        return self.bound_s(failures, reason) * float(rng.uniform(0.5, 1.0))


@dataclass(frozen=True, slots=True)
class Link:
    """State of one camera's connection.

    Attributes:
        phase: Where it stands.
        since_s: Monotonic time of the last change of phase.
        failures: Failures in a row.
        reason: Of the last failure.
        retry_at_s: Monotonic time of the next attempt, while waiting.
        last_frame_s: Of this connection, while online.
    """

    phase: Phase
    since_s: float
    failures: int = 0
    reason: FailureReason | None = None
    retry_at_s: float | None = None
    last_frame_s: float | None = None


_ALLOWED: dict[Phase, frozenset[Signal]] = {
    Phase.CONNECTING: frozenset({Signal.FRAME, Signal.FAILED}),
    Phase.ONLINE: frozenset({Signal.FRAME, Signal.FAILED}),
    Phase.WAITING: frozenset({Signal.RETRY}),
}


def connecting(now_s: float) -> Link:
    """A camera's first state."""
    return Link(Phase.CONNECTING, now_s)


def transition(
    link: Link,
    signal: Signal,
    now_s: float,
    rng: np.random.Generator,
    policy: BackOff,
    reason: FailureReason = FailureReason.ERROR,
) -> Link:
    """The state after `signal` at `now_s`.

    Args:
        link: The state before.
        signal: What was reported.
        now_s: Monotonic time.
        rng: For the jitter.
        policy: How long to wait.
        reason: Of a failure.

    Raises:
        ValueError: The signal can't come in this phase.
    """
    if signal not in _ALLOWED[link.phase]:
        raise ValueError(f"{signal} can't come while {link.phase}")
    if signal is Signal.FRAME:
        since_s = link.since_s if link.phase is Phase.ONLINE else now_s
        return replace(link, phase=Phase.ONLINE, since_s=since_s, last_frame_s=now_s, retry_at_s=None)
    if signal is Signal.RETRY:
        return replace(link, phase=Phase.CONNECTING, since_s=now_s, retry_at_s=None, last_frame_s=None)
    healthy = link.last_frame_s is not None and link.last_frame_s - link.since_s >= policy.healthy_s
    failures = 1 if healthy else link.failures + 1
    retry_at_s = now_s + policy.delay_s(failures, reason, rng)
    return Link(Phase.WAITING, now_s, failures, reason, retry_at_s)


__all__ = ["BackOff", "Link", "Phase", "Signal", "connecting", "transition"]
