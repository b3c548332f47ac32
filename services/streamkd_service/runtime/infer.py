"""Analysing an uploaded clip, in a process of its own: what a stranger sent is never decoded beside the cameras."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamkd.engine import open_engine
from streamkd.errors import TooLargeError, UnsupportedMediaError
from streamkd.replay import analyse_frames, collect, frames_of, recording_camera
from streamkd_service.runtime.ports import ClipAnalysis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streamkd.config import EventsConfig
    from streamkd.types import Frame


def analyse_clip(path: Path, filename: str, bundle_path: Path, events: EventsConfig, max_s: float) -> ClipAnalysis:
    """What the live path would have said about a clip.

    Raises:
        UnsupportedMediaError: It is not a video, or it is damaged.
        TooLargeError: It is longer than `max_s`.
    """
    engine = open_engine(bundle_path)
    camera = recording_camera(path)
    try:
        frames = _at_most(frames_of(path, engine, camera.id), max_s, filename)
        replay = collect(analyse_frames(frames, engine, camera, events))
    except UnsupportedMediaError as error:  # its message names the file here, which means nothing to who sent it
        raise UnsupportedMediaError(error.message.replace(str(path), filename), hint=error.hint) from None
    return ClipAnalysis(
        model_version=engine.version,
        duration_s=replay.duration_s,
        pts_s=tuple(result.pts_s for result in replay.results),
        scores=tuple(result.scores for result in replay.results),
        anomaly_scores=tuple(result.anomaly_score for result in replay.results),
        events=replay.events,
    )


def _at_most(frames: Iterator[Frame], max_s: float, filename: str) -> Iterator[Frame]:
    """The frames, until there are too many: a clip's header may lie about its length."""
    analysed_s, last_s = 0.0, None
    for frame in frames:
        analysed_s += max(0.0, frame.pts_s - (last_s or 0.0))
        last_s = frame.pts_s
        if analysed_s > max_s:
            raise TooLargeError(
                f"The clip {filename} is longer than {max_s:.0f} s.", hint="Cut it, or raise api.max_upload_s."
            )
        yield frame


__all__ = ["analyse_clip"]
