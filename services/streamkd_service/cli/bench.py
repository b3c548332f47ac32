"""`streamkd bench engine`, `decode`, `streams`, `compare`: what the live path costs on this machine."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from streamkd_service.cli.options import JsonOption, ModelOption, QuickOption, ReportOption
from streamkd_service.cli.screen import say
from streamkd_service.cli.train import resolve_model

if TYPE_CHECKING:
    from streamkd_service.bench.sections import Table as Cells


def engine(
    rounds: Annotated[int, typer.Option(min=3, help="Runs of each candidate.")] = 30,
    model: ModelOption = "shipped",
    as_json: JsonOption = False,
    quick: QuickOption = False,
    report: ReportOption = None,
) -> None:
    """One frame of the student on one thread: PyTorch eager, ONNX Runtime, int8, and our step with state."""
    from streamkd_service.bench.engine import BATCHES, run_engine
    from streamkd_service.bench.sections import engine_tables

    result = run_engine(resolve_model(model), rounds=5 if quick else rounds, batches=(1, 16) if quick else BATCHES)
    notes = [f"Not installed: {', '.join(result.left_out)}."] if result.left_out else []
    _show("engine", "The engine", asdict(result), engine_tables(result), notes, as_json=as_json, report=report)


def decode(
    seconds: Annotated[float, typer.Option(min=1.0, help="Of stream in each measurement.")] = 8.0,
    rounds: Annotated[int, typer.Option(min=1, help="Measurements of each.")] = 5,
    accuracy: Annotated[
        list[Path] | None,
        typer.Option("--accuracy", help="Folder with clips.csv: what leaving out costs in accuracy; repeatable."),
    ] = None,
    model: ModelOption = "shipped",
    as_json: JsonOption = False,
    quick: QuickOption = False,
    report: ReportOption = None,
) -> None:
    """What reading one stream costs at least, from a file and over RTSP, and what leaving decoding out saves."""
    from streamkd_service.bench.decode import run_decode
    from streamkd_service.bench.rtsp import ENCODING
    from streamkd_service.bench.sections import decode_tables

    result = run_decode(
        2.0 if quick else seconds,
        1 if quick else rounds,
        resolve_model(model),
        accuracy_on=accuracy or (),
        say=say,
    )
    note = (
        f"{ENCODING}. CPU time of the reading threads, a picture that came; 5 of 15 pictures are converted, to what "
        "the student asks for. One conversion: of a picture that is converted, to what the student asks for, and to a "
        "square of its input size, which is in no sum."
    )
    _show("decode", "Reading a stream", asdict(result), decode_tables(result), [note], as_json=as_json, report=report)


def streams(
    cameras: Annotated[int, typer.Option(min=1, help="How many.")] = 16,
    seconds: Annotated[float, typer.Option(min=2.0, help="Measured time, warm-up excluded.")] = 60.0,
    still: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the cameras that show a still scene.")] = 0.0,
    workers: Annotated[int, typer.Option(min=0, help="Worker processes; 0: one a core.")] = 0,
    runs: Annotated[int, typer.Option(min=1, help="Runs, one after the other.")] = 1,
    floor: Annotated[float, typer.Option(min=0.0, help="Seconds of measuring the floor; 0: not at all.")] = 10.0,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of every camera, such as skip_loop_filter=none.")
    ] = None,
    model: ModelOption = "shipped",
    as_json: JsonOption = False,
    quick: QuickOption = False,
    report: ReportOption = None,
) -> None:
    """So many live RTSP cameras on this machine, server and all: what they cost, and how late the answers are."""
    from streamkd_service.bench.sections import STREAMS_NOTE, streams_tables
    from streamkd_service.bench.streams import StreamsOptions, run_streams

    if quick:
        cameras, seconds, floor = min(cameras, 4), min(seconds, 5.0), min(floor, 3.0)
    options = StreamsOptions(
        cameras=cameras,
        seconds=seconds,
        bundle=resolve_model(model),
        still=still,
        workers=workers,
        floor_s=floor,
        settings=dict(word.partition("=")[::2] for word in setting or ()),
    )
    results = [run_streams(options, say) for _ in range(runs)]
    found: Any = asdict(results[0]) if runs == 1 else {"runs": [asdict(result) for result in results]}
    name = f"streams-{options.cameras}{'-still' if still else ''}"
    title = f"{options.cameras} live cameras{f', {still:.0%} of them still' if still else ''}"
    _show(name, title, found, streams_tables(results), [STREAMS_NOTE], as_json=as_json, report=report)


def compare(
    cameras: Annotated[int, typer.Option(min=1, help="The same for each candidate.")] = 6,
    seconds: Annotated[float, typer.Option(min=2.0, help="Measured time of each.")] = 20.0,
    model: ModelOption = "shipped",
    as_json: JsonOption = False,
    quick: QuickOption = False,
    report: ReportOption = None,
) -> None:
    """The same cameras, model and rate: a thread a camera with OpenCV and PyTorch, the same batched, ours."""
    from streamkd_service.bench.compare import CompareOptions, run_compare
    from streamkd_service.bench.sections import compare_tables

    if quick:
        cameras, seconds = min(cameras, 2), min(seconds, 5.0)
    result = run_compare(CompareOptions(cameras=cameras, seconds=seconds, bundle=resolve_model(model)), say)
    _show("compare", "Others", asdict(result), compare_tables(result), result.notes(), as_json=as_json, report=report)


def _show(
    name: str, title: str, found: Any, tables: list[Cells], notes: list[str], *, as_json: bool, report: Path | None
) -> None:
    if report is not None:
        from streamkd_service.bench.report import write_section
        from streamkd_service.bench.sections import section

        command = " ".join(["streamkd", *sys.argv[1:]])
        write_section(name, section(title, command, tables, notes), report)
    if as_json:
        print(json.dumps(found, indent=2, default=str))
        return
    console = Console()
    for head, rows in tables:
        table = Table(*head)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for note in notes:
        console.print(note, highlight=False)
