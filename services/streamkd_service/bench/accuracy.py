"""What cheaper decoding costs in accuracy: the student on labelled clips, coded as the benchmark's cameras."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import roc_auc_score

from streamkd.clock import SystemClock
from streamkd.engine import open_engine
from streamkd.evaluate.score import clip_score, score_clip
from streamkd.media.due import DueFrames
from streamkd.media.prepare import join_clips
from streamkd.media.source import open_recording
from streamkd_service.bench.rtsp import CRF
from streamkd_service.demo_media import DemoClip, read_clips

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamkd.bundle import StudentSpec
    from streamkd.engine import InferenceEngine
    from streamkd.types import UInt8Array

_BOOTSTRAPS = 2000


@dataclass(frozen=True, slots=True)
class Way:
    """One way of decoding: ffmpeg's name of the frames without loop filter, and the size of the camera's pictures."""

    name: str
    skip_loop_filter: str = "default"
    width: int = 640
    height: int = 480


WAYS = (
    Way("everything"),
    Way("no loop filter but on keyframes", "nokey"),
    Way("no loop filter", "all"),
    Way("everything of a stream of 320x240", width=320, height=240),
)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """ROC AUC of clips with one way of decoding, and what was lost against decoding everything, with its interval."""

    way: str
    clips: int
    roc_auc: float
    lost_points: float
    lost_points_low: float  # 95 % interval by source
    lost_points_high: float
    mean_change: float  # of a clip's score


def measure_accuracy(
    folders: Sequence[Path], bundle: Path, say: Callable[[str], None] = lambda _: None
) -> list[Accuracy]:
    """Score every clip of some folders (with a clips.csv) with each way of decoding.

    A clip is coded as the benchmark's cameras are (640x480 but where the way says otherwise, 15 fps), decoded, sampled,
    and stepped through from zero state; its score is the mean probability of the foreground after warm-up.
    """
    clips = [clip for folder in folders for clip in read_clips(folder)]
    engine = open_engine(bundle)
    engine.warm()
    foreground = engine.spec.classes.index(engine.spec.foreground[0])
    scores = np.zeros((len(WAYS), len(clips)))
    with tempfile.TemporaryDirectory(prefix="streamkd-bench-") as temporary:
        coded = Path(temporary) / "clip.mp4"
        for column, clip in enumerate(clips):
            coded_as = None
            for row, way in enumerate(WAYS):
                size = (way.width, way.height)
                if size != coded_as:
                    join_clips([clip.path], coded, width=way.width, height=way.height, min_duration_s=0.0, crf=CRF)
                    coded_as = size
                scores[row, column] = _score(coded, engine, foreground, way.skip_loop_filter)
            if column % 20 == 0:
                say(f"Scored {column} of {len(clips)} clips")
    return [_against(scores[0], scores[row], clips, way.name) for row, way in enumerate(WAYS)]


def _score(path: Path, engine: InferenceEngine, foreground: int, skip_loop_filter: str) -> float:
    probs = score_clip(engine, np.stack(views_of(path, engine.spec, skip_loop_filter)))
    return float(clip_score(probs, engine.spec.warmup_frames)[foreground])


def views_of(path: Path, spec: StudentSpec, skip_loop_filter: str) -> list[UInt8Array]:
    """What the live path would make of a recording: its due frames, each `[H, W, 3]`."""
    due = DueFrames("clip", spec.rate_hz, spec.view_size, keep_aspect=spec.keeps_aspect)
    with open_recording(path, SystemClock()) as source:
        source.skip_loop_filter(skip_loop_filter)
        return [frame.rgb for frame in map(due.push, source.frames()) if frame is not None]


def _against(whole: np.ndarray, other: np.ndarray, clips: Sequence[DemoClip], name: str) -> Accuracy:
    positive = np.array([clip.label != "normal" for clip in clips])
    sources = np.array([clip.source for clip in clips])
    rng = np.random.default_rng(0)
    names = np.unique(sources)
    lost = []
    for _ in range(_BOOTSTRAPS):
        rows = np.concatenate([np.flatnonzero(sources == source) for source in rng.choice(names, len(names))])
        if 0 < positive[rows].sum() < len(rows):
            lost.append(_auc(positive[rows], whole[rows]) - _auc(positive[rows], other[rows]))
    low, high = np.quantile(lost, [0.025, 0.975])
    return Accuracy(
        way=name,
        clips=len(clips),
        roc_auc=_auc(positive, other),
        lost_points=100 * (_auc(positive, whole) - _auc(positive, other)),
        lost_points_low=100 * float(low),
        lost_points_high=100 * float(high),
        mean_change=float(np.abs(whole - other).mean()),
    )


def _auc(positive: np.ndarray, scores: np.ndarray) -> float:
    return float(roc_auc_score(positive, scores))


__all__ = ["WAYS", "Accuracy", "Way", "measure_accuracy", "views_of"]
