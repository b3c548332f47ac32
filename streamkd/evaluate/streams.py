"""A bundle on joined streams: actions by frame, events in time, what is foretold. No torch.

Two kinds of streams are made of the labelled clips: all of them in random order until ten minutes have passed, and per
source, normal to fight (`streamkd.evaluate.joined`). The exported student plays them as the live path would.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streamkd.config import EventsConfig
from streamkd.errors import InputError
from streamkd.evaluate.detection import IOUS, Segment, mean_average_precision, propose, true_segments
from streamkd.evaluate.forecast import ForecastFigures, ForecastStream, forecast_figures
from streamkd.evaluate.joined import (
    LONG_S,
    DelayReport,
    Junction,
    Played,
    delays,
    junctions,
    long_order,
    play,
    stream_scores,
)
from streamkd.evaluate.metrics import roc_auc
from streamkd.events.rules import DEFAULT_THRESHOLD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from streamkd.bundle import Bundle, StudentSpec
    from streamkd.engine.base import InferenceEngine
    from streamkd.evaluate.dataset import ClipRecord, FrameCache
    from streamkd.types import UInt8Array


@dataclass(frozen=True, slots=True)
class StreamReport:
    """What was measured; a figure that can't be computed is None.

    Attributes:
        model: Version of the student.
        clips: Clips that were joined.
        stream_s: Length of the long stream.
        frames: Its frames after the settling that follows each cut.
        frame_accuracy: Share of these whose most probable class is the clip's.
        frame_roc_auc: Of the foreground probability over these frames.
        clip_roc_auc: Of its mean over each appearance of a clip.
        map_by_iou: Mean average precision of segments, by temporal IoU.
        delay: From the junction to the event, at the bundle's own thresholds.
        forecast: Per horizon, on the streams of one source.
        in_lineage: Clips that the student was trained on: the figures flatter.
    """

    model: str
    clips: int
    stream_s: float
    frames: int
    frame_accuracy: float
    frame_roc_auc: float | None
    clip_roc_auc: float | None
    map_by_iou: dict[str, float | None]
    delay: DelayReport
    forecast: tuple[ForecastFigures, ...]
    in_lineage: int

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def evaluate_streams(
    bundle: Bundle,
    engine: InferenceEngine,
    records: Sequence[ClipRecord],
    cache: FrameCache,
    progress: Callable[[str, float], None],
    *,
    at_least_s: float = LONG_S,
    seed: int = 0,
) -> StreamReport:
    """Join labelled clips into streams and play them.

    Args:
        bundle: The student's bundle.
        engine: Runs it.
        records: Labelled clips that can be decoded.
        cache: Their frames.
        progress: Told what is being done and which share of it is done.
        at_least_s: Length of the long stream.
        seed: Of the order in which clips follow each other.

    Raises:
        InputError: No clip has a label that the student knows.
    """
    spec = bundle.spec
    known = _known(spec, records)

    def view(index: int) -> UInt8Array:  # from the cache each time: all clips together may not fit into memory
        return cache.load_view(known[index], spec).frames

    labels = [spec.classes.index(record.label) for record in known]
    rng = np.random.default_rng(seed)
    order = long_order([len(view(index)) for index in range(len(known))], spec.rate_hz, rng, at_least_s=at_least_s)
    long = _playing(engine, view, order, "long stream", progress)
    positive = [spec.classes[label] != spec.background for label in labels]
    plan = junctions(positive, [record.source for record in known], rng)
    joined: list[list[Played]] = []
    for number, one in enumerate(plan):
        joined.append(play(engine, map(view, one.clips)))
        progress("joined streams", (number + 1) / len(plan))
    shown = [labels[i] for i in order]
    settled, frame_labels = _settled(spec, long, shown)
    background = spec.classes.index(spec.background)
    appearances = stream_scores([one.action for one in long], spec.warmup_frames)
    return StreamReport(
        model=spec.version,
        clips=len(known),
        stream_s=sum(len(one.action) for one in long) / spec.rate_hz,
        frames=len(settled),
        frame_accuracy=float(np.mean(settled.argmax(axis=1) == frame_labels)),
        frame_roc_auc=roc_auc(1.0 - settled[:, background], frame_labels != background),
        clip_roc_auc=roc_auc(1.0 - appearances[:, background], np.array([label != background for label in shown])),
        map_by_iou=_map(spec, long, shown),
        delay=_delay(spec, joined, plan),
        forecast=tuple(_forecast(spec, joined, [[labels[i] for i in one.clips] for one in plan])),
        in_lineage=sum(record.sha256 in set(bundle.lineage.data_sha256) for record in known),
    )


def _known(spec: StudentSpec, records: Sequence[ClipRecord]) -> list[ClipRecord]:
    known = [record for record in records if record.label in spec.classes]
    if not known:
        raise InputError(
            f"No clip has a label that student {spec.version} knows ({', '.join(spec.classes)}).",
            hint="Rename the labels, or train a student on these clips.",
        )
    return known


def _playing(
    engine: InferenceEngine,
    view: Callable[[int], UInt8Array],
    order: Sequence[int],
    what: str,
    progress: Callable[[str, float], None],
) -> list[Played]:
    def told() -> Iterator[UInt8Array]:
        for number, index in enumerate(order):
            progress(what, number / len(order))
            yield view(index)

    found = play(engine, told())
    progress(what, 1.0)
    return found


def _settled(
    spec: StudentSpec, played: Sequence[Played], labels: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities `[M, C]` and labels `[M]` of the frames that count."""
    kept = [one.action[min(spec.warmup_frames, len(one.action) - 1) :] for one in played]
    wanted = [np.full(len(one), label) for one, label in zip(kept, labels, strict=True)]
    return np.concatenate(kept).astype(np.float64), np.concatenate(wanted)


