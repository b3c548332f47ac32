"""`streamkd replay` and `streamkd evaluate anomaly`."""

from __future__ import annotations

import json as jsonlib
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from streamkd.clock import SystemClock
from streamkd.config import SHIPPED, CameraConfig, EventsConfig
from streamkd.engine import InferenceEngine, open_engine
from streamkd.errors import InputError, StreamkdError
from streamkd.evaluate.anomaly import evaluate_anomaly as evaluate_folder
from streamkd.events.timebase import EPOCH
from streamkd.replay import Replay, analyse_frames, collect, frames_of, paced, recording_camera
from streamkd.types import EventUpdate, FrameResult
from streamkd_service.cli.options import ModelOption
from streamkd_service.cli.train import resolve_model

_EXIT_ERROR = 2


class _Format(StrEnum):
    TEXT = "text"
    JSON = "json"


def replay(
    files: Annotated[list[Path], typer.Argument(help="Video files.", show_default=False)],
    speed: Annotated[str, typer.Option(help="'max', or a multiple of the recording's own pace such as 1.0.")] = "max",
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line: frames, events, a summary.")] = False,
    model: ModelOption = SHIPPED,
    sensitivity: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="0: only the surest events, 1: every suspicion.")
    ] = 0.5,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Inference threads.")] = 1,
) -> None:
    """What the live path would have said about recordings.

    Goes on after a file that can't be read; the exit status is then 2.
    """
    pace = _pace(speed)
    engine = open_engine(resolve_model(model), threads=threads)
    engine.warm()
    failed = 0
    for path in files:
        try:
            _replay_one(path, engine, recording_camera(path, sensitivity=sensitivity), pace, as_json=json)
        except StreamkdError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
    if failed:
        raise typer.Exit(_EXIT_ERROR)


def evaluate_anomaly(
    data: Annotated[Path, typer.Option(help="A folder with labels.csv, laid out like UCSD Ped2.", show_default=False)],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """AUC of the anomaly score: causal, every frame counts, no normalisation per recording."""
    with _progress() as progress:
        task = progress.add_task("recordings", total=None)
        report = evaluate_folder(data, on_stream=lambda done, of: progress.update(task, completed=done, total=of))
    if json:
        print(jsonlib.dumps(asdict(report)))
        return
    for name, value in (("micro AUC", report.micro_auc), ("macro AUC", report.macro_auc)):
        print(f"{name}  {'not defined: one class only' if value is None else format(value, '.3f')}")
    print(f"frames     {report.n}, {report.anomalous} of them anomalous, in {report.streams} recordings")
    print(f"           macro is the mean over the {report.streams_with_both} recordings that have both")


def _pace(speed: str) -> float | None:
    if speed == "max":
        return None
    try:
        pace = float(speed)
    except ValueError:
        pace = 0.0
    if not 0 < pace < float("inf"):
        raise InputError(f"--speed {speed!r} is neither 'max' nor a positive number.", hint="Try --speed 1.0.")
    return pace


def _progress() -> Progress:
    """A bar on standard error, so that standard output stays clean; nothing where that is no terminal."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal)


def _replay_one(
    path: Path, engine: InferenceEngine, camera: CameraConfig, pace: float | None, *, as_json: bool
) -> None:
    began_s = time.monotonic()
    frames = frames_of(path, engine, camera.id)
    if pace is not None:
        frames = paced(frames, pace, SystemClock())
    stream = analyse_frames(frames, engine, camera, EventsConfig())
    told = collect(_tell(stream, path, _Format.JSON if as_json else _Format.TEXT))
    took_s = time.monotonic() - began_s
    if as_json:
        print(jsonlib.dumps({"type": "summary", "file": str(path), **_summary(told, engine.version), "took_s": took_s}))
    else:
        print(_summary_line(path, told, took_s))


def _tell(
    stream: Iterable[FrameResult | EventUpdate], path: Path, output: _Format
) -> Iterable[FrameResult | EventUpdate]:
    """Print what passes by, and a progress line on a terminal."""
    with _progress() as progress:
        task = progress.add_task(path.name, total=None)
        for item in stream:
            updates = (item,) if isinstance(item, EventUpdate) else item.updates
            if output is _Format.JSON:
                if isinstance(item, FrameResult):
                    print(jsonlib.dumps(frame_json(item)))
                for update in updates:
                    print(jsonlib.dumps(event_json(update)))
            else:
                for update in updates:
                    if update.revision == 1 or not update.is_open:
                        progress.console.file.flush()
                        print(event_line(update), flush=True)
            if isinstance(item, FrameResult):
                progress.update(task, advance=1, description=f"{path.name} at {_clock(item.pts_s)}")
            yield item


def frame_json(result: FrameResult) -> dict[str, Any]:
    """One analysed frame as a JSON object."""
    return {
        "type": "frame",
        "camera": result.camera_id,
        "segment": result.segment,
        "pts_s": round(result.pts_s, 6),
        "warming": result.warming,
        "scores": result.scores,
        "action": result.action,
        "action_score": result.action_score,
        "anomaly_score": result.anomaly_score,
        "model_version": result.model_version,
    }


def event_json(update: EventUpdate) -> dict[str, Any]:
    """One update of an event as a JSON object, without its picture."""
    return {
        "type": "event",
        "id": update.id,
        "revision": update.revision,
        "camera": update.camera_id,
        "kind": update.kind,
        "label": update.label,
        "open": update.is_open,
        "start_pts_s": round(update.start_pts_s, 6),
        "end_pts_s": None if update.end_pts_s is None else round(update.end_pts_s, 6),
        "score": update.score,
        "model_version": update.model_version,
    }


def event_line(update: EventUpdate) -> str:
    """One line for people: `00:12.4  fight  began  score 0.81`."""
    if update.end_utc is None:
        at_s, what = (update.start_utc - EPOCH).total_seconds(), "began"
    else:
        at_s = (update.end_utc - EPOCH).total_seconds()
        what = f"ended after {(update.end_utc - update.start_utc).total_seconds():.1f} s"
    return f"  {_clock(at_s)}  {update.label:<16} {what:<20} score {update.score:.2f}"


def _summary(told: Replay, version: str) -> dict[str, Any]:
    peak = max((result.action_score for result in told.results), default=0.0)
    return {
        "frames": len(told.results),
        "duration_s": round(told.duration_s, 6),
        "events": len(told.events),
        "peak_action_score": peak,
        "model_version": version,
    }


def _summary_line(path: Path, told: Replay, took_s: float) -> str:
    summary = _summary(told, "")
    events = f"{summary['events']} event{'' if summary['events'] == 1 else 's'}"
    return (
        f"{path.name}: {events} in {summary['duration_s']:.1f} s, {summary['frames']} frames analysed, "
        f"highest smoothed score {summary['peak_action_score']:.2f} (took {took_s:.1f} s)"
    )


def _clock(pts_s: float) -> str:
    minutes, seconds = divmod(pts_s, 60.0)
    return f"{int(minutes):02d}:{seconds:04.1f}"


__all__ = ["evaluate_anomaly", "event_json", "event_line", "frame_json", "replay"]
