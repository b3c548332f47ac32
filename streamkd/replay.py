"""What the live path would have said about a recording: the same pipeline, fed from a file."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import SecretStr

from streamkd.clock import Clock, SystemClock
from streamkd.config import CameraConfig, EventsConfig
from streamkd.engine.base import InferenceEngine
from streamkd.events import RecordingTime
from streamkd.media.recording import read_recording
from streamkd.pipeline import Pipeline
from streamkd.types import EventUpdate, Frame, FrameResult


@dataclass(frozen=True, slots=True)
class Replay:
    """What was said about a recording: its analysed frames, and its events as they ended, by start."""

    results: tuple[FrameResult, ...]
    events: tuple[EventUpdate, ...]

    @property
    def duration_s(self) -> float:
        """Time of the last analysed frame in the recording."""
        ends = {result.segment: result.pts_s for result in self.results}
        return sum(ends.values())


def recording_camera(path: Path, *, sensitivity: float = 0.5) -> CameraConfig:
    """A camera with the default settings that stands for a recording, named after its file."""
    name = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:60]
    return CameraConfig(id=name or "recording", url=SecretStr(str(path)), sensitivity=sensitivity)


def analyse_frames(
    frames: Iterable[Frame],
    engine: InferenceEngine,
    camera: CameraConfig,
    events: EventsConfig,
    *,
    clock: Clock | None = None,
    time_base: RecordingTime | None = None,
) -> Iterator[FrameResult | EventUpdate]:
    """Run one camera's frames through the pipeline: a result for each, then the end of the events still open.

    Args:
        frames: Due frames of `camera.id`.
        engine: The model; warm, or the first frame takes longer.
        camera: Labels, sensitivity, cool-down.
        events: Smoothing and rules.
        clock: Never read for scores, events or their times.
        time_base: UTC of PTS 0; 1970 by default, so that every run says the same.
    """
    pipeline = Pipeline(engine, events, clock or SystemClock(), time_base=time_base or RecordingTime())
    pipeline.add_camera(camera)
    for frame in in_recording_time(frames):
        yield from pipeline.process([frame])
    yield from pipeline.remove_camera(camera.id)


def analyse_recording(
    path: Path, engine: InferenceEngine, *, camera: CameraConfig | None = None, events: EventsConfig | None = None
) -> Replay:
    """Analyse a whole recording as fast as it goes.

    Args:
        path: A video file.
        engine: The model.
        camera: Its settings; the defaults if None.
        events: Smoothing and rules; the defaults if None.

    Raises:
        UnsupportedMediaError: The file is missing, empty, or not a video.
    """
    camera = camera or recording_camera(path)
    frames = frames_of(path, engine, camera.id)
    return collect(analyse_frames(frames, engine, camera, events or EventsConfig()))


def frames_of(path: Path, engine: InferenceEngine, camera_id: str) -> Iterator[Frame]:
    """The due frames of a recording, at the model's rate and size, decoded as a camera with the default settings is."""
    return read_recording(
        path,
        engine.spec.rate_hz,
        engine.spec.view_size,
        keep_aspect=engine.spec.keeps_aspect,
        skip_loop_filter=CameraConfig.model_fields["skip_loop_filter"].default,
        camera_id=camera_id,
    )


def collect(stream: Iterable[FrameResult | EventUpdate]) -> Replay:
    """Gather what `analyse_frames` gives; of each event, the highest revision."""
    results: list[FrameResult] = []
    events: dict[str, EventUpdate] = {}
    for item in stream:
        updates: Iterable[EventUpdate] = (item,) if isinstance(item, EventUpdate) else item.updates
        events.update((update.id, update) for update in updates)
        if isinstance(item, FrameResult):
            results.append(item)
    return Replay(tuple(results), tuple(sorted(events.values(), key=lambda event: (event.start_utc, event.label))))


def in_recording_time(frames: Iterable[Frame]) -> Iterator[Frame]:
    """The frames with their time in the recording as `received_s`; a gap between segments counts as nothing."""
    base_s, last_s, segment = 0.0, 0.0, None
    for frame in frames:
        if segment is not None and frame.segment != segment:
            base_s += last_s
        segment, last_s = frame.segment, frame.pts_s
        yield replace(frame, received_s=base_s + frame.pts_s)


def paced(frames: Iterable[Frame], speed: float, clock: Clock) -> Iterator[Frame]:
    """Hand frames on at `speed` times their own pace."""
    never, began_s = threading.Event(), clock.monotonic_s()
    for frame in in_recording_time(frames):
        wait_s = began_s + frame.received_s / speed - clock.monotonic_s()
        if wait_s > 0:
            clock.wait(never, wait_s)
        yield frame


__all__ = [
    "Replay",
    "analyse_frames",
    "analyse_recording",
    "collect",
    "frames_of",
    "in_recording_time",
    "paced",
    "recording_camera",
]