def _map(spec: StudentSpec, played: Sequence[Played], labels: Sequence[int]) -> dict[str, float | None]:
    probs = np.concatenate([one.action for one in played])
    names = [spec.classes[label] for one, label in zip(played, labels, strict=True) for _ in range(len(one.action))]
    predicted: list[Segment] = []
    for label in spec.foreground:
        values = probs[:, spec.classes.index(label)]
        predicted += propose(0, label, values, spec.rate_hz, smooth_frames=_smooth_frames(spec))
    truth = true_segments(0, names, spec.rate_hz, spec.background)
    return {f"{iou:g}": value for iou, value in mean_average_precision(predicted, truth, IOUS).items()}


def _delay(spec: StudentSpec, joined: Sequence[Sequence[Played]], plan: Sequence[Junction]) -> DelayReport:
    """An event of any class counts; its threshold is the lowest of the bundle's."""
    threshold = min((spec.thresholds.get(name, DEFAULT_THRESHOLD) for name in spec.foreground), default=1.0)
    foreground = [spec.classes.index(name) for name in spec.foreground]
    probs = [np.concatenate([one.action for one in stream])[:, foreground].max(axis=1) for stream in joined]
    return delays(
        plan,
        probs,
        [len(stream[0].action) for stream in joined],
        [threshold] * len(plan),
        rate_hz=spec.rate_hz,
        smooth_frames=_smooth_frames(spec),
        min_frames=EventsConfig().min_frames,
    )


def _forecast(
    spec: StudentSpec, joined: Sequence[Sequence[Played]], labels: Sequence[Sequence[int]]
) -> list[ForecastFigures]:
    streams = [
        ForecastStream(
            np.concatenate([one.action for one in stream]),
            np.concatenate([one.forecast for one in stream]),
            np.concatenate([np.full(len(one.action), label) for one, label in zip(stream, shown, strict=True)]),
            spec.warmup_frames,
        )
        for stream, shown in zip(joined, labels, strict=True)
    ]
    foreground = [spec.classes.index(name) for name in spec.foreground]
    return forecast_figures(streams, spec.forecast_horizons_s, spec.rate_hz, foreground)


def _smooth_frames(spec: StudentSpec) -> int:
    return max(1, round(EventsConfig().smoothing_s * spec.rate_hz))


__all__ = ["StreamReport", "evaluate_streams"]
