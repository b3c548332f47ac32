"""Analysing an uploaded clip, in a process of its own: what a stranger sent is never decoded beside the cameras."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamkd.engine import open_engine
from streamkd.media.recording import decode_upload
from streamkd.replay import analyse_frames, collect, recording_camera
from streamkd_service.runtime.ports import ClipAnalysis

if TYPE_CHECKING:
    from pathlib import Path

    from streamkd.config import EventsConfig


def analyse_clip(path: Path, filename: str, bundle_path: Path, events: EventsConfig, max_s: float) -> ClipAnalysis:
    """What the live path would have said about a clip.

    Raises:
        UnsupportedMediaError: It is not a video, or it is damaged.
        TooLargeError: It is longer than `max_s`, or its pictures are too large.
    """
    engine = open_engine(bundle_path)
    spec, camera = engine.spec, recording_camera(path)
    frames = decode_upload(
        path,
        spec.rate_hz,
        spec.view_size,
        max_duration_s=max_s,
        keep_aspect=spec.keeps_aspect,
        skip_loop_filter=camera.skip_loop_filter,
        camera_id=camera.id,
        name=filename,
    )
    replay = collect(analyse_frames(frames, engine, camera, events))
    return ClipAnalysis(
        model_version=engine.version,
        duration_s=replay.duration_s,
        pts_s=tuple(result.pts_s for result in replay.results),
        scores=tuple(result.scores for result in replay.results),
        anomaly_scores=tuple(result.anomaly_score for result in replay.results),
        events=replay.events,
    )


__all__ = ["analyse_clip"]
