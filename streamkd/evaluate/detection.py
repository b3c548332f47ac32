"""Event detection: from scores of frames to segments, and their mean average precision by temporal IoU. No torch.

mAP as in ActivityNet and THUMOS (Caba Heilbron et al., CVPR 2015; Jiang et al., 2014): predictions of all streams are
ranked by score, each matches the unmatched true segment of its stream and class with the largest overlap, if that
reaches the IoU, and precision is averaged over recall with the interpolation of PASCAL VOC 2010.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

IOUS = (0.3, 0.4, 0.5, 0.6, 0.7)
LEVELS = tuple(round(0.1 * k, 1) for k in range(1, 10))  # thresholds whose segments are proposed
SAME_IOU = 0.6  # of two proposals that overlap more, the better one stays


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of one stream with one label.

    Attributes:
        stream: Which stream.
        label: Its class.
        start_s: Where it begins.
        end_s: Where it ends, later than `start_s`.
        score: Confidence of a prediction; 1 for the truth.
    """

    stream: int
    label: str
    start_s: float
    end_s: float
    score: float = 1.0


def temporal_iou(one: Segment, other: Segment) -> float:
    """Overlap over union of two segments in time."""
    overlap = min(one.end_s, other.end_s) - max(one.start_s, other.start_s)
    union = max(one.end_s, other.end_s) - min(one.start_s, other.start_s)
    return max(0.0, overlap) / union if union > 0 else 0.0


def true_segments(stream: int, labels: Sequence[str], rate_hz: float, background: str) -> list[Segment]:
    """Runs of one foreground label over the frames of a stream."""
    found: list[Segment] = []
    begin = 0
    for t in range(1, len(labels) + 1):
        if t == len(labels) or labels[t] != labels[begin]:
            if labels[begin] != background:
                found.append(Segment(stream, labels[begin], begin / rate_hz, t / rate_hz))
            begin = t
    return found


def propose(
    stream: int, label: str, probs: NDArray[np.floating], rate_hz: float, *, smooth_frames: int = 5
) -> list[Segment]:
    """Segments of one class where its causal mean lies above a level, for each of `LEVELS`, the best of like ones.

    A segment's score is the mean of its probabilities. The mean of `smooth_frames` lags by half its length; what is
    proposed is moved back by that.

    Args:
        stream: Which stream.
        label: The class.
        probs: Its probability `[T]`.
        rate_hz: Frames a second.
        smooth_frames: Length of the causal mean.
    """
    values = np.asarray(probs, dtype=np.float64)
    steady = np.array([values[max(0, t + 1 - smooth_frames) : t + 1].mean() for t in range(len(values))])
    lag = (smooth_frames - 1) // 2
    found: list[Segment] = []
    for level in LEVELS:
        above = np.concatenate([[False], steady >= level, [False]])
        edges = np.flatnonzero(above[1:] != above[:-1]).reshape(-1, 2)
        for first, last in edges.tolist():
            begin, end = max(0, first - lag), max(1, last - lag)
            score = float(values[begin:end].mean())
            found.append(Segment(stream, label, begin / rate_hz, end / rate_hz, score))
    return suppress(found)


def suppress(segments: Sequence[Segment], iou: float = SAME_IOU) -> list[Segment]:
    """The best of those that overlap by more than `iou`, best first (greedy non-maximum suppression)."""
    kept: list[Segment] = []
    for one in sorted(segments, key=lambda segment: -segment.score):
        if all(temporal_iou(one, other) <= iou for other in kept):
            kept.append(one)
    return kept


def average_precision(predicted: Sequence[Segment], truth: Sequence[Segment], iou: float) -> float | None:
    """Average precision of one class; None where there is no true segment."""
    if not truth:
        return None
    taken: set[int] = set()
    hits: list[bool] = []
    for one in sorted(predicted, key=lambda segment: -segment.score):
        free = [
            (temporal_iou(one, other), i)
            for i, other in enumerate(truth)
            if other.stream == one.stream and i not in taken
        ]
        best, index = max(free, default=(0.0, -1))
        hits.append(best >= iou)
        if best >= iou:
            taken.add(index)
    if not hits:
        return 0.0
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(np.concatenate([[0.0], found / len(truth)]))
    return float((envelope * steps).sum())


def mean_average_precision(
    predicted: Sequence[Segment], truth: Sequence[Segment], ious: Sequence[float] = IOUS
) -> dict[float, float | None]:
    """Mean over the classes with true segments, for each temporal IoU."""
    labels = sorted({one.label for one in truth})
    result: dict[float, float | None] = {}
    for iou in ious:
        values = [
            average_precision(
                [one for one in predicted if one.label == label], [one for one in truth if one.label == label], iou
            )
            for label in labels
        ]
        known = [value for value in values if value is not None]
        result[iou] = float(np.mean(known)) if known else None
    return result


__all__ = [
    "IOUS",
    "LEVELS",
    "Segment",
    "average_precision",
    "mean_average_precision",
    "propose",
    "suppress",
    "temporal_iou",
    "true_segments",
]
