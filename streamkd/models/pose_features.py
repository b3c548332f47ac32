"""What people's key points over a clip say about how they move and how near they come to each other.

Lengths are in units of a person's height, so that near and far people count alike; speeds are per second. For each
threshold of a person's score, the same numbers: blurred and hidden people, as in a fight, have low scores, and crowds
of them high ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from streamkd.types import FloatArray

    Floats = NDArray[np.float64]

SCORES = (0.10, 0.15, 0.20)  # a person counts from here on
POINT_SCORE = 0.15
_SCORE = 55
_KEPT_FRAMES = 3  # a person who is not found that long is somebody else when found again
_MAX_STEP, _MAX_GROWTH = 0.6, 0.7  # from frame to frame: heights that a person moves, change of the height's logarithm
_LIMBS = {
    "wrist": (9, 10),
    "elbow": (7, 8),
    "ankle": (15, 16),
    "knee": (13, 14),
    "hip": (11, 12),
    "shoulder": (5, 6),
    "head": (0, 1, 2, 3, 4),
}
_TRUNK = (5, 6, 11, 12)
_TOUCHED = (0, 5, 6, 11, 12)  # head, shoulders, hips of somebody else
_WRISTS = (9, 10)
_SUMMARY = 4
_TINY = 1e-3


@dataclass(frozen=True, slots=True)
class _Person:
    """One person in one frame; y down, both axes in units of the picture's height."""

    points: Floats  # [17, 2]
    scores: Floats  # [17]
    box: Floats  # ymin, xmin, ymax, xmax

    @property
    def height(self) -> float:
        return max(float(self.box[2] - self.box[0]), _TINY)

    @property
    def width(self) -> float:
        return max(float(self.box[3] - self.box[1]), _TINY)

    @property
    def middle(self) -> Floats:
        return (self.box[:2] + self.box[2:]) / 2

    @property
    def lean(self) -> float:
        """Angle of the trunk from upright, radians, 0..pi."""
        up = self.points[list(_TRUNK[:2])].mean(axis=0) - self.points[list(_TRUNK[2:])].mean(axis=0)
        return float(np.arctan2(abs(up[1]), -up[0] + 1e-6))


@dataclass(slots=True)
class _Motion:
    """Values collected over all steps of all people."""

    speed: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in _LIMBS})
    own_speed: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in _LIMBS})
    other: dict[str, list[float]] = field(
        default_factory=lambda: {
            name: [] for name in ("walk", "shape", "lean", "turn", "growth", "height", "score", "flicker")
        }
    )


