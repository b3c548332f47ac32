"""One row, one seed: train a head a fold, and measure it as the exported int8 student would be."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from streamkd.distill.bench.rows import Row
from streamkd.distill.features import FeatureSet
from streamkd.distill.heads import fit_hidden
from streamkd.distill.inherit import inherit_motion, motion_means
from streamkd.distill.local_teacher import LocalTeacher, fit_logistic
from streamkd.distill.quantise import refit_recipe
from streamkd.distill.run import forward, head_logits, train_head
from streamkd.distill.train import set_standardiser
from streamkd.evaluate.calibrate import scored_frames, softmax
from streamkd.evaluate.detection import Segment, mean_average_precision, propose, true_segments
from streamkd.evaluate.forecast import ForecastStream, forecast_figures
from streamkd.evaluate.goals import alarm_score, seed_auc
from streamkd.evaluate.joined import Junction, delays, threshold_for
from streamkd.models.student import Student, student_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from streamkd.distill.bench.data import BenchData, JoinedSource, LongStream
    from streamkd.distill.signals import TeacherSignals

SMOOTH_FRAMES, MIN_FRAMES = 5, 3  # the live rule: a causal mean of 1 s at 5 Hz, reached three times in a row
FALSE_SHARE = 0.1  # of normal clips of the other folds may reach the threshold that delays are measured at
WARMUP = 4
TAUGHT = {"linear-teacher", "imitation"}  # what asks a teacher before it begins


@dataclass(frozen=True, slots=True)
class FoldAnswers:
    """What the student of one fold said of that fold's clips and streams.

    Attributes:
        clips: Which clips.
        plain: Action logits `[T, C]` of each by the float trunk.
        int8: The same by the int8 trunk.
        long: Action logits `[T, C]` of the long stream, and which clips it plays.
        joined: Action `[T, C]` and forecast `[T, K, C]` logits of each joined stream.
    """

    clips: tuple[int, ...]
    plain: tuple[NDArray[np.float32], ...]
    int8: tuple[NDArray[np.float32], ...]
    long: tuple[NDArray[np.float32], tuple[int, ...]] | None
    joined: tuple[tuple[JoinedSource, NDArray[np.float32], NDArray[np.float32]], ...]


@dataclass(frozen=True, slots=True)
class Budget:
    """The same for every row."""

    epochs: int
    variants: int
    folds: tuple[int, ...]


class Bench:
    """Rows over one set of data; teachers are fitted once for each set of visible labels.

    Args:
        data: What all rows share.
        budget: The same for every row.
        teacher: In place of the benchmark's own.
        folder: Where the benchmark's own keeps its answers.
    """

    def __init__(
        self, data: BenchData, budget: Budget, teacher: TeacherSignals | None = None, folder: Path | None = None
    ) -> None:
        self.data, self.budget = data, budget
        self._given, self._folder = teacher, folder
        self._teachers: dict[str, LocalTeacher] = {}
        rng = np.random.default_rng(0)
        self._random = rng.permutation(np.arange(len(data.labels)) % max(2, len(set(data.folds))))

    def teacher_scores(self) -> NDArray[np.float64]:
        """Foreground probability `[N]` of the teacher, each clip by heads that saw nothing of its source."""
        said = self.signals("all").logits
        assert said is not None
        return np.asarray(1.0 - said.double().softmax(dim=-1)[:, 0].numpy(), dtype=np.float64)

    def run(self, row: Row, seed: int, progress: Callable[[str, float], None]) -> dict[str, Any]:
        """Train and measure; the result is plain JSON."""
        began = time.monotonic()
        answers: dict[int, FoldAnswers] = {}
        for number, fold in enumerate(self.budget.folds):
            if row.site:
                halves = site_halves(self.data, fold)
                for half, clips in enumerate(halves):
                    head = self._train(row, seed, fold, halves[1 - half])
                    answers[len(halves) * fold + half] = self._ask(head, row, fold, clips)
            else:
                answers[fold] = self._ask(self._train(row, seed, fold), row, fold)
            progress(row.name, (number + 1) / len(self.budget.folds))
        figures = summarise(self.data, answers)
        return {
            "row": row.name,
            "family": row.family,
            "seed": seed,
            **figures,
            "took_s": round(time.monotonic() - began, 1),
        }

    def _train(self, row: Row, seed: int, fold: int, site: Sequence[int] = ()) -> Student:
        """A head of the other folds' clips, and of those of `site` without their labels."""
        data, budget = self.data, self.budget
        folds = np.asarray(data.folds) if row.split == "source" else self._random
        inside = np.flatnonzero(folds != fold).tolist()
        visible = set(visible_labels(data, row.labelled))
        if row.hidden == "out":
            inside = [i for i in inside if i in visible]
        inside += site
        labels = [data.labels[i] if i in visible and i not in site else -1 for i in inside]
        shown = (data.int8 if row.shown == "int8" else data.raw).subset(inside)
        signals = self.signals(row.labelled, fold).subset(inside) if row.teacher or row.start in TAUGHT else None
        start = None
        if row.start == "linear-teacher":
            start = linear_start(shown, labels, data.classes, seed)
        elif row.start == "apart":
            start = new_head(shown, data.classes, seed)
            read_motion_apart(start, shown, labels)
        elif row.start == "imitation":
            first = Row("imitation", "response", ({"name": "response"},)).recipe(budget.epochs // 2, budget.variants)
            start = train_head(shown, labels, signals, first, seed, classes=data.classes).student
        given = _needed(signals, row) if row.teacher and signals is not None else None
        refit = budget.epochs // 3 if row.shown == "refit" else 0
        recipe = row.recipe(budget.epochs - refit, budget.variants)
        names = [data.records[i].file for i in inside]
        head = train_head(shown, labels, given, recipe, seed, classes=data.classes, student=start, names=names).student
        if not refit:
            return head
        last = refit_recipe(row.recipe(refit, budget.variants))
        return train_head(
            data.int8.subset(inside), labels, given, last, seed, classes=data.classes, student=head
        ).student

    def _ask(self, head: Student, row: Row, fold: int, clips: Sequence[int] | None = None) -> FoldAnswers:
        """About all clips of a fold and its streams, or about some clips only."""
        folds = np.asarray(self.data.folds) if row.split == "source" else self._random
        outside = np.flatnonzero(folds == fold).tolist() if clips is None else clips
        by_source = row.split == "source" and clips is None
        return ask_head(
            head,
            outside,
            self.data.raw.subset(outside),
            self.data.int8.subset(outside),
            self.data.long.get(fold) if by_source else None,
            self.data.joined.get(fold, ()) if by_source else (),
        )

    def signals(self, labelled: str, *out: int) -> TeacherSignals:
        """What the teacher says of all clips, for the student that is measured on the folds `out`."""
        if self._given is not None and labelled == "all":
            return self._given
        if labelled not in self._teachers:
            data, visible = self.data, visible_labels(self.data, labelled)
            self._teachers[labelled] = LocalTeacher(
                data.teacher, data.records, visible, data.folds, data.classes, self._folder
            )
        return self._teachers[labelled].signals(*out)


def _needed(signals: TeacherSignals, row: Row) -> TeacherSignals:
    """Without what no objective of the row reads: looking it up for every frame takes time."""
    names = {one["name"] for one in row.objectives}
    return replace(
        signals,
        frame_features=signals.frame_features if "attention" in names else None,
        modalities=signals.modalities if names & {"motion", "cross-modal"} else {},
    )


def visible_labels(data: BenchData, labelled: str) -> list[int]:
    """Which clips keep their label: all, a quarter of each fold's, or two a class and fold."""
    if labelled == "all":
        return list(range(len(data.labels)))
    rng = np.random.default_rng(1)
    chosen: list[int] = []
    for fold in sorted(set(data.folds)):
        here = [i for i, one in enumerate(data.folds) if one == fold]
        share = len(here) // 4 if labelled == "quarter" else 2 * len(data.classes)
        for label in sorted(set(data.labels)):
            clips = [i for i in here if data.labels[i] == label]
            chosen += rng.permutation(clips)[: max(1, share // len(set(data.labels)))].tolist()
    return sorted(chosen)


def site_halves(data: BenchData, fold: int) -> tuple[list[int], list[int]]:
    """A fold's clips, every other one of each source: what a site has harvested, and what is measured, in turn."""
    halves: tuple[list[int], list[int]] = ([], [])
    rng = np.random.default_rng([2, fold])
    inside = [i for i, one in enumerate(data.folds) if one == fold]
    for source in dict.fromkeys(data.records[i].source for i in inside):
        own = rng.permutation([i for i in inside if data.records[i].source == source]).tolist()
        first = int(rng.integers(0, 2))
        for number, clip in enumerate(own):
            halves[(number + first) % 2].append(clip)
    return halves


def linear_start(shown: FeatureSet, labels: Sequence[int], classes: Sequence[str], seed: int) -> Student:
    """A student whose direct reading is a linear teacher's: logistic regression on the mean of what the head sees.

    A linear reading of every frame, averaged over a clip, is the reading of the clip's average.
    """
    student = new_head(shown, classes, seed)
    with torch.no_grad():
        rows = torch.stack(
            [student.standardise(one[1:] if len(one) > 1 else one).mean(dim=0) for one in map(_float, shown.plain)]
        )[:, : student.changes]
        known = np.array(labels) >= 0
        target = fit_logistic(rows, known, np.array(labels), 1e-3)
        # The regression standardises once more; least squares gives back its weights on what the head reads.
        design = torch.cat([rows, torch.ones(len(rows), 1)], dim=1).double()
        weights = torch.linalg.lstsq(design, torch.from_numpy(target), driver="gelsd").solution.float().T
        student.direct.weight[: len(classes)] = weights[:, :-1]
        student.direct.bias[: len(classes)] = weights[:, -1]
    return student


def new_head(shown: FeatureSet, classes: Sequence[str], seed: int) -> Student:
    """A student with a fresh head, standardised on these features."""
    torch.manual_seed(seed)
    student = Student(student_spec("new", tuple(classes), background=classes[0]))
    set_standardiser(student, shown)
    return student


def read_motion_apart(student: Student, shown: FeatureSet, labels: Sequence[int]) -> None:
    """Fit the reading of motion on whole clips of the student's own numbers: what no teacher is needed for."""
    known = [index for index, label in enumerate(labels) if label >= 0]
    labelled, classes = shown.subset(known), len(student.spec.classes)
    means = motion_means(student, labelled)
    inherit_motion(student, labelled, fit_hidden(means, np.array(labels)[known], classes, seed=0))


def _float(value: torch.Tensor) -> torch.Tensor:
    return value.float()


def ask_head(
    head: Student,
    clips: Sequence[int],
    plain: FeatureSet,
    int8: FeatureSet,
    long: LongStream | None,
    joined: Sequence[JoinedSource],
) -> FoldAnswers:
    """Everything that one fold's student says."""
    said: list[tuple[JoinedSource, NDArray[np.float32], NDArray[np.float32]]] = []
    with torch.inference_mode():
        head.eval()
        for one in joined:
            action, forecast, _ = forward(head, one.raw[None].float())
            said.append((one, action[0].numpy().copy(), forecast[0].numpy().copy()))
        stream = None if long is None else forward(head, long.raw[None].float())[0][0].numpy().copy()
    return FoldAnswers(
        tuple(clips),
        tuple(one.numpy() for one in head_logits(head, plain)),
        tuple(one.numpy() for one in head_logits(head, int8)),
        None if long is None or stream is None else (stream, long.clips),
        tuple(said),
    )


def summarise(data: BenchData, answers: dict[int, FoldAnswers]) -> dict[str, Any]:
    """All figures of one row and seed, from what the students of its folds said."""
    order = [i for fold in answers for i in answers[fold].clips]
    plain = _clip_scores([one for fold in answers for one in answers[fold].plain])
    int8 = _clip_scores([one for fold in answers for one in answers[fold].int8])
    alarms = np.array([_alarm(one) for fold in answers for one in answers[fold].int8])
    place = {clip: row for row, clip in enumerate(order)}
    result: dict[str, Any] = {
        "clips": order,
        "float": np.round(plain, 5).tolist(),
        "int8": np.round(int8, 5).tolist(),
        "alarm": np.round(alarms, 5).tolist(),
    }
    streams = [one.long for one in answers.values() if one.long is not None]
    if streams:
        result["long"] = _long_figures(data, streams)
    joined = {fold: one.joined for fold, one in answers.items() if one.joined}
    if joined:
        normal = {i for i in order if data.labels[i] == 0}
        result["delay"] = _delay_figures(joined, data, {i: float(alarms[place[i]]) for i in normal})
        result["forecast"] = _forecast_figures(data, [one for fold in joined for one in joined[fold]])
    return result


def _probs(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Foreground probability over the last axis: what is not background."""
    return 1.0 - softmax(logits)[..., 0]


def _clip_scores(logits: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    return np.array([_probs(one)[scored_frames(WARMUP, len(one))].mean() for one in logits])


def _alarm(logits: NDArray[np.floating]) -> float:
    return alarm_score(_probs(logits), smooth_frames=SMOOTH_FRAMES, min_frames=MIN_FRAMES, warmup_frames=WARMUP)


def _long_figures(data: BenchData, streams: Sequence[tuple[NDArray[np.float32], tuple[int, ...]]]) -> dict[str, Any]:
    """AUC over every appearance of a clip, its frames right after the cut left out; segments against the truth."""
    spec = student_spec("figures", data.classes, background=data.classes[0])
    scores: list[float] = []
    positive: list[bool] = []
    predicted: list[Segment] = []
    truth: list[Segment] = []
    for number, (logits, clips) in enumerate(streams):
        probs, at = _probs(logits), 0
        names: list[str] = []
        for clip in clips:
            length = data.lengths[clip]
            part = probs[at : at + length]
            scores.append(float(part[scored_frames(WARMUP, length)].mean()))
            positive.append(data.labels[clip] != 0)
            names += [data.classes[data.labels[clip]]] * length
            at += length
        truth += true_segments(number, names, spec.rate_hz, spec.background)
        for label in spec.foreground:
            values = softmax(logits)[:, data.classes.index(label)]
            predicted += propose(number, label, values, spec.rate_hz, smooth_frames=SMOOTH_FRAMES)
    area = seed_auc(np.array([scores]), np.array(positive))
    found = mean_average_precision(predicted, truth)
    seconds = [len(logits) / spec.rate_hz for logits, _ in streams]
    return {
        "roc_auc": area,
        "shortest_s": min(seconds),
        "map": {f"{iou:g}": None if value is None else round(value, 4) for iou, value in found.items()},
    }


def _delay_figures(
    joined: dict[int, tuple[tuple[JoinedSource, NDArray[np.float32], NDArray[np.float32]], ...]],
    data: BenchData,
    alarms: dict[int, float],
) -> dict[str, Any]:
    """At a threshold that, in the other folds, a tenth of the normal clips reach."""
    plan: list[Junction] = []
    probs: list[NDArray[np.float64]] = []
    starts: list[int] = []
    thresholds: list[float] = []
    for fold, streams in joined.items():
        others = np.array([value for i, value in alarms.items() if data.folds[i] != fold] or list(alarms.values()))
        for one, action, _ in streams:
            plan.append(one.plan)
            probs.append(_probs(action))
            starts.append(one.start)
            thresholds.append(threshold_for(others, FALSE_SHARE))
    return asdict(
        delays(plan, probs, starts, thresholds, rate_hz=5.0, smooth_frames=SMOOTH_FRAMES, min_frames=MIN_FRAMES)
    )


def _forecast_figures(
    data: BenchData, streams: Sequence[tuple[JoinedSource, NDArray[np.float32], NDArray[np.float32]]]
) -> list[dict[str, Any]]:
    spec = student_spec("figures", data.classes, background=data.classes[0])
    shown: list[ForecastStream] = []
    for one, action, forecast in streams:
        labels = np.concatenate([np.full(data.lengths[i], data.labels[i]) for i in one.plan.clips])
        shown.append(ForecastStream(softmax(action), softmax(forecast), labels, WARMUP))
    foreground = [data.classes.index(name) for name in spec.foreground]
    return [asdict(one) for one in forecast_figures(shown, spec.forecast_horizons_s, spec.rate_hz, foreground)]


__all__ = ["Bench", "Budget", "FoldAnswers", "ask_head", "linear_start", "site_halves", "summarise"]
