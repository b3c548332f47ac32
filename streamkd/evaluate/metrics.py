"""What an evaluation reports: figures of two-class and several-class scores, with a bootstrap over sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FloatVector = NDArray[np.float64]
ECE_BINS = 10


@dataclass(frozen=True, slots=True)
class ActionMetrics:
    """Figures of one set of scores.

    With two classes, precision, recall, F1, ROC AUC and average precision are those of the foreground class; with more,
    they are means over the foreground classes (one against the rest). A figure that can't be computed is None.
    """

    n: int
    accuracy: float
    precision: float
    recall: float
    f1: float
    roc_auc: float | None
    average_precision: float | None
    ece: float


def expected_calibration_error(probs: FloatVector, labels: NDArray[np.int64], bins: int = ECE_BINS) -> float:
    """Mean gap of confidence and accuracy over equal-width bins of confidence (Guo et al., ICML 2017).

    Args:
        probs: `[N, C]`.
        labels: `[N]` class indices.
        bins: Number of bins.
    """
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        np.mean(which == b) * abs(right[which == b].mean() - confidence[which == b].mean())
        for b in range(bins)
        if np.any(which == b)
    ]
    return float(sum(gaps))


def roc_auc(scores: FloatVector, positive: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve, None with one class only."""
    if positive.all() or not positive.any():
        return None
    return float(roc_auc_score(positive, scores))


def action_metrics(
    probs: FloatVector, labels: NDArray[np.int64], classes: Sequence[str], background: str
) -> ActionMetrics:
    """All figures of `probs [N, C]` against class indices `labels [N]`; a decision is the most probable class."""
    decided = probs.argmax(axis=1)
    per_class: list[tuple[float, float, float, float | None, float | None]] = []
    for index, name in enumerate(classes):
        positive, said = labels == index, decided == index
        if name == background or not positive.any():
            continue
        hits = float(np.sum(positive & said))
        precision = hits / said.sum() if said.any() else 0.0
        recall = hits / positive.sum()
        f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
        area = roc_auc(probs[:, index], positive)
        ap = None if area is None else float(average_precision_score(positive, probs[:, index]))
        per_class.append((precision, recall, f1, area, ap))
    return ActionMetrics(
        n=len(labels),
        accuracy=float(np.mean(decided == labels)),
        precision=_mean([one[0] for one in per_class]) or 0.0,
        recall=_mean([one[1] for one in per_class]) or 0.0,
        f1=_mean([one[2] for one in per_class]) or 0.0,
        roc_auc=_mean([one[3] for one in per_class]),
        average_precision=_mean([one[4] for one in per_class]),
        ece=expected_calibration_error(probs, labels),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def bootstrap_by_source(
    figure: Callable[[NDArray[np.int64]], float | None],
    sources: Sequence[str],
    *,
    rng: np.random.Generator,
    rounds: int = 1000,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Percentile interval of `figure(indices)` when whole sources are drawn with replacement.

    Args:
        figure: Takes indices of clips; may answer None (one class only), such rounds don't count.
        sources: One per clip.
        rng: Where the draws come from.
        rounds: Number of draws.
        level: Of the interval.

    Returns:
        Lower and upper bound, or None when no round gave a figure.
    """
    groups: dict[str, list[int]] = {}
    for index, source in enumerate(sources):
        groups.setdefault(source, []).append(index)
    members = [np.asarray(group, dtype=np.int64) for group in groups.values()]
    values: list[float] = []
    for _ in range(rounds):
        drawn = rng.integers(0, len(members), len(members))
        value = figure(np.concatenate([members[i] for i in drawn]))
        if value is not None:
            values.append(value)
    if not values:
        return None
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return float(low), float(high)


__all__ = [
    "ECE_BINS",
    "ActionMetrics",
    "action_metrics",
    "bootstrap_by_source",
    "expected_calibration_error",
    "roc_auc",
]
