"""How well a student names actions on a folder of labelled clips, measured on its int8 export, streaming. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GroupKFold

from streamkd.errors import InputError
from streamkd.evaluate.metrics import action_metrics, bootstrap_by_source, roc_auc
from streamkd.evaluate.score import clip_score, score_clips

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from streamkd.bundle import Bundle
    from streamkd.engine.base import InferenceEngine
    from streamkd.evaluate.dataset import ClipRecord, FrameCache


@dataclass(frozen=True, slots=True)
class ClipAnswer:
    """What the student said about one clip."""

    file: str
    label: str
    source: str
    probs: tuple[float, ...]
    in_lineage: bool


@dataclass(frozen=True, slots=True)
class ActionReport:
    """Figures over a folder, and what to know before believing them.

    Attributes:
        metrics: The figures (see `ActionMetrics`).
        intervals: 95 % intervals by source for `accuracy` and `roc_auc`, where they can be computed.
        shortcut_roc_auc: What size and frame rate alone would reach, by source; None where unknown.
        answers: Per clip.
        unknown_labels: Labels in the folder that the student has no class for; such clips are left out.
    """

    model: str
    metrics: dict[str, Any]
    intervals: dict[str, tuple[float, float]]
    shortcut_roc_auc: float | None
    answers: tuple[ClipAnswer, ...]
    unknown_labels: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Flat figures first, then the details."""
        return {
            **self.metrics,
            "model": self.model,
            "intervals": {name: list(bounds) for name, bounds in self.intervals.items()},
            "shortcut_roc_auc": self.shortcut_roc_auc,
            "unknown_labels": list(self.unknown_labels),
            "in_lineage": [answer.file for answer in self.answers if answer.in_lineage],
            "clips": [asdict(answer) for answer in self.answers],
        }


def evaluate_actions(
    bundle: Bundle,
    engine: InferenceEngine,
    records: Sequence[ClipRecord],
    cache: FrameCache,
    progress: Callable[[str, float], None],
) -> ActionReport:
    """Score every clip from zero state and compare.

    Args:
        bundle: The student's bundle.
        engine: Runs it.
        records: Labelled clips that can be decoded.
        cache: Their frames.
        progress: Told which share is done.

    Raises:
        InputError: No clip has a label that the student knows.
    """
    spec = bundle.spec
    known = [record for record in records if record.label in spec.classes]
    unknown = tuple(sorted({record.label for record in records} - set(spec.classes)))
    if not known:
        raise InputError(
            f"No clip has a label that student {spec.version} knows ({', '.join(spec.classes)}).",
            hint="Rename the labels, or train a student on these clips.",
        )
    trained_on = set(bundle.lineage.data_sha256)
    answers: list[ClipAnswer] = []
    rows: list[NDArray[np.float64]] = []
    for start in range(0, len(known), 8):
        group = known[start : start + 8]
        frames = [cache.load_view(record, spec).frames for record in group]
        for record, probs in zip(group, score_clips(engine, frames), strict=True):
            row = clip_score(probs, spec.warmup_frames)
            rows.append(row)
            seen = record.sha256 in trained_on
            answers.append(ClipAnswer(record.file, record.label, record.source, tuple(row.tolist()), seen))
        progress("scoring", len(rows) / len(known))
    scores = np.stack(rows)
    labels = np.array([spec.classes.index(record.label) for record in known])
    return ActionReport(
        model=spec.version,
        metrics=asdict(action_metrics(scores, labels, spec.classes, spec.background)),
        intervals=_intervals(scores, labels, spec.classes, spec.background, [record.source for record in known]),
        shortcut_roc_auc=shortcut_auc(known, spec.background),
        answers=tuple(answers),
        unknown_labels=unknown,
    )


def _intervals(
    scores: NDArray[np.float64], labels: NDArray[np.int64], classes: Sequence[str], background: str, sources: list[str]
) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    rng = np.random.default_rng(0)
    foreground = [i for i, name in enumerate(classes) if name != background]

    def area(index: NDArray[np.int64]) -> float | None:
        values = [roc_auc(scores[index][:, i], labels[index] == i) for i in foreground]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    figures: dict[str, Callable[[NDArray[np.int64]], float | None]] = {
        "accuracy": lambda index: float(np.mean(scores[index].argmax(axis=1) == labels[index])),
        "roc_auc": area,
    }
    for name, figure in figures.items():
        bounds = bootstrap_by_source(figure, sources, rng=rng)
        if bounds is not None:
            found[name] = bounds
    return found


def shortcut_auc(records: Sequence[ClipRecord], background: str) -> float | None:
    """ROC AUC of "not background" from width, height and frame rate alone: a random forest, out of fold by source.

    None where the list names no sizes, or where there are fewer than two sources or classes.
    """
    shortcuts = [record.shortcut for record in records]
    positive = np.array([record.label != background for record in records])
    sources = [record.source for record in records]
    folds = min(5, len(set(sources)))
    one_class = positive.all() or not positive.any()
    if not shortcuts[0] or len({len(one) for one in shortcuts}) != 1 or folds < 2 or one_class:
        return None
    x = np.array(shortcuts)
    scores = np.zeros(len(x))
    for train, test in GroupKFold(folds).split(x, positive, sources):
        if positive[train].all() or not positive[train].any():
            scores[test] = positive[train].mean()
            continue
        forest = RandomForestClassifier(300, min_samples_leaf=3, random_state=0, n_jobs=1)
        forest.fit(x[train], positive[train])
        scores[test] = forest.predict_proba(x[test])[:, 1]
    return roc_auc(scores, positive)


__all__ = ["ActionReport", "ClipAnswer", "evaluate_actions", "shortcut_auc"]
