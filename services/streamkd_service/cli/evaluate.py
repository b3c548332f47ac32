"""`streamkd evaluate events` and `streamkd evaluate forecast`: a student on streams joined from labelled clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamkd.config import SHIPPED
from streamkd_service.cli.footage import student_clips
from streamkd_service.cli.options import CacheOption, DataOption, JsonOption, ModelOption
from streamkd_service.cli.screen import bars
from streamkd_service.cli.train import resolve_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamkd.evaluate.streams import StreamReport

MinutesOption = Annotated[float, typer.Option(help="Length of the long stream.", min=0.1)]


def _on_joined_streams(tell: Callable[[StreamReport, bool], None]) -> Callable[..., None]:
    """A command that measures a student on one long stream of the clips, and lets `tell` say what was found."""

    def command(
        data: DataOption,
        model: ModelOption = SHIPPED,
        as_json: JsonOption = False,
        minutes: MinutesOption = 10.0,
        cache: CacheOption = None,
    ) -> None:
        tell(_measure(data, model, minutes, cache), as_json)

    command.__doc__ = tell.__doc__
    return command


@_on_joined_streams
def events(report: StreamReport, as_json: bool) -> None:
    """Event detection on joined streams: mAP by temporal IoU, delay, actions by frame; int8, without a reset."""
    if as_json:
        print(json.dumps(report.as_json(), indent=1))
        return
    _head(report)
    print(f"frames: accuracy {report.frame_accuracy:.3f}, ROC AUC {_number(report.frame_roc_auc)} ({report.frames})")
    print(f"clips in the stream: ROC AUC {_number(report.clip_roc_auc)}")
    for iou, value in report.map_by_iou.items():
        print(f"mAP at temporal IoU {iou}: {_number(value)}")
    delay = report.delay
    middle = "most are missed" if delay.median_s is None else f"median {delay.median_s:.1f} s"
    print(f"delay, normal to action of one source: {middle}; {delay.detected} of {delay.junctions} opened")
    print(f"normal to normal: {delay.false_events} of {delay.negatives} opened")


@_on_joined_streams
def forecast(report: StreamReport, as_json: bool) -> None:
    """Behaviour prediction: what is said about 1 and 2 s ahead, beside the trivial forecast "same as now"."""
    if as_json:
        told = report.as_json()
        print(json.dumps({key: told[key] for key in ("model", "clips", "forecast", "in_lineage")}, indent=1))
        return
    _head(report)
    for one in report.forecast:
        print(
            f"+{one.horizon_s:g} s: ROC AUC {_number(one.roc_auc)} (same as now: {_number(one.roc_auc_same_as_now)}), "
            f"accuracy {_number(one.accuracy)} ({_number(one.accuracy_same_as_now)}), "
            f"squared error to its own later answer {_number(one.mse)} ({_number(one.mse_same_as_now)}), "
            f"{one.frames} frames, {one.turns} of them before a turn"
        )


def _measure(data: Path, model: str, minutes: float, cache: Path | None) -> StreamReport:
    from streamkd.bundle import read_bundle
    from streamkd.engine.openvino import OpenVinoEngine
    from streamkd.evaluate.streams import evaluate_streams

    bundle = read_bundle(resolve_model(model))
    records, frames = student_clips(data, bundle.spec, cache)
    with bars() as progress:
        return evaluate_streams(bundle, OpenVinoEngine(bundle), records, frames, progress, at_least_s=60.0 * minutes)


def _head(report: StreamReport) -> None:
    print(f"{report.model}: {report.clips} clips, {report.stream_s:.0f} s in one stream")
    if report.in_lineage:
        print(f"  {report.in_lineage} of these clips were used to train this student: the figures flatter")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


__all__ = ["events", "forecast"]