def pose_clip_features(people: FloatArray, *, rate_hz: float, aspect: float) -> FloatArray:
    """Features of one clip.

    Args:
        people: `[T, P, 56]`: 17 key points of COCO's order (y, x, score), the box (ymin, xmin, ymax, xmax) and its
            score; coordinates as shares of the picture. Rows that are nobody have a low score.
        rate_hz: Of the frames.
        aspect: Width of the picture over its height.

    Returns:
        `[360]` float32, finite.
    """
    rows: list[float] = []
    for score in SCORES:
        frames = [_people(frame, aspect, score) for frame in people.astype(np.float64)]
        rows += _counts(people, score)
        rows += _motion(frames, rate_hz)
        rows += _nearness(frames, rate_hz)
    return np.nan_to_num(np.array(rows, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def _people(frame: Floats, aspect: float, score: float) -> list[_Person]:
    found: list[_Person] = []
    for row in frame[frame[:, _SCORE] >= score]:
        points = row[:51].reshape(17, 3)
        scale = np.array([1.0, aspect])
        found.append(_Person(points[:, :2] * scale, points[:, 2], row[51:55] * np.tile(scale, 2)))
    return found


def _counts(people: FloatArray, score: float) -> list[float]:
    many = (people[:, :, _SCORE] >= score).sum(axis=1)
    ranked = np.sort(people[:, :, _SCORE], axis=1)
    second = ranked[:, -2] if ranked.shape[1] > 1 else np.zeros(len(ranked))
    return [many.mean(), many.max(), many.min(), many.std(), ranked[:, -1].mean(), second.mean()]


def _motion(frames: Sequence[list[_Person]], rate_hz: float) -> list[float]:
    tracks = [track for track in _tracks(frames) if len(track) > 2]
    seen = _Motion()
    for track in tracks:
        for person in track.values():
            seen.other["height"].append(person.height)
            seen.other["shape"].append(float(np.log(person.width / person.height)))
            seen.other["score"].append(float(person.scores.mean()))
            seen.other["lean"].append(person.lean)
        for (t, before), (later, after) in pairwise(sorted(track.items(), key=lambda item: item[0])):
            _step(seen, before, after, (later - t) / rate_hz)
    rows = [float(len(tracks))]
    for name in _LIMBS:
        rows += _summary(seen.speed[name]) + _summary(seen.own_speed[name])
    for values in seen.other.values():
        rows += _summary(values)
    return [*rows, _spread(seen.other["lean"]), _spread(seen.other["shape"])]


def _step(seen: _Motion, before: _Person, after: _Person, dt_s: float) -> None:
    """What changed between two frames of one person."""
    height = (before.height + after.height) / 2
    moved = (after.points - before.points) / height / dt_s
    sure = np.minimum(before.scores, after.scores) > POINT_SCORE
    trunk = moved[list(_TRUNK)].mean(axis=0)
    for name, points in _LIMBS.items():
        which = [point for point in points if sure[point]]
        seen.speed[name] += np.linalg.norm(moved[which], axis=1).tolist()
        seen.own_speed[name] += np.linalg.norm(moved[which] - trunk, axis=1).tolist()
    seen.other["walk"].append(float(np.linalg.norm(after.middle - before.middle)) / height / dt_s)
    seen.other["growth"].append(abs(float(np.log(after.height / before.height))) / dt_s)
    seen.other["flicker"].append(float(np.abs(after.scores - before.scores).mean()))
    seen.other["turn"].append(abs(after.lean - before.lean) / dt_s)


def _tracks(frames: Sequence[list[_Person]]) -> list[dict[int, _Person]]:
    """People followed from frame to frame, nearest pairs first; each as what was seen of them by frame number."""
    tracks: list[dict[int, _Person]] = []
    live: list[dict[int, _Person]] = []
    for t, people in enumerate(frames):
        pairs = sorted(
            (gap, i, j)
            for i, track in enumerate(live)
            for j, person in enumerate(people)
            if (gap := _gap(track[max(track)], person)) < _MAX_STEP
        )
        taken: set[int] = set()
        followed: set[int] = set()
        for _, i, j in pairs:
            if i not in followed and j not in taken:
                followed.add(i)
                taken.add(j)
                live[i][t] = people[j]
        for j, person in enumerate(people):
            if j not in taken:
                tracks.append({t: person})
                live.append(tracks[-1])
        live = [track for track in live if t - max(track) <= _KEPT_FRAMES]
    return tracks


def _gap(one: _Person, other: _Person) -> float:
    """How far apart, in heights; infinite where one is far larger."""
    if abs(np.log(other.height / one.height)) >= _MAX_GROWTH:
        return float("inf")
    return float(np.linalg.norm(one.middle - other.middle)) / ((one.height + other.height) / 2)


def _nearness(frames: Sequence[list[_Person]], rate_hz: float) -> list[float]:
    """Of the two people of whom one's hand is nearest to the other's body, frame by frame."""
    pairs = [near for people in frames if (near := _nearest(people)) is not None]
    apart, overlap, reach = ([pair[i] for pair in pairs] for i in range(3))
    rows = _summary(overlap) + _summary(-np.array(apart)) + _summary(-np.array(reach))
    rows += [len(pairs) / max(len(frames), 1), _spread(apart), _spread(reach)]
    return rows + _summary(np.abs(np.diff(apart)) * rate_hz) + _summary(np.abs(np.diff(reach)) * rate_hz)


def _nearest(people: list[_Person]) -> tuple[float, float, float] | None:
    """Distance, overlap of the boxes (intersection over union) and reach of that pair; None for fewer than two."""
    best: tuple[float, float, float] | None = None
    for one in people:
        for other in people:
            if one is other:
                continue
            height = (one.height + other.height) / 2
            hands, body = one.points[list(_WRISTS)], other.points[list(_TOUCHED)]
            reach = float(np.linalg.norm(hands[:, None] - body[None], axis=2).min()) / height
            if best is None or reach < best[2]:
                best = (float(np.linalg.norm(one.middle - other.middle)) / height, _overlap(one, other), reach)
    return best


def _overlap(one: _Person, other: _Person) -> float:
    top, left = np.maximum(one.box[:2], other.box[:2])
    bottom, right = np.minimum(one.box[2:], other.box[2:])
    both = max(float(bottom - top), 0.0) * max(float(right - left), 0.0)
    return both / (one.height * one.width + other.height * other.width - both + 1e-9)


def _summary(values: Iterable[float] | Floats) -> list[float]:
    """Mean, maximum, 90th percentile and median; zeros for none."""
    array = np.asarray(list(values), dtype=np.float64)
    if not len(array):
        return [0.0] * _SUMMARY
    return [float(array.mean()), float(array.max()), float(np.percentile(array, 90)), float(np.median(array))]


def _spread(values: Sequence[float]) -> float:
    return float(np.std(values)) if values else 0.0


__all__ = ["SCORES", "pose_clip_features"]
