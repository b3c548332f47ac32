"""`streamkd bench engine`, `decode`, `streams`, `compare`: what the live path costs on this machine."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
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
    from streamkd_service.bench.streams import StreamsOptions


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
    cameras: Annotated[str, typer.Option(help="How many; 8,16,32: one after the other.")] = "16",
    seconds: Annotated[float, typer.Option(min=2.0, help="Measured time, warm-up excluded.")] = 60.0,
    minutes: Annotated[float, typer.Option(min=0.0, help="The same in minutes; how memory grows, too.")] = 0.0,
    still: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the cameras that show a still scene.")] = 0.0,
    workers: Annotated[int, typer.Option(min=0, help="Worker processes; 0: as the service does.")] = 0,
    rounds: Annotated[int, typer.Option("--rounds", "--runs", min=1, help="Runs, one after the other.")] = 1,
    search: Annotated[
        str, typer.Option(help="LOW:HIGH: the largest number of cameras that holds in every round.")
    ] = "",
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
    from streamkd_service.bench import streams_many as many
    from streamkd_service.bench.streams import StreamsOptions

    counts = [min(count, 4) for count in many.numbers(cameras)] if quick else many.numbers(cameras)
    measured_s = 60.0 * minutes or seconds
    options = StreamsOptions(
        cameras=counts[0],
        seconds=min(measured_s, 5.0) if quick else measured_s,
        bundle=resolve_model(model),
        still=still,
        workers=workers,
        floor_s=min(floor, 3.0) if quick else floor,
        settings=dict(word.partition("=")[::2] for word in setting or ()),
    )
    if search:
        found = _streams_search(options, *many.bounds(search), rounds)
    elif len(counts) > 1:
        found = _streams_line(options, counts, rounds, report)
    else:
        found = _streams_one(options, rounds, long=minutes > 0)
    _show(found.name, found.title, found.found, found.tables, found.notes, as_json=as_json, report=report)


@dataclass(frozen=True, slots=True)
class _Shown:
    name: str  # of the report's section
    title: str
    found: Any
    tables: list[Cells]
    notes: list[str]


def _streams_one(options: StreamsOptions, rounds: int, *, long: bool) -> _Shown:
    from streamkd_service.bench import streams_many as many
    from streamkd_service.bench.sections import STREAMS_NOTE, streams_tables

    results = many.run_rounds(options, rounds, say)
    name = f"streams-{options.cameras}{'-still' if options.still else ''}{'-long' if long else ''}"
    title = f"{options.cameras} live cameras{_of_them_still(options)}{', for long' if long else ''}"
    return _Shown(name, title, many.as_json(results), streams_tables(results), [STREAMS_NOTE])


def _streams_line(options: StreamsOptions, counts: list[int], rounds: int, report: Path | None) -> _Shown:
    from streamkd_service.bench import streams_many as many
    from streamkd_service.bench.sections import STREAMS_NOTE, streams_tables

    results = [many.run_rounds(replace(options, cameras=count), rounds, say) for count in counts]
    seen = many.linearity(results)
    notes = [seen.verdict(), STREAMS_NOTE]
    if report is not None:
        plot = report.with_name("streams-linearity.svg")
        plot.write_text(many.linearity_plot(seen), encoding="utf-8")
        notes.insert(0, f"![CPU a stream over the number of cameras]({plot.name})")
    found = asdict(seen) | {"ok": int(seen.ok), "by_cameras": [many.as_json(runs) for runs in results]}
    tables = streams_tables([run for runs in results for run in runs])
    title = f"Cost of a stream by how many there are{_of_them_still(options)}"
    return _Shown("streams-linearity", title, found, tables, notes)


def _streams_search(options: StreamsOptions, low: int, high: int, rounds: int) -> _Shown:
    from streamkd_service.bench import streams_many as many
    from streamkd_service.bench.sections import STREAMS_NOTE, streams_tables

    best, seen = many.run_search(options, low, high, rounds, say)
    held = f"**{best} cameras** hold" if best else f"Not even {low} cameras hold"
    verdict = (
        f"{held} in {rounds} of {rounds} runs of {options.seconds:g} s; looked for from {low} to {high} by bisection. "
        "A number is given up with the first run that does not hold."
    )
    found = {"cameras": best, "by_cameras": [many.as_json(runs) for _, runs in sorted(seen.items())]}
    tables = streams_tables([run for _, runs in sorted(seen.items()) for run in runs])
    title = f"The most live cameras{_of_them_still(options)}"
    name = f"streams-search{'-still' if options.still else ''}"
    return _Shown(name, title, found, tables, [verdict, STREAMS_NOTE])


def _of_them_still(options: StreamsOptions) -> str:
    return f", {options.still:.0%} of them still" if options.still else ""


def compare(
    cameras: Annotated[int, typer.Option(min=1, help="The same for each candidate.")] = 6,
    seconds: Annotated[float, typer.Option(min=2.0, help="Measured time of each.")] = 20.0,
    roboflow_python: Annotated[
        Path | None, typer.Option(help="Python of an environment with Roboflow's inference and openvino.")
    ] = None,
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
    options = CompareOptions(
        cameras=cameras, seconds=seconds, bundle=resolve_model(model), roboflow_python=roboflow_python
    )
    result = run_compare(options, say)
    _show("compare", "Others", asdict(result), compare_tables(result), result.notes(), as_json=as_json, report=report)


def _show(
    name: str, title: str, found: Any, tables: list[Cells], notes: list[str], *, as_json: bool, report: Path | None
) -> None:
    if report is not None:
        from streamkd_service.bench.report import write_section
        from streamkd_service.bench.sections import section

        words = (Path(word).name if word.startswith("/") else word for word in sys.argv[1:])
        command = " ".join(["streamkd", *words])
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
