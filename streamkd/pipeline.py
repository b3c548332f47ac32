"""The live path of one worker, from due frames to events, as one chain; `streamkd replay` runs the same one.

    frames of many cameras, at most one each
      → students: one batch per model version, state per camera       streamkd.engine.students
      → per camera: smooth the scores                                 streamkd.events.smoothing
      → rules: open and close action events                           streamkd.events.machine, .tracker
      → normality: how unusual is the motion, anomaly events          streamkd.anomaly

Scores and events depend on the frames and their PTS alone: no wall clock, no batch mates, no chance.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import structlog

from streamkd.anomaly import MotionBaseline, NormalityModel
from streamkd.bundle import StudentSpec
from streamkd.clock import Clock
from streamkd.config import CameraConfig, EventsConfig
from streamkd.engine.base import InferenceEngine
from streamkd.engine.students import Answer, Students
from streamkd.errors import ConflictError, NotFoundError
from streamkd.events import (
    UNUSUAL_MOTION,
    CausalMean,
    EventTracker,
    LiveTime,
    Rule,
    TimeBase,
    TrackerName,
    action_rules,
    anomaly_rule,
)
from streamkd.types import EventKind, EventUpdate, FloatArray, Frame, FrameResult

_log = structlog.get_logger(__name__)
GAP_S = 3.0  # analysed frames further apart than this, for whatever reason, do not belong together


@dataclass(slots=True)
class _Camera:
    """What the pipeline remembers of one camera, besides its state in the students."""

    config: CameraConfig
    spec: StudentSpec  # of the version that answered last
    rules: dict[str, Rule]
    anomaly_rule: Rule | None
    smoother: CausalMean
    normality: NormalityModel
    anomaly: EventTracker
    actions: dict[str, EventTracker] = field(default_factory=dict)
    segment: int | None = None
    last_pts_s: float = 0.0

    @property
    def trackers(self) -> list[EventTracker]:
        return [*self.actions.values(), self.anomaly]


class Pipeline:
    """The chain for the cameras of one worker; used by one thread.

    Args:
        engine: The model, warm.
        events: From scores to events.
        clock: For the UTC of events; nothing else depends on it.
        epoch: The worker's incarnation; part of every event's id.
        time_base: When a frame was; the default is a live camera's.
    """

    def __init__(
        self,
        engine: InferenceEngine,
        events: EventsConfig,
        clock: Clock,
        epoch: str = "",
        *,
        time_base: TimeBase | None = None,
    ) -> None:
        self._students = Students(engine)
        self._events = events
        self._epoch = epoch
        self._time_base = time_base or LiveTime(clock)
        self._cameras: dict[str, _Camera] = {}
        self._closed: dict[str, list[EventUpdate]] = {}  # of cameras in work: what the frame's segment has ended
        self._broken: set[str] = set()  # versions that it was said of

    # --- frames ----------------------------------------------------------------------------------------------------

    def process(self, frames: Sequence[Frame]) -> list[FrameResult]:
        """Analyse due frames, at most one of each camera: `begin`, and `advance` as often as it takes.

        A frame of a camera that is not (any more) here is left out; the other results keep the order of `frames`.

        Raises:
            ValueError: Two are of one camera, or some camera is in work.
        """
        if self.in_work:
            raise ValueError("others are in work, whose results would be lost")
        self.begin(frames)
        results: dict[str, FrameResult] = {}
        while self.in_work:
            results.update((frame.camera_id, result) for frame, result in self.advance())
        return [results[frame.camera_id] for frame in frames if frame.camera_id in results]

    @property
    def in_work(self) -> Collection[str]:
        """Cameras whose frame has no result yet, a live view.

        Until it has, no other frame of theirs may begin, and they and the model stay as they are.
        """
        return self._students.in_work

    def begin(self, frames: Sequence[Frame]) -> None:
        """Take due frames in, at most one of each camera; one of a camera that is not (any more) here is left out.

        Raises:
            ValueError: Two are of one camera, or the camera is in work.
        """
        known = [frame for frame in frames if frame.camera_id in self._cameras]
        named = {frame.camera_id for frame in known}
        if len(named) < len(known) or not named.isdisjoint(self.in_work):
            raise ValueError("a Pipeline takes at most one frame of each camera at a time")
        for frame in known:
            self._closed[frame.camera_id] = self._begin_segment(self._cameras[frame.camera_id], frame)
        self._students.begin(known)

    def advance(self) -> list[tuple[Frame, FrameResult]]:
        """Run the network once for all cameras in work; the frames that are through, with their results.

        Nearly all frames take one run. Where a camera's window has moved, it takes a few: instead of as many runs for
        one picture each, they may share those of the frames that come after them.
        """
        return [
            (frame, self._follow(self._cameras[frame.camera_id], frame, answer, self._closed.pop(frame.camera_id)))
            for frame, answer in self._students.advance()
        ]

    def _begin_segment(self, camera: _Camera, frame: Frame) -> list[EventUpdate]:
        """Where `frame` does not follow the camera's last one: forget the state, end what is open."""
        hold = camera.spec.gap_policy == "hold"
        if frame.segment == camera.segment and (hold or frame.pts_s - camera.last_pts_s <= GAP_S):
            return []
        updates = self._interrupt(camera)
        camera.segment = frame.segment
        for tracker in camera.trackers:
            tracker.resume(frame.pts_s)
        return updates

    def _follow(self, camera: _Camera, frame: Frame, answer: Answer, updates: list[EventUpdate]) -> FrameResult:
        """Smooth → rules → events, normality → events, for one camera."""
        if answer.broken:
            updates = [*updates, *self._give_up(camera, answer.spec.version)]
        if answer.spec is not camera.spec:
            updates = [*updates, *self._take_spec(camera, answer.spec)]
        normality = camera.normality.update(frame.grey, frame.pts_s, frozen=camera.anomaly.is_open)
        smoothed: dict[str, float] = {}
        if not answer.warming:
            means = camera.smoother.add(frame.pts_s, answer.action)
            smoothed = dict(zip(answer.spec.classes, means.tolist(), strict=True))
            updates = [
                *updates,
                *self._act(camera, frame, smoothed),
                *self._judge_motion(camera, frame, normality.score),
            ]
        camera.last_pts_s = frame.pts_s
        action = max(answer.spec.foreground, key=smoothed.__getitem__) if smoothed else ""
        rule = camera.rules.get(action)
        return FrameResult(
            camera_id=frame.camera_id,
            segment=frame.segment,
            pts_s=frame.pts_s,
            warming=answer.warming,
            scores=_named(answer.spec, answer.action),
            action=action,
            action_score=smoothed.get(action, 0.0),
            forecast=tuple(_named(answer.spec, at) for at in answer.forecast),
            anomaly_score=normality.score,
            model_version=answer.spec.version,
            updates=tuple(updates),
            action_opens_at=None if rule is None else rule.open_at,
            anomaly_certified=normality.certified,
            repeated=answer.repeated,
        )

    def _give_up(self, camera: _Camera, version: str) -> list[EventUpdate]:
        """The model computed nonsense: begin anew with the next frame, as after a gap."""
        if version not in self._broken:
            self._broken.add(version)
            _log.error(
                "model gives no numbers (NaN or infinity); its cameras begin anew",
                camera=camera.config.id,
                version=version,
                hint="Roll back or promote another version; this is said once.",
            )
        return self._interrupt(camera)

    def _act(self, camera: _Camera, frame: Frame, smoothed: dict[str, float]) -> list[EventUpdate]:
        told = []
        for label, rule in camera.rules.items():
            tracker = camera.actions.get(label)
            if tracker is None:
                tracker = camera.actions[label] = self._tracker(camera.config.id, EventKind.ACTION, label)
            told.append(tracker.observe(frame, smoothed[label], rule, camera.spec.version))
        return _only(told)

    def _judge_motion(self, camera: _Camera, frame: Frame, score: float | None) -> list[EventUpdate]:
        if camera.anomaly_rule is None or score is None:
            return []
        return _only([camera.anomaly.observe(frame, score, camera.anomaly_rule, camera.spec.version)])

    # --- cameras ---------------------------------------------------------------------------------------------------

    def add_camera(self, config: CameraConfig, history: FloatArray | None = None) -> None:
        """Take a camera in; it warms up with its first frames.

        Args:
            config: The camera.
            history: What was usual for it in an earlier life, from `history`.

        Raises:
            ConflictError: It is here already.
        """
        if config.id in self._cameras:
            raise ConflictError(f"Camera {config.id} is analysed already.", hint="Update it instead.")
        spec, events = self._students.target.spec, self._events
        self._cameras[config.id] = _Camera(
            config=config,
            spec=spec,
            rules=action_rules(spec, events, config),
            anomaly_rule=anomaly_rule(events, config),
            smoother=CausalMean(events.smoothing_s),
            normality=MotionBaseline(events.anomaly_warmup_s, events.anomaly_false_alarms_per_day),
            anomaly=self._tracker(config.id, EventKind.ANOMALY, UNUSUAL_MOTION),
        )
        if history is not None:
            self._cameras[config.id].normality.restore(history)

    def history(self, camera_id: str) -> FloatArray | None:
        """What is usual for a camera, `[n]` float32; None if it is not here."""
        camera = self._cameras.get(camera_id)
        return None if camera is None else camera.normality.history()

    def update_camera(self, config: CameraConfig) -> list[EventUpdate]:
        """Take new labels, sensitivity, cool-down or anomaly setting over; state and history stay.

        Returns:
            The end of open events whose label is not wanted any more.

        Raises:
            NotFoundError: It is not here.
        """
        camera = self._cameras.get(config.id)
        if camera is None:
            raise NotFoundError(f"Camera {config.id} is not analysed by this worker.")
        camera.config = config
        camera.anomaly_rule = anomaly_rule(self._events, config)
        updates = self._take_spec(camera, camera.spec)
        if camera.anomaly_rule is None:
            updates.extend(_only([camera.anomaly.interrupt(camera.last_pts_s)]))
            camera.anomaly = self._tracker(config.id, EventKind.ANOMALY, UNUSUAL_MOTION)
        return updates

    def remove_camera(self, camera_id: str) -> list[EventUpdate]:
        """Forget a camera; returns the end of its open events. One that is not here is no error."""
        updates = self.camera_gone(camera_id)
        self._cameras.pop(camera_id, None)
        return updates

    def camera_gone(self, camera_id: str) -> list[EventUpdate]:
        """The camera's stream ended: its state is discarded, open events end with its last frame."""
        camera = self._cameras.get(camera_id)
        return [] if camera is None else self._interrupt(camera)

    def _interrupt(self, camera: _Camera) -> list[EventUpdate]:
        if camera.segment is None:
            return []  # nothing has come since the last time
        self._students.discard(camera.config.id)
        camera.smoother.clear()
        camera.normality.begin_segment()
        camera.segment = None
        return _only([tracker.interrupt(camera.last_pts_s) for tracker in camera.trackers])

    def _take_spec(self, camera: _Camera, spec: StudentSpec) -> list[EventUpdate]:
        """Judge by another version's classes and thresholds from now on; events of the same label go on."""
        camera.smoother.rename(camera.spec.classes, spec.classes)
        camera.spec = spec
        camera.rules = action_rules(spec, self._events, camera.config)
        unwanted = [label for label in camera.actions if label not in camera.rules]
        return _only([camera.actions.pop(label).interrupt(camera.last_pts_s) for label in unwanted])

    def _tracker(self, camera_id: str, kind: EventKind, label: str) -> EventTracker:
        return EventTracker(TrackerName(camera_id, kind, label, self._epoch), self._time_base)

    # --- the model -------------------------------------------------------------------------------------------------

    def swap(self, engine: InferenceEngine) -> None:
        """Move every camera to another model without a dropped frame.

        For each camera the old model answers until the new one has seen `warmup_frames` of the same frames. The old
        one is let go when no camera uses it: name cameras without a stream to `camera_gone`, or they hold it back. A
        second swap overtakes one that is still pending.

        Args:
            engine: Warm; `open_engine` and `warm` may run in another thread before.

        Raises:
            ConflictError: It takes frames of another size or rate.
        """
        self._students.swap(engine)

    @property
    def swap_pending(self) -> bool:
        """Whether a camera is still answered by another version than the last one; other threads may ask."""
        return self._students.swap_pending

    @property
    def full_batch(self) -> int | None:
        """So many frames are analysed at once, more in several runs; None: as many as there are."""
        return self._students.full_batch

    @property
    def model_version(self) -> str:
        """The version that all cameras have or are moving to."""
        return self._students.target.version


def _named(spec: StudentSpec, values: FloatArray) -> dict[str, float]:
    return dict(zip(spec.classes, values.tolist(), strict=True))


def _only(updates: Sequence[EventUpdate | None]) -> list[EventUpdate]:
    return [update for update in updates if update is not None]


__all__ = ["GAP_S", "Pipeline"]
