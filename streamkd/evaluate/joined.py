"""Streams joined from clips: what a student trained on two seconds does over minutes, without a reset. No torch.

A clip played from zero state flatters a causal student: it never has to forget. Here the clips of one fold follow each
other for ten minutes and more with the state carried on, and clips of one source are joined normal to fight, so that
there is a moment from which a delay can be counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamkd.engine.gaze import Gaze
from streamkd.engine.students import relive
from streamkd.evaluate.calibrate import scored_frames

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from streamkd.engine.base import InferenceEngine
    from streamkd.types import FloatArray, UInt8Array

LONG_S = 600.0


@dataclass(frozen=True, slots=True)
class Junction:
    """Clips of one source, joined; `clips` are indices, the first is normal footage.

    Attributes:
        clips: In the order they are played.
        positive: Whether the second and later ones show the foreground.
    """

    clips: tuple[int, ...]
    positive: bool


@dataclass(frozen=True, slots=True)
class Played:
    """What was said while a clip was played: probabilities `[T, C]`, and those of each horizon `[T, K, C]`."""

    action: FloatArray
    forecast: FloatArray


@dataclass(frozen=True, slots=True)
class DelayReport:
    """How long after the junction an event opens, and how often one opens where nothing happens.

    Attributes:
        junctions: Joined streams normal to foreground.
        detected: Those in which an event opened after the junction.
        median_s: Median delay over all of them, a miss counting as longer than any; None if fewer than half were
            detected.
        negatives: Streams joined normal to normal.
        false_events: Those in which an event opened after the junction.
    """

    junctions: int
    detected: int
    median_s: float | None
    negatives: int
    false_events: int


def long_order(
    lengths: Sequence[int], rate_hz: float, rng: np.random.Generator, *, at_least_s: float = LONG_S
) -> list[int]:
    """Indices of clips, each pass a new random order, until they last `at_least_s` at `rate_hz`."""
    order: list[int] = []
    frames = 0
    while frames < at_least_s * rate_hz:
        for index in rng.permutation(len(lengths)).tolist():
            order.append(index)
            frames += lengths[index]
    return order


def play(engine: InferenceEngine, clips: Iterable[UInt8Array]) -> list[Played]:
    """Play clips one after the other through one state, as the live path would.

    The gaze goes on from clip to clip; where the shape of the picture changes it is a new one, the state is kept.

    Args:
        engine: The student.
        clips: `[T, H, W, 3]` uint8 each, as `StudentSpec.view_size` asks for them.
    """
    state, gaze, shape = engine.init_state(), Gaze(engine.spec), (0,)
    found: list[Played] = []
    for clip in clips:
        if clip.shape[1:] != shape:
            gaze, shape = Gaze(engine.spec), clip.shape[1:]
        action: list[FloatArray] = []
        forecast: list[FloatArray] = []
        for view in clip:
            glance = gaze.look(view)
            if glance.moved:
                state = relive(engine, glance.again)
            output, (state,) = engine.step(glance.rgb[None], [state])
            action.append(output.action[0])
            forecast.append(output.forecast[0])
        found.append(Played(np.stack(action).astype(np.float32), np.stack(forecast).astype(np.float32)))
    return found


def stream_scores(probs: Sequence[FloatArray], settle_frames: int) -> NDArray[np.float64]:
    """One row a clip `[N, C]`: the mean over its frames after the `settle_frames` that follow the cut."""
    return np.stack([one[scored_frames(settle_frames, len(one))].mean(axis=0) for one in probs]).astype(np.float64)


def junctions(positive: Sequence[bool], sources: Sequence[str], rng: np.random.Generator) -> list[Junction]:
    """For every foreground clip of a source that has normal footage: normal, then it, then another one if there is one.

    The negatives are built alike from the normal clips of sources that have several. What precedes and what follows is
    drawn at random.
    """
    found: list[Junction] = []
    for source in dict.fromkeys(sources):
        here = [i for i, name in enumerate(sources) if name == source]
        normal = [i for i in here if not positive[i]]
        for index in here:
            before = [i for i in normal if i != index]
            if not before:
                continue
            first = before[int(rng.integers(len(before)))]
            like = [i for i in here if positive[i] == positive[index] and i not in {index, first}]
            more = (like[int(rng.integers(len(like)))],) if like else ()
            found.append(Junction((first, index, *more), bool(positive[index])))
    return found


def opening_frame(probs: NDArray[np.floating], threshold: float, *, smooth_frames: int, min_frames: int) -> int | None:
    """The first frame by which the live rule has opened an event on foreground probabilities `[T]`, or None."""
    run = 0
    for t in range(len(probs)):
        steady = float(np.mean(probs[max(0, t + 1 - smooth_frames) : t + 1]))
        run = run + 1 if steady >= threshold else 0
        if run >= min_frames:
            return t
    return None


def delays(
    plan: Sequence[Junction],
    probs: Sequence[NDArray[np.floating]],
    starts: Sequence[int],
    thresholds: Sequence[float],
    *,
    rate_hz: float,
    smooth_frames: int,
    min_frames: int,
) -> DelayReport:
    """Delay from the junction to the event.

    An event that was already open before the junction is one of the normal part and counts for neither; the run of
    frames begins anew at the junction, so that nothing before it shortens a delay.

    Args:
        plan: What was joined.
        probs: Foreground probability `[T]` of each stream.
        starts: First frame after the junction, for each.
        thresholds: Opening threshold, for each.
        rate_hz: Frames a second.
        smooth_frames: Length of the causal mean.
        min_frames: Frames in a row that open an event.
    """
    found: dict[bool, list[float]] = {True: [], False: []}
    for one, values, start, threshold in zip(plan, probs, starts, thresholds, strict=True):
        steady = np.array([values[max(0, t + 1 - smooth_frames) : t + 1].mean() for t in range(len(values))])
        at = opening_frame(steady[start:], threshold, smooth_frames=1, min_frames=min_frames)
        # The frame that opens it has been seen in full: a delay of at least one frame.
        found[one.positive].append(np.inf if at is None else (at + 1) / rate_hz)
    times = found[True]
    middle = float(np.median(times)) if times else np.inf
    return DelayReport(
        junctions=len(times),
        detected=int(np.isfinite(times).sum()),
        median_s=middle if np.isfinite(middle) else None,
        negatives=len(found[False]),
        false_events=int(np.isfinite(found[False]).sum()),
    )


def threshold_for(alarm_scores: NDArray[np.float64], share: float) -> float:
    """The lowest threshold that at most `share` of normal clips reach, from their alarm scores `[N]`."""
    return (
        float(np.nextafter(np.quantile(alarm_scores, 1.0 - share, method="higher"), 2.0)) if len(alarm_scores) else 0.5
    )


__all__ = [
    "LONG_S",
    "DelayReport",
    "Junction",
    "Played",
    "delays",
    "junctions",
    "long_order",
    "opening_frame",
    "play",
    "stream_scores",
    "threshold_for",
]
