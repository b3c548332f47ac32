"""Every camera's state under every version that watches it: batching, and the live swap of the model.

During a swap a camera has two tracks: the version that answers, and the next one, which sees the same frames until it
is warm. State belongs to a camera and a version and is never converted from one to the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from streamkd.bundle import StudentSpec
from streamkd.engine.base import InferenceEngine
from streamkd.engine.gaze import Gaze
from streamkd.engine.rows import RowEngine, StateRows, advance
from streamkd.errors import ConflictError
from streamkd.types import FloatArray, Frame, UInt8Array


@dataclass(frozen=True, slots=True)
class Answer:
    """What the answering version says about one frame.

    Attributes:
        spec: Of the version that answers.
        action: `[C]` probabilities.
        forecast: `[K, C]` probabilities.
        warming: The version has not yet seen enough of this segment for its answer to count.
        broken: The model computed NaN or infinity; `action` and `forecast` say "don't know" instead.
        repeated: The one before, because the picture has not changed since.
    """

    spec: StudentSpec
    action: FloatArray
    forecast: FloatArray
    warming: bool
    broken: bool = False
    repeated: bool = False


@dataclass(slots=True)
class _Track:
    """One camera under one version."""

    engine: InferenceEngine
    rows: StateRows  # of the version
    row: int  # this camera's
    gaze: Gaze
    seen: int = 0  # frames of this segment

    @property
    def is_warm(self) -> bool:
        return self.seen >= self.engine.spec.warmup_frames


@dataclass(slots=True)
class _Camera:
    answering: _Track | None = None
    following: _Track | None = None  # watches the same frames until it is warm
    last: tuple[float, Answer] | None = None  # PTS of the last frame that the students saw, and the answer

    def again(self, same_as_s: float | None) -> Answer | None:
        """The last answer, where it was to a frame that the next one does not differ from, and all have made up."""
        if same_as_s is None or self.last is None or self.following is not None:
            return None
        pts_s, answer = self.last
        return replace(answer, repeated=True) if pts_s == same_as_s and not answer.warming else None


@dataclass(slots=True)
class _Work:
    """A frame on its way to its answer: what each track of its camera has still to see, this frame last."""

    frame: Frame
    camera: _Camera
    unseen: list[tuple[_Track, deque[UInt8Array]]]
    answer: Answer | None = None


@dataclass(slots=True)
class _Batch:
    """What one version sees in one run."""

    engine: InferenceEngine
    works: list[_Work] = field(default_factory=list)
    tracks: list[_Track] = field(default_factory=list)
    pictures: list[UInt8Array] = field(default_factory=list)
    last: list[bool] = field(default_factory=list)  # whether the picture is the frame itself, not an earlier one


class Students:
    """Steps all cameras through their versions; driven by one thread.

    `begin` takes frames, `advance` runs the network once on the next picture of each. A frame whose window has moved
    takes several runs, because its camera sees the last frames again: others may begin between these.

    Args:
        engine: The version that answers until `swap`; warm.
    """

    def __init__(self, engine: InferenceEngine) -> None:
        self._target = engine
        self._cameras: dict[str, _Camera] = {}
        self._rows: dict[str, StateRows] = {}
        self._works: dict[str, _Work] = {}

    @property
    def target(self) -> InferenceEngine:
        """The version that all cameras have or are getting."""
        return self._target

    @property
    def swap_pending(self) -> bool:
        """Whether a camera is still answered by another version than the target; other threads may ask."""
        return any(self.version_of(camera_id) != self._target.version for camera_id in list(self._cameras))

    def version_of(self, camera_id: str) -> str:
        """The version that answers for a camera, or will for its next frame."""
        camera = self._cameras.get(camera_id)
        track = None if camera is None else camera.answering
        return self._target.version if track is None else track.engine.version

    def swap(self, engine: InferenceEngine) -> None:
        """Let every camera move to another version as soon as that has warmed up on the camera's own frames.

        Args:
            engine: Loaded and warm; one version beside the present one in memory, at most, if no swap is pending.

        Raises:
            ConflictError: It wants other frames than the cameras' readers make.
            ValueError: A camera is in work.
        """
        if self._works:
            raise ValueError("a model is not swapped while frames are in work")
        old, new = self._target.spec, engine.spec
        if (old.view_size, old.keeps_aspect, old.rate_hz) != (new.view_size, new.keeps_aspect, new.rate_hz):
            raise ConflictError(
                f"Model {new.version} takes {_view(new)} at {new.rate_hz:g} Hz, the running model {old.version} "
                f"{_view(old)} at {old.rate_hz:g} Hz; they can't be swapped while running.",
                hint="Restart the service with this model.",
            )
        if engine.version == self._target.version:
            return
        self._target = engine
        for camera in self._cameras.values():
            _drop(camera.following)  # of a swap that this one overtakes
            camera.following = None
            if camera.answering is not None and camera.answering.engine.version == engine.version:
                self._target = camera.answering.engine  # back to a version that is still here

    @property
    def full_batch(self) -> int | None:
        """So many frames are run at once, more in several runs; None: as many as there are."""
        return self._target.full_batch if isinstance(self._target, RowEngine) else None

    def discard(self, camera_id: str) -> None:
        """Throw a camera's state away; its next frame starts anew, on the target version.

        Raises:
            ValueError: It is in work.
        """
        if camera_id in self._works:
            raise ValueError(f"camera {camera_id} is in work")
        camera = self._cameras.pop(camera_id, None)
        if camera is not None:
            _drop(camera.answering)
            _drop(camera.following)

    @property
    def in_work(self) -> Collection[str]:
        """Cameras whose frame has no answer yet; a live view."""
        return self._works.keys()

    def begin(self, frames: Sequence[Frame]) -> None:
        """Take frames in, one of each camera, of none that is in work."""
        for frame in frames:
            camera = self._ready(frame.camera_id)
            known = camera.again(frame.same_as_s)
            unseen = []
            if known is None:
                unseen = [(track, _look(track, frame)) for track in (camera.answering, camera.following) if track]
            elif camera.answering is not None:
                camera.answering.gaze.look_again()
            self._works[frame.camera_id] = _Work(frame, camera, unseen, known)

    def advance(self) -> list[tuple[Frame, Answer]]:
        """Let every camera in work see its next picture, in one batch per version.

        A frame that shows what the camera's last one did (`Frame.same_as_s`) gets the last answer again.

        Returns:
            The frames that have their answers now, in the order in which they were taken in.
        """
        batches: dict[str, _Batch] = {}
        for work in self._works.values():
            for track, pictures in work.unseen:
                if pictures:
                    batch = batches.setdefault(track.engine.version, _Batch(track.engine))
                    batch.works.append(work)
                    batch.tracks.append(track)
                    batch.pictures.append(pictures.popleft())
                    batch.last.append(not pictures)
        for batch in batches.values():
            _run(batch)
        done = [work for work in self._works.values() if not any(pictures for _, pictures in work.unseen)]
        answers: list[tuple[Frame, Answer]] = []
        for work in done:
            del self._works[work.frame.camera_id]
            assert work.answer is not None
            answers.append((work.frame, work.answer))
        return answers

    def _ready(self, camera_id: str) -> _Camera:
        """The camera with the tracks that shall see its next frame."""
        camera = self._cameras.setdefault(camera_id, _Camera())
        if camera.answering is None:
            camera.answering = self._new_track()
        elif camera.answering.engine.version != self._target.version:
            if camera.following is None:
                camera.following = self._new_track()
            elif camera.following.is_warm:
                _drop(camera.answering)
                camera.answering, camera.following = camera.following, None
        return camera

    def _new_track(self) -> _Track:
        engine = self._target
        used = {track.engine.version for c in self._cameras.values() for track in (c.answering, c.following) if track}
        for version in self._rows.keys() - used - {engine.version}:
            del self._rows[version]
        rows = self._rows.setdefault(engine.version, StateRows(engine.spec.state))
        return _Track(engine, rows, rows.take(), Gaze(engine.spec))


def _look(track: _Track, frame: Frame) -> deque[UInt8Array]:
    """What a track sees with a frame, each `[S, S, 3]`; where its window has moved, it forgets, and sees more."""
    glance = track.gaze.look(frame.rgb)
    if glance.moved:
        track.rows.reset(track.row)
    return deque((*glance.again, glance.rgb))


def _run(batch: _Batch) -> None:
    numbers = np.array([track.row for track in batch.tracks], np.intp)
    output, finite = advance(batch.engine, batch.pictures, batch.tracks[0].rows, numbers)
    for index, (work, track) in enumerate(zip(batch.works, batch.tracks, strict=True)):
        if not batch.last[index]:
            continue
        warming, broken = not track.is_warm, not finite[index]
        track.seen = 0 if broken else track.seen + 1
        if broken:  # NaN in a state would never leave it again; and such a version must not take over
            track.rows.reset(track.row)
        if track is work.camera.answering:
            work.answer = Answer(
                spec=batch.engine.spec,
                action=_unknown(output.action[index]) if broken else output.action[index],
                forecast=_unknown(output.forecast[index]) if broken else output.forecast[index],
                warming=warming or broken,
                broken=broken,
            )
            work.camera.last = (work.frame.pts_s, work.answer)


def relive(engine: InferenceEngine, again: Sequence[UInt8Array]) -> dict[str, FloatArray]:
    """The state of a camera that has seen just these frames, each `[S, S, 3]` uint8."""
    state = engine.init_state()
    for rgb in again:
        _, (state,) = engine.step(rgb[None], [state])
    return state


def _view(spec: StudentSpec) -> str:
    return f"pictures of {spec.view_size} px{' on the shorter side' if spec.keeps_aspect else ' squared'}"


def _unknown(probabilities: FloatArray) -> FloatArray:
    """Every class as likely as any other."""
    return np.full_like(probabilities, 1 / probabilities.shape[-1])


def _drop(track: _Track | None) -> None:
    if track is not None:
        track.rows.give_back(track.row)


__all__ = ["Answer", "Students", "relive"]
