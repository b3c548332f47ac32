"""Temperature and opening thresholds, both from clips that the student was not trained on. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize_scalar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamkd.bundle import StudentSpec

SMOOTH_FRAMES = 3  # an event opens on a smoothed probability; the threshold is chosen on one as well
FALSE_OPEN_SHARE = 0.1  # of held-out background clips may reach a class's threshold ...
THRESHOLD_RANGE = (0.5, 0.9)  # ... within these bounds


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Softmax over the last axis."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), dtype=np.float64)


def scored_frames(warmup_frames: int, frames: int) -> slice:
    """The frames of a clip that count: those after warm-up, or the last one of a clip that is shorter."""
    return slice(min(warmup_frames, frames - 1), None)


def fit_temperature(logits: Sequence[NDArray[np.floating]], labels: Sequence[int], warmup_frames: int) -> float:
    """The temperature with the least mean negative log-likelihood (Guo et al., ICML 2017); clips count alike.

    Args:
        logits: Per held-out clip `[T, C]`.
        labels: Class index per clip.
        warmup_frames: Frames at a clip's start that don't count.
    """
    parts = [one[scored_frames(warmup_frames, len(one))] for one in logits]
    lengths = np.array([len(one) for one in parts])
    frames, label = np.concatenate(parts), np.repeat(np.asarray(labels), lengths)
    weight = np.repeat(1.0 / (lengths * len(parts)), lengths)

    def loss(log_temperature: float) -> float:
        chosen = softmax(frames * np.exp(-log_temperature))[np.arange(len(frames)), label]
        return float(weight @ -np.log(chosen + 1e-12))

    found = minimize_scalar(loss, bounds=(np.log(0.25), np.log(8.0)), method="bounded")
    return float(np.exp(found.x))


def smoothed_peak(probs: NDArray[np.floating]) -> float:
    """The highest mean of `SMOOTH_FRAMES` consecutive probabilities `[T]`."""
    if len(probs) < SMOOTH_FRAMES:
        return float(probs.mean())
    return float(np.convolve(probs, np.full(SMOOTH_FRAMES, 1.0 / SMOOTH_FRAMES), mode="valid").max())


def choose_thresholds(
    spec: StudentSpec, probs: Sequence[NDArray[np.floating]], labels: Sequence[int]
) -> dict[str, float]:
    """Per foreground class, the lowest threshold that at most a tenth of the held-out background clips reach.

    Args:
        spec: Classes and warm-up.
        probs: Per held-out clip `[T, C]`, calibrated.
        labels: Class index per clip.
    """
    background = [
        one[scored_frames(spec.warmup_frames, len(one))]
        for one, label in zip(probs, labels, strict=True)
        if spec.classes[label] == spec.background
    ]
    low, high = THRESHOLD_RANGE
    chosen: dict[str, float] = {}
    for index, name in enumerate(spec.classes):
        if name == spec.background:
            continue
        peaks = [smoothed_peak(one[:, index]) for one in background]
        wanted = float(np.quantile(peaks, 1.0 - FALSE_OPEN_SHARE)) if peaks else low
        chosen[name] = round(min(max(wanted, low), high), 3)
    return chosen


__all__ = ["choose_thresholds", "fit_temperature", "scored_frames", "smoothed_peak", "softmax"]
