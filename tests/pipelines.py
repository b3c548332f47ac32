"""The live path on a tiny student, and colours to feed it with."""

from __future__ import annotations

from streamkd.clock import FakeClock
from streamkd.config import CameraConfig, EventsConfig
from streamkd.pipeline import Pipeline
from tests.fakes import FakeEngine, make_frame

EVENTS = EventsConfig(smoothing_s=0.6, min_frames=2, close_after_s=1.0, anomaly_warmup_s=5.0)
PERIOD_S = 0.2


def camera(camera_id="cam", **changes):
    return CameraConfig(id=camera_id, url="rtsp://h/s", **changes)


def pipeline(engine=None, *cameras, events=EVENTS):
    built = Pipeline(engine or FakeEngine(), events, FakeClock(), epoch="e1")
    for config in cameras or (camera(),):
        built.add_camera(config)
    return built


def play(subject, colours, *, camera_id="cam", segment=0, start=0, greys=None):
    """Feed one camera; returns the results."""
    results = []
    for index, colour in enumerate(colours):
        grey = greys[index] if greys is not None else None
        frame = make_frame(camera_id, (start + index) * PERIOD_S, colour, segment=segment, grey=grey)
        results.extend(subject.process([frame]))
    return results


def updates_of(results):
    return [update for result in results for update in result.updates]


__all__ = ["EVENTS", "PERIOD_S", "camera", "pipeline", "play", "updates_of"]
