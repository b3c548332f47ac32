"""Behaviour prediction: what the student says now about one and two seconds ahead, against what comes. No torch.

Two yardsticks, each beside the trivial forecast "same as now": the label of the frame that is then shown (ROC AUC,
accuracy), and what the student itself will say then (mean squared error of the probabilities).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamkd.evaluate.metrics import roc_auc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ForecastFigures:
    """How good the forecast at one horizon is; None where it can't be computed.

    Attributes:
        horizon_s: How far ahead.
        frames: Frames with a known later label.
        roc_auc: Of the forecast against the later label, mean over the foreground classes.
        roc_auc_same_as_now: Of the present answer against the later label.
        accuracy: Share of frames whose most probable later class is right.
        accuracy_same_as_now: The same with the present answer.
        mse: Squared error of the forecast against the student's own later answer, mean over classes.
        mse_same_as_now: The same of the present answer.
        turns: Frames whose later label is another one than now.
        accuracy_at_turns: Accuracy of the forecast on these.
    """

    horizon_s: float
    frames: int
    roc_auc: float | None
    roc_auc_same_as_now: float | None
    accuracy: float | None
    accuracy_same_as_now: float | None
    mse: float | None
    mse_same_as_now: float | None
    turns: int
    accuracy_at_turns: float | None


@dataclass(frozen=True, slots=True)
class ForecastStream:
    """What was said and shown in one stream of T frames.

    Attributes:
        action: Probabilities `[T, C]` of what is shown now.
        forecast: Probabilities `[T, K, C]` of what will be shown at each horizon.
        labels: `[T]` class indices.
        warmup_frames: Frames at the start that don't count.
    """

    action: NDArray[np.floating]
    forecast: NDArray[np.floating]
    labels: NDArray[np.int64]
    warmup_frames: int


def forecast_figures(
    streams: Sequence[ForecastStream], horizons_s: Sequence[float], rate_hz: float, foreground: Sequence[int]
) -> list[ForecastFigures]:
    """Figures at each horizon over all frames of all streams whose later frame exists."""
    return [
        _at(streams, k, horizon_s, round(horizon_s * rate_hz), foreground) for k, horizon_s in enumerate(horizons_s)
    ]


def _at(
    streams: Sequence[ForecastStream], k: int, horizon_s: float, ahead: int, foreground: Sequence[int]
) -> ForecastFigures:
    long = [one for one in streams if len(one.labels) > one.warmup_frames + ahead]
    if not long:
        return ForecastFigures(horizon_s, 0, None, None, None, None, None, None, 0, None)
    said = np.concatenate([one.forecast[one.warmup_frames : -ahead, k] for one in long])
    now = np.concatenate([one.action[one.warmup_frames : -ahead] for one in long])
    then = np.concatenate([one.action[one.warmup_frames + ahead :] for one in long])
    label_now = np.concatenate([one.labels[one.warmup_frames : -ahead] for one in long])
    label = np.concatenate([one.labels[one.warmup_frames + ahead :] for one in long])
    turns = label != label_now
    right = said.argmax(axis=1) == label
    return ForecastFigures(
        horizon_s=horizon_s,
        frames=len(label),
        roc_auc=_mean_auc(said, label, foreground),
        roc_auc_same_as_now=_mean_auc(now, label, foreground),
        accuracy=float(right.mean()),
        accuracy_same_as_now=float((now.argmax(axis=1) == label).mean()),
        mse=float(np.square(said - then).mean()),
        mse_same_as_now=float(np.square(now - then).mean()),
        turns=int(turns.sum()),
        accuracy_at_turns=float(right[turns].mean()) if turns.any() else None,
    )


def _mean_auc(probs: NDArray[np.floating], labels: NDArray[np.int64], foreground: Sequence[int]) -> float | None:
    areas = [roc_auc(np.asarray(probs[:, c], dtype=np.float64), labels == c) for c in foreground]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if known else None


__all__ = ["ForecastFigures", "ForecastStream", "forecast_figures"]
