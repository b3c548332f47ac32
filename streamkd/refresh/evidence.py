"""Gathering what the gate looks at: both students on labelled and on held-out clips, and their speed. No torch.

`judge` is a job of its own: a separate process of the lowest priority calls it by name.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamkd.distill.labels import read_labels
from streamkd.engine import open_engine
from streamkd.errors import InputError, UnsupportedMediaError
from streamkd.evaluate.dataset import read_dataset
from streamkd.evaluate.score import clip_score, score_clips
from streamkd.media.clips import decode_clip
from streamkd.refresh.gate import AS_FILMED, OPERATORS, GateEvidence, GateLimits, GateReport, Paired, decide
from streamkd.refresh.looks import measure, restyle, typical
from streamkd.refresh.verdicts import event_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from streamkd.bundle import StudentSpec
    from streamkd.engine import InferenceEngine
    from streamkd.refresh.steps import SiteClip
    from streamkd.refresh.verdicts import VerdictClip
    from streamkd.types import UInt8Array

    Progress = Callable[[str, float], None]

_TIMED_STEPS = 60
_UNTIMED_STEPS = 5


@dataclass(frozen=True, slots=True)
class _Anchor:
    frames: UInt8Array
    label: int
    source: str


def judge(
    parent_bundle: Path,
    candidate_bundle: Path,
    anchor_dir: Path,
    *,
    labels: Path,
    clips: Sequence[SiteClip],
    out: Path,
    limits: GateLimits,
    seed: int,
    verdicts: Sequence[VerdictClip] = (),
    progress: Progress,
) -> GateReport:
    """Compare candidate and parent, and write the report.

    Args:
        parent_bundle: The live student.
        candidate_bundle: The one that wants its place.
        anchor_dir: Clips with human labels (`clips.csv` with `file,label,source`).
        labels: Folder with the teacher's labels of the site's clips.
        clips: The site's clips.
        out: JSON file of the report.
        limits: What is demanded.
        seed: Of the bootstrap and the grain of restyled clips.
        verdicts: Events that operators have judged.
        progress: Told what is being done and which share of it is done.

    Raises:
        BundleError: A bundle is damaged.
        InputError: The anchor clips or the labels can't be read.
    """
    engines = (open_engine(parent_bundle), open_engine(candidate_bundle))
    found = gather(engines, anchor_dir, labels, clips, seed=seed, progress=progress, verdicts=verdicts)
    report = decide(found, limits, seed=seed)
    partial = out.with_name(f".{out.name}.partial")
    partial.write_text(json.dumps(report.as_json(), indent=1), encoding="utf-8")
    partial.replace(out)
    return report


def gather(
    engines: tuple[InferenceEngine, InferenceEngine],
    anchor_dir: Path,
    labels: Path,
    clips: Sequence[SiteClip],
    *,
    seed: int,
    progress: Progress,
    verdicts: Sequence[VerdictClip] = (),
) -> GateEvidence:
    """Scores of parent and candidate (in this order) on everything, and their step times."""
    spec = engines[0].spec
    if engines[1].spec.classes != spec.classes:
        raise InputError(
            f"Candidate {engines[1].version} knows {', '.join(engines[1].spec.classes)}, "
            f"its parent {', '.join(spec.classes)}.",
            hint="A refresh keeps the classes; train a new student for others.",
        )
    anchors = _read_anchors(anchor_dir, engines[0])
    frames = _decode(clips, engines[0])
    groups = sorted({clip.group for clip in frames})
    compared = [_on_anchors(AS_FILMED, anchors, [one.frames for one in anchors], engines)]
    for index, group in enumerate(groups):
        progress("labelled clips", (index + 1) / (len(groups) + 1))
        look = typical([measure(shown) for clip, shown in frames.items() if clip.group == group])
        rng = np.random.default_rng([seed, index])
        compared.append(_on_anchors(group, anchors, [restyle(one.frames, look, rng) for one in anchors], engines))
    judges = _judge_probs(labels, spec.classes)
    site: list[Paired] = []
    for index, group in enumerate(groups):
        progress("held-out clips", (index + 1) / len(groups))
        held_out = [c for c in frames if c.held_out and c.group == group and c.sha256 in judges]
        if held_out:
            reference = np.stack([judges[clip.sha256] for clip in held_out])
            units = tuple(clip.sha256 for clip in held_out)  # no two of them share a moment: see `split_moments`
            site.append(_pair(group, units, reference, [frames[clip] for clip in held_out], engines))
    progress("judged events", 0.0)
    operators = _on_verdicts(verdicts, engines)
    progress("timing", 0.0)
    times = time_steps(engines)
    progress("timing", 1.0)
    return GateEvidence(tuple(compared), tuple(site), times[0], times[1], spec.classes, spec.background, operators)


def time_steps(engines: tuple[InferenceEngine, InferenceEngine]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Milliseconds of single steps `[K]` of both, one after the other in turns, who is first changing each time."""
    times: tuple[list[float], list[float]] = ([], [])
    size = engines[0].spec.input_size
    frame = np.full((1, size, size, 3), 127, dtype=np.uint8)
    states = [[engine.init_state()] for engine in engines]
    for turn in range(_TIMED_STEPS + _UNTIMED_STEPS):
        for which in (0, 1) if turn % 2 else (1, 0):
            began_s = time.perf_counter()
            _, states[which] = engines[which].step(frame, states[which])
            if turn >= _UNTIMED_STEPS:
                times[which].append((time.perf_counter() - began_s) * 1e3)
    return np.array(times[0]), np.array(times[1])


