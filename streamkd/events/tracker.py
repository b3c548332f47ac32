"""From a machine's phases to event updates: ids, revisions, times and snapshots."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import timedelta

from streamkd.events.machine import MachineState, Rule, advance, interrupt, resume
from streamkd.events.timebase import TimeBase
from streamkd.types import EventKind, EventUpdate, Frame, Picture

RAISE_EVERY_S = 1.0  # a rising score is told at most this often
RAISE_BY = 0.01  # ... and only if it rose by this much
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://streamkd.example/events")


@dataclass(frozen=True, slots=True)
class TrackerName:
    """Whose events a tracker tells of."""

    camera_id: str
    kind: EventKind
    label: str
    epoch: str = ""


class EventTracker:
    """Follows one label of one camera, frame by frame, and tells what changed."""

    def __init__(self, name: TrackerName, time_base: TimeBase) -> None:
        self._name = name
        self._time_base = time_base
        self._state = MachineState()
        self._event: EventUpdate | None = None  # the open event as last told
        self._peak = 0.0
        self._told_s = 0.0

    @property
    def is_open(self) -> bool:
        """Whether an event is open now."""
        return self._event is not None

    def observe(self, frame: Frame, score: float, rule: Rule, model_version: str) -> EventUpdate | None:
        """Take the smoothed `score` of a frame; returns an update where an event opens, rises or closes."""
        self._state = advance(self._state, score, frame.pts_s, rule)
        if self._event is None:
            return self._open(frame, score, model_version) if self._state.is_open else None
        if not self._state.is_open:
            return self._close(self._state.ended_s)
        self._peak = max(self._peak, score)
        if self._peak >= self._event.score + RAISE_BY and frame.pts_s - self._told_s >= RAISE_EVERY_S:
            self._told_s = frame.pts_s
            return self._tell(score=self._peak)
        return None

    def interrupt(self, last_pts_s: float) -> EventUpdate | None:
        """The watch ended at `last_pts_s`: close an open event there."""
        self._state = interrupt(self._state, last_pts_s)
        return None if self._event is None else self._close(last_pts_s)

    def resume(self, first_pts_s: float) -> None:
        """After an interruption: the next frame is at `first_pts_s`."""
        self._state = resume(self._state, first_pts_s)

    def _open(self, frame: Frame, score: float, model_version: str) -> EventUpdate:
        name, started_s = self._name, self._state.started_s
        start_utc = self._time_base.utc_of(frame) - timedelta(seconds=frame.pts_s - started_s)
        # UTC is part of the id: a camera that is removed and added again starts its segments and PTS afresh.
        parts = (name.camera_id, name.epoch, str(frame.segment), name.kind, name.label, f"{started_s:.6f}")
        self._event = EventUpdate(
            id=str(uuid.uuid5(_NAMESPACE, "\n".join((*parts, start_utc.isoformat())))),
            revision=1,
            camera_id=name.camera_id,
            kind=name.kind,
            label=name.label,
            start_utc=start_utc,
            end_utc=None,
            start_pts_s=started_s,
            end_pts_s=None,
            score=score,
            model_version=model_version,
            epoch=name.epoch,
            snapshot_jpeg=_snapshot(frame.picture),
        )
        self._peak, self._told_s = score, frame.pts_s
        return self._event

    def _close(self, end_pts_s: float) -> EventUpdate:
        assert self._event is not None
        # PTS, not the wall clock, says how long it was: a clock that steps must not make it negative.
        lasted = timedelta(seconds=end_pts_s - self._event.start_pts_s)
        told = self._tell(score=self._peak)
        self._event = None
        return replace(told, end_utc=told.start_utc + lasted, end_pts_s=end_pts_s)

    def _tell(self, *, score: float) -> EventUpdate:
        assert self._event is not None
        # Its picture was told at the opening: every revision would otherwise be sent and written with it again.
        self._event = replace(self._event, revision=self._event.revision + 1, score=score, snapshot_jpeg=None)
        return self._event


def _snapshot(picture: Picture | None) -> bytes | None:
    if picture is None:
        return None
    try:
        return picture.jpeg()
    except (OSError, RuntimeError, ValueError):
        return None  # an event without its picture is better than no event


__all__ = ["RAISE_BY", "RAISE_EVERY_S", "EventTracker", "TrackerName"]
