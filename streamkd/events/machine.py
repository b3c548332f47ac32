"""When an event opens and closes: an enum, a table of transitions, and one function.

One machine follows one label of one camera. It knows nothing of wall clocks, ids or pictures; time is PTS.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

_SLACK_S = 1e-6  # PTS are rationals rounded to doubles


class Phase(StrEnum):
    IDLE = "idle"
    RISING = "rising"  # above the threshold, for too few frames yet
    OPEN = "open"
    CLOSING = "closing"  # still open, but below the closing threshold
    COOLDOWN = "cooldown"  # closed; the same label may not open yet


class Signal(StrEnum):
    """What a frame means to the machine in its present phase."""

    QUIET = "quiet"  # nothing that opens or holds an event
    OVER = "over"  # at or above the opening threshold
    ENOUGH = "enough"  # ... for the last `min_frames` frames
    HELD = "held"  # at or above the closing threshold
    UNDER = "under"  # below the closing threshold
    LONG_UNDER = "long_under"  # ... for `close_after_s`
    TOO_LONG = "too_long"  # open for `max_duration_s`
    COOLED = "cooled"  # `cooldown_s` have passed


TRANSITIONS: dict[tuple[Phase, Signal], Phase] = {
    (Phase.IDLE, Signal.QUIET): Phase.IDLE,
    (Phase.IDLE, Signal.OVER): Phase.RISING,
    (Phase.IDLE, Signal.ENOUGH): Phase.OPEN,
    (Phase.RISING, Signal.QUIET): Phase.IDLE,
    (Phase.RISING, Signal.OVER): Phase.RISING,
    (Phase.RISING, Signal.ENOUGH): Phase.OPEN,
    (Phase.OPEN, Signal.HELD): Phase.OPEN,
    (Phase.OPEN, Signal.UNDER): Phase.CLOSING,
    (Phase.OPEN, Signal.TOO_LONG): Phase.COOLDOWN,
    (Phase.CLOSING, Signal.HELD): Phase.OPEN,
    (Phase.CLOSING, Signal.UNDER): Phase.CLOSING,
    (Phase.CLOSING, Signal.LONG_UNDER): Phase.COOLDOWN,
    (Phase.CLOSING, Signal.TOO_LONG): Phase.COOLDOWN,
    (Phase.COOLDOWN, Signal.QUIET): Phase.COOLDOWN,
    (Phase.COOLDOWN, Signal.COOLED): Phase.IDLE,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """Thresholds are smoothed scores, 0..1."""

    open_at: float
    close_below: float
    min_frames: int = 3
    close_after_s: float = 2.0
    max_duration_s: float = 300.0
    cooldown_s: float = 10.0


@dataclass(frozen=True, slots=True)
class MachineState:
    """Where one machine stands; times are PTS of the present segment.

    Attributes:
        phase: See `Phase`.
        frames_over: Consecutive frames at or above the opening threshold, while rising.
        started_s: First of these frames; the event's start.
        under_since_s: First frame below the closing threshold, while closing.
        ended_s: The last event's end, while cooling down; negative if it lies in an earlier segment.
    """

    phase: Phase = Phase.IDLE
    frames_over: int = 0
    started_s: float = 0.0
    under_since_s: float = 0.0
    ended_s: float = 0.0

    @property
    def is_open(self) -> bool:
        return self.phase in {Phase.OPEN, Phase.CLOSING}


def advance(state: MachineState, score: float, pts_s: float, rule: Rule) -> MachineState:
    """The state after a frame with the smoothed `score` at `pts_s`, later than all frames before it."""
    if state.phase is Phase.COOLDOWN and pts_s - state.ended_s >= rule.cooldown_s - _SLACK_S:
        state = MachineState(TRANSITIONS[state.phase, Signal.COOLED])
    signal = _signal(state, score, pts_s, rule)
    phase = TRANSITIONS[state.phase, signal]
    match phase:
        case Phase.IDLE:
            return MachineState()
        case Phase.RISING | Phase.OPEN if state.phase in {Phase.IDLE, Phase.RISING}:
            started_s = pts_s if state.phase is Phase.IDLE else state.started_s
            return MachineState(phase, frames_over=state.frames_over + 1, started_s=started_s)
        case Phase.CLOSING if state.phase is Phase.OPEN:
            return replace(state, phase=phase, under_since_s=pts_s)
        case Phase.COOLDOWN if state.is_open:
            fell = state.phase is Phase.CLOSING and signal is Signal.LONG_UNDER
            return MachineState(phase, ended_s=state.under_since_s if fell else pts_s)
        case _:
            return replace(state, phase=phase)


def interrupt(state: MachineState, last_pts_s: float) -> MachineState:
    """The state after a stretch that ended at `last_pts_s`; its times count from where the watch goes on (`resume`).

    An open event ends there. A cool-down goes on; the time that nobody watched does not count towards it.
    """
    if state.is_open:
        return MachineState(Phase.COOLDOWN, ended_s=0.0)
    if state.phase is Phase.COOLDOWN:
        return replace(state, ended_s=state.ended_s - last_pts_s)
    return MachineState()


def resume(state: MachineState, first_pts_s: float) -> MachineState:
    """The state of an interrupted machine whose next frame is at `first_pts_s`, in whichever segment."""
    return replace(state, ended_s=state.ended_s + first_pts_s) if state.phase is Phase.COOLDOWN else state


def _signal(state: MachineState, score: float, pts_s: float, rule: Rule) -> Signal:
    if state.phase is Phase.COOLDOWN:
        return Signal.QUIET
    return _signal_open(state, score, pts_s, rule) if state.is_open else _signal_closed(state, score, rule)


def _signal_closed(state: MachineState, score: float, rule: Rule) -> Signal:
    if score < rule.open_at:
        return Signal.QUIET
    return Signal.ENOUGH if state.frames_over + 1 >= rule.min_frames else Signal.OVER


def _signal_open(state: MachineState, score: float, pts_s: float, rule: Rule) -> Signal:
    if pts_s - state.started_s >= rule.max_duration_s - _SLACK_S:
        return Signal.TOO_LONG
    if score >= rule.close_below:
        return Signal.HELD
    if state.phase is Phase.CLOSING and pts_s - state.under_since_s >= rule.close_after_s - _SLACK_S:
        return Signal.LONG_UNDER
    return Signal.UNDER


__all__ = ["TRANSITIONS", "MachineState", "Phase", "Rule", "Signal", "advance", "interrupt", "resume"]
