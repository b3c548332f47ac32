"""What slowing a camera costs in accuracy: the student on labelled clips in a row, with only what a pace leaves."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import roc_auc_score

from streamkd.engine import open_engine
from streamkd.engine.students import Students
from streamkd.media.pace import KEYFRAMES_PACE, Thinning, thin_out
from streamkd.media.prepare import join_clips
from streamkd.media.recording import LOOP_FILTER
from streamkd.types import Frame
from streamkd_service.bench.accuracy import views_of
from streamkd_service.bench.rtsp import CRF
from streamkd_service.demo_media import read_clips

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamkd.engine import InferenceEngine
    from streamkd.types import FloatArray, UInt8Array

GROUP_S = 2.0  # of the benchmark's cameras
_SEEDS, _PHASES = 3, 3


@dataclass(frozen=True, slots=True)
class PaceAccuracy:
    """ROC AUC of clips in a row at one pace: mean, least and most over orders of the clips and where groups begin."""

    way: str
    analysed_share: float
    roc_auc: float
    least: float
    most: float


def measure_paces(
    folders: Sequence[Path], bundle: Path, say: Callable[[str], None] = lambda _: None
) -> list[PaceAccuracy]:
    """Score the clips of some folders (with a clips.csv) at every pace, in both ways of slowing down.

    They are coded as the benchmark's cameras are and follow each other without a reset, in several orders; groups of
    pictures begin anywhere in a clip. A clip's score is the mean probability of the foreground over those of its frames
    that are analysed, or the last one before it.
    """
    told = [clip for folder in folders for clip in read_clips(folder)]
    engine = open_engine(bundle)
    engine.warm()
    clips = []
    with tempfile.TemporaryDirectory(prefix="streamkd-bench-") as temporary:
        coded = Path(temporary) / "clip.mp4"
        for clip in told:
            join_clips([clip.path], coded, min_duration_s=0.0, crf=CRF)
            clips.append(views_of(coded, engine.spec, LOOP_FILTER["nonkey"]))
    positive = [clip.label != "normal" for clip in told]
    found = []
    for way, thinning in ways().items():
        say(f"Scoring {len(clips)} clips in a row: {way}")
        found.append(_measure(way, thinning, clips, positive, engine))
    return found


def ways() -> dict[str, Thinning]:
    """What is compared, by name."""
    named = {"everything": thin_out(0, GROUP_S)}
    for pace in range(1, KEYFRAMES_PACE):
        named[f"one due frame of {2**pace}"] = thin_out(pace, None)
        named[f"the first 1/{2**pace} of each group"] = thin_out(pace, GROUP_S)
    return named | {"keyframes only": thin_out(KEYFRAMES_PACE, GROUP_S)}


def _measure(
    way: str,
    thinning: Thinning,
    clips: Sequence[Sequence[UInt8Array]],
    positive: Sequence[bool],
    engine: InferenceEngine,
) -> PaceAccuracy:
    per_group = round(GROUP_S * engine.spec.rate_hz)
    aucs, shares = [], []
    for seed in range(_SEEDS):
        order: list[int] = np.random.default_rng(seed).permutation(len(clips)).tolist()
        for phase in range(0, per_group, -(-per_group // _PHASES)):
            kept = [keeps(thinning, number + phase, per_group) for number in range(sum(map(len, clips)))]
            aucs.append(float(roc_auc_score(positive, score_in_a_row(clips, order, kept, engine))))
            shares.append(float(np.mean(kept)))
    return PaceAccuracy(way, float(np.mean(shares)), float(np.mean(aucs)), min(aucs), max(aucs))


def keeps(thinning: Thinning, number: int, per_group: int) -> bool:
    """Whether a due frame is analysed; it is the `number`th since a group began, and so many are due in each."""
    in_group = number % per_group
    if thinning.keyframes_only:
        return in_group == 0
    return in_group < thinning.group_share * per_group and number % round(1.0 / thinning.rate_share) == 0


def score_in_a_row(
    clips: Sequence[Sequence[UInt8Array]], order: Sequence[int], kept: Sequence[bool], engine: InferenceEngine
) -> FloatArray:
    """The score of each clip, `[n]`, where they are shown to one camera in some order, and frames as they are kept."""
    students, spec = Students(engine), engine.spec
    foreground = spec.classes.index(spec.foreground[0])
    grey = np.zeros((1, 1), np.uint8)  # nobody looks at it here
    scores, last, number = np.zeros(len(clips), np.float32), 1.0 / len(spec.classes), 0
    for place in order:
        said = []
        for view in clips[place]:
            if kept[number]:
                at_s = number / spec.rate_hz
                students.begin([Frame("clips", 0, at_s, at_s, view, grey)])
                while not (answers := students.advance()):
                    pass
                last = float(answers[0][1].action[foreground])
                said.append(last)
            number += 1
        scores[place] = np.mean(said) if said else last
    return scores


__all__ = ["GROUP_S", "PaceAccuracy", "keeps", "measure_paces", "score_in_a_row", "ways"]
