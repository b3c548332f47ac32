"""The figures that say whether distillation pays: seed-averaged, paired, with intervals over sources. No torch.

Scores are out of fold and pooled; with several seeds a figure is computed for each and averaged, and the bootstrap
draws whole sources (`bootstrap_by_source`) for all seeds and both students alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from streamkd.evaluate.metrics import bootstrap_by_source

if TYPE_CHECKING:
    from collections.abc import Sequence

Scores = NDArray[np.float64]
SMALLEST_GAP = 0.05  # a teacher that is less than 5 points better leaves no gap worth a share


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval; None where it can't be computed."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class ZeroAlarmRecall:
    """Recall at the lowest threshold that no normal clip reaches.

    Attributes:
        recall: Share of foreground clips strictly above the highest score of normal footage.
        threshold: That score.
        normal_s: Length of the normal footage.
        alarms_per_hour_bound: 95 % upper bound of the rate of false alarms, 3 / hours ("rule of three": Hanley and
            Lippman-Hand, JAMA 1983); what none in so short a footage can prove.
    """

    recall: float
    threshold: float
    normal_s: float
    alarms_per_hour_bound: float


def seed_auc(scores: Scores, positive: NDArray[np.bool_]) -> float | None:
    """Mean over seeds of the ROC AUC of `scores [S, N]`; None with one class only."""
    if positive.all() or not positive.any():
        return None
    return float(np.mean([_area(one[positive], one[~positive]) for one in np.atleast_2d(scores)]))


def _area(hits: NDArray[np.float64], misses: NDArray[np.float64]) -> float:
    """The share of pairs in the right order, ties half (Mann and Whitney, 1947): a bootstrap asks for thousands."""
    ordered = np.sort(misses)
    below = np.searchsorted(ordered, hits, side="left") + np.searchsorted(ordered, hits, side="right")
    return float(below.mean() / (2 * len(misses)))


def auc_estimate(
    scores: Scores, positive: NDArray[np.bool_], sources: Sequence[str], *, seed: int = 0, rounds: int = 1000
) -> Estimate:
    """Seed-averaged ROC AUC of `scores [S, N]` with its interval over sources."""
    bounds = bootstrap_by_source(
        lambda index: seed_auc(np.atleast_2d(scores)[:, index], positive[index]),
        sources,
        rng=np.random.default_rng(seed),
        rounds=rounds,
    )
    return Estimate(seed_auc(scores, positive), *(bounds or (None, None)))


def paired_gain(
    new: Scores,
    old: Scores,
    positive: NDArray[np.bool_],
    sources: Sequence[str],
    *,
    seed: int = 0,
    rounds: int = 1000,
) -> Estimate:
    """Gain in seed-averaged ROC AUC of `new [S, N]` over `old [S', N]`: both see the same drawn sources."""
    new, old = np.atleast_2d(new), np.atleast_2d(old)

    def gain(index: NDArray[np.int64]) -> float | None:
        one, other = seed_auc(new[:, index], positive[index]), seed_auc(old[:, index], positive[index])
        return None if one is None or other is None else one - other

    bounds = bootstrap_by_source(gain, sources, rng=np.random.default_rng(seed), rounds=rounds)
    return Estimate(gain(np.arange(len(positive))), *(bounds or (None, None)))


def gap_closed(student: float, alone: float, teacher: float) -> float | None:
    """Share of the gap between a student trained on labels alone and its teacher that distillation closes.

    None where the gap is below five points: a share of nearly nothing says nothing.
    """
    gap = teacher - alone
    return (student - alone) / gap if gap >= SMALLEST_GAP else None


def recall_at_zero_false_alarms(
    alarm_scores: NDArray[np.float64], positive: NDArray[np.bool_], normal_s: float
) -> ZeroAlarmRecall:
    """Recall where no normal clip raises an alarm.

    Args:
        alarm_scores: `[N]`, for each clip the highest threshold at which it would raise one (`alarm_score`).
        positive: `[N]`, which are of the foreground.
        normal_s: Length of the others in seconds.
    """
    threshold = float(alarm_scores[~positive].max(initial=0.0))
    caught = float(np.mean(alarm_scores[positive] > threshold)) if positive.any() else 0.0
    hours = normal_s / 3600.0
    return ZeroAlarmRecall(caught, threshold, normal_s, 3.0 / hours if hours else float("inf"))


def alarm_score(probs: NDArray[np.floating], *, smooth_frames: int, min_frames: int, warmup_frames: int) -> float:
    """The highest threshold at which a clip's foreground probabilities `[T]` would open an event, by the live rule.

    The rule: the causal mean of `smooth_frames` reaches the threshold on `min_frames` frames in a row after warm-up. A
    clip that is too short for that opens none: 0.
    """
    values = np.asarray(probs, dtype=np.float64)
    steady = np.array([values[max(0, t + 1 - smooth_frames) : t + 1].mean() for t in range(len(values))])[
        warmup_frames:
    ]
    if len(steady) < min_frames:
        return 0.0
    runs = np.lib.stride_tricks.sliding_window_view(steady, min_frames)
    return float(runs.min(axis=1).max())


__all__ = [
    "SMALLEST_GAP",
    "Estimate",
    "ZeroAlarmRecall",
    "alarm_score",
    "auc_estimate",
    "gap_closed",
    "paired_gain",
    "recall_at_zero_false_alarms",
    "seed_auc",
]