def _read_anchors(anchor_dir: Path, engine: InferenceEngine) -> list[_Anchor]:
    spec = engine.spec
    anchors = [
        _Anchor(
            _frames(record.path, spec, start_s=record.start_s, end_s=record.end_s),
            spec.classes.index(record.label),
            record.source,
        )
        for record in read_dataset(anchor_dir)
        if record.label in spec.classes
    ]
    if not anchors:
        raise InputError(
            f"No clip in {anchor_dir} has a label that the student knows ({', '.join(spec.classes)}).",
            hint="Set refresh.anchor_dir to a folder with clips of these classes.",
        )
    return anchors


def _frames(path: Path, spec: StudentSpec, *, start_s: float = 0.0, end_s: float | None = None) -> UInt8Array:
    decoded = decode_clip(
        path, spec.rate_hz, spec.view_size, keep_aspect=spec.keeps_aspect, start_s=start_s, end_s=end_s
    )
    return decoded.frames


def _decode(clips: Sequence[SiteClip], engine: InferenceEngine) -> dict[SiteClip, UInt8Array]:
    frames: dict[SiteClip, UInt8Array] = {}
    for clip in clips:
        try:
            frames[clip] = _frames(clip.path, engine.spec)
        except UnsupportedMediaError:  # deleted meanwhile: one piece of evidence less
            continue
    return frames


def _judge_probs(folder: Path, classes: tuple[str, ...]) -> dict[str, NDArray[np.float64]]:
    """By the clip's hash, what the judges say, in the student's order of classes."""
    said = read_labels(folder)
    if set(said.classes) != set(classes):
        raise InputError(
            f"Teacher {said.teacher} knows {', '.join(said.classes)}; the student knows {', '.join(classes)}.",
            hint="Use a teacher that was trained for the same classes.",
        )
    order = [said.classes.index(name) for name in classes]
    return dict(zip(said.sha256, said.probs("judge")[:, order], strict=True))


def _on_anchors(
    name: str,
    anchors: Sequence[_Anchor],
    frames: Sequence[UInt8Array],
    engines: tuple[InferenceEngine, InferenceEngine],
) -> Paired:
    reference = np.eye(len(engines[0].spec.classes))[[one.label for one in anchors]]
    return _pair(name, tuple(one.source for one in anchors), reference, frames, engines)


def _on_verdicts(verdicts: Sequence[VerdictClip], engines: tuple[InferenceEngine, InferenceEngine]) -> Paired | None:
    spec = engines[0].spec
    shown: list[tuple[VerdictClip, UInt8Array]] = []
    for clip in verdicts:
        try:
            frames = event_frames(clip, spec) if clip.label is None or clip.label in spec.classes else None
        except UnsupportedMediaError:  # deleted meanwhile
            continue
        if frames is not None:
            shown.append((clip, frames))
    if not shown:
        return None
    truth = [spec.classes.index(clip.label or spec.background) for clip, _ in shown]
    reference = np.eye(len(spec.classes))[truth]
    return _pair(OPERATORS, tuple(clip.unit for clip, _ in shown), reference, [frames for _, frames in shown], engines)


def _pair(
    name: str,
    units: tuple[str, ...],
    reference: NDArray[np.float64],
    frames: Sequence[UInt8Array],
    engines: tuple[InferenceEngine, InferenceEngine],
) -> Paired:
    parent, candidate = (
        np.stack([clip_score(probs, engine.spec.warmup_frames) for probs in score_clips(engine, frames)])
        for engine in engines
    )
    return Paired(name, units, reference, parent, candidate)


__all__ = ["gather", "judge", "time_steps"]
