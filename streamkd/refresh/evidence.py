"""Gathering what the gate looks at: both students on labelled and on held-out clips, and their speed. No torch.

`judge` is a job of its own: a separate process of the lowest priority calls it by name.
"""

from __future__ import annotations

import itertools
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
from streamkd.refresh.looks import Look, measure, restyle, typical
from streamkd.refresh.verdicts import event_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
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
_TOGETHER = 8  # clips in memory at a time, and in a batch


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
    looks = _looks(clips, spec)
    compared = [_on_anchors(AS_FILMED, anchors, [one.frames for one in anchors], engines)]
    for index, (group, look) in enumerate(looks.items()):
        progress("labelled clips", (index + 1) / (len(looks) + 1))
        rng = np.random.default_rng([seed, index])
        compared.append(_on_anchors(group, anchors, (restyle(one.frames, look, rng) for one in anchors), engines))
    judges = _judge_probs(labels, spec.classes)
    site: list[Paired] = []
    for index, group in enumerate(looks):
        progress("held-out clips", (index + 1) / len(looks))
        held_out = [clip for clip in clips if clip.held_out and clip.group == group and clip.sha256 in judges]
        # A clip is a unit of its own: no two of them share a moment, see `split_moments`.
        found = _pair(group, ((c.sha256, judges[c.sha256], shown) for c, shown in _decoded(held_out, spec)), engines)
        if found is not None:
            site.append(found)
    progress("judged events", 0.0)
    operators = _on_verdicts(verdicts, engines)
    progress("timing", 0.0)
    times = time_steps(engines)
    progress("timing", 1.0)
    return GateEvidence(tuple(compared), tuple(site), times[0], times[1], spec.classes, spec.background, operators)


def time_steps(engines: tuple[InferenceEngine, InferenceEngine]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """CPU milliseconds of single steps `[K]` of both, one after the other in turns, who is first changing each time.

    Processor time of this process, which the gate has to itself, and not the time that passes: a job of the lowest
    priority beside live cameras waits most of the time, and how long it waits says nothing about the student.
    """
    times: tuple[list[float], list[float]] = ([], [])
    size = engines[0].spec.input_size
    frame = np.full((1, size, size, 3), 127, dtype=np.uint8)
    states = [[engine.init_state()] for engine in engines]
    for turn in range(_TIMED_STEPS + _UNTIMED_STEPS):
        for which in (0, 1) if turn % 2 else (1, 0):
            began_s = time.process_time()
            _, states[which] = engines[which].step(frame, states[which])
            if turn >= _UNTIMED_STEPS:
                times[which].append((time.process_time() - began_s) * 1e3)
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


def _decoded(clips: Iterable[SiteClip], spec: StudentSpec) -> Iterator[tuple[SiteClip, UInt8Array]]:
    """Clip by clip: views are large, and there may be hundreds of them."""
    for clip in clips:
        try:
            frames = _frames(clip.path, spec)
        except UnsupportedMediaError:  # deleted meanwhile: one piece of evidence less
            continue
        yield clip, frames


def _looks(clips: Sequence[SiteClip], spec: StudentSpec) -> dict[str, Look]:
    """How each group's clips look."""
    seen: dict[str, list[Look]] = {}
    for clip, frames in _decoded(clips, spec):
        seen.setdefault(clip.group, []).append(measure(frames))
    return {group: typical(seen[group]) for group in sorted(seen)}


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
    frames: Iterable[UInt8Array],
    engines: tuple[InferenceEngine, InferenceEngine],
) -> Paired:
    truth = np.eye(len(engines[0].spec.classes))
    found = _pair(name, ((one.source, truth[one.label], f) for one, f in zip(anchors, frames, strict=True)), engines)
    assert found is not None, "there are anchors"
    return found


def _on_verdicts(verdicts: Sequence[VerdictClip], engines: tuple[InferenceEngine, InferenceEngine]) -> Paired | None:
    return _pair(OPERATORS, _shown(verdicts, engines[0].spec), engines)


def _shown(verdicts: Sequence[VerdictClip], spec: StudentSpec) -> Iterator[tuple[str, NDArray[np.float64], UInt8Array]]:
    truth = np.eye(len(spec.classes))
    for clip in verdicts:
        try:
            frames = event_frames(clip, spec) if clip.label is None or clip.label in spec.classes else None
        except UnsupportedMediaError:  # deleted meanwhile
            continue
        if frames is not None:
            yield clip.unit, truth[spec.classes.index(clip.label or spec.background)], frames


def _pair(
    name: str,
    shown: Iterable[tuple[str, NDArray[np.float64], UInt8Array]],
    engines: tuple[InferenceEngine, InferenceEngine],
) -> Paired | None:
    """Unit, reference and frames of each clip, scored by both a few clips at a time; None where there is no clip."""
    units: list[str] = []
    reference: list[NDArray[np.float64]] = []
    scores: tuple[list[NDArray[np.float64]], ...] = ([], [])
    rest = iter(shown)
    while some := list(itertools.islice(rest, _TOGETHER)):
        units += [unit for unit, _, _ in some]
        reference += [row for _, row, _ in some]
        for engine, rows in zip(engines, scores, strict=True):
            probs = score_clips(engine, [frames for _, _, frames in some], batch=_TOGETHER)
            rows += [clip_score(one, engine.spec.warmup_frames) for one in probs]
    if not units:
        return None
    parent, candidate = (np.stack(rows) for rows in scores)
    return Paired(name, tuple(units), np.stack(reference), parent, candidate)


__all__ = ["gather", "judge", "time_steps"]
