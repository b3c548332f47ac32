"""`streamkd bench api`, `streamkd bench scale`: what the service's read side and its placement cost."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from streamkd_service.cli import EXIT_NEGATIVE
from streamkd_service.cli.options import JsonOption, QuickOption, ReportOption
from streamkd_service.cli.screen import say


def api(
    rows: Annotated[int | None, typer.Option(min=1000, help="Events in the database.")] = None,
    cameras: Annotated[int | None, typer.Option(min=10, help="Cameras in /metrics.")] = None,
    clients: Annotated[int | None, typer.Option(min=1, help="Clients of the live stream.")] = None,
    url: Annotated[
        str | None, typer.Option("--url", help="An empty database; a temporary SQLite file if left out.")
    ] = None,
    as_json: JsonOption = False,
    quick: QuickOption = False,
    report: ReportOption = None,
) -> int:
    """Pages of events on a long history, /metrics with many cameras, many live clients, while events are written."""
    from streamkd_service.bench import api as bench

    base = bench.ApiOptions().quick() if quick else bench.ApiOptions()
    options = replace(
        base,
        rows=rows or base.rows,
        cameras=cameras or base.cameras,
        clients=clients or base.clients,
        url=url,
    )
    result = bench.bench_api(options, say)
    if report is not None:
        _write(f"api-{result.store}", bench.section(result, _command()), report)
    _show(bench.as_json(result), bench.table(result), as_json=as_json)
    return 0 if result.ok else EXIT_NEGATIVE


def scale(
    nodes: Annotated[int | None, typer.Option(min=10, help="Nodes of the simulation.")] = None,
    cameras: Annotated[int | None, typer.Option(min=10, help="Cameras of the simulation.")] = None,
    as_json: JsonOption = False,
    quick: QuickOption = False,
    report: ReportOption = None,
) -> int:
    """The Controller's placement of cameras on many nodes: time of a decision, cameras moved by a node's death."""
    from streamkd_service.bench import scale as bench

    base = bench.ScaleOptions().quick() if quick else bench.ScaleOptions()
    result = bench.bench_scale(replace(base, nodes=nodes or base.nodes, cameras=cameras or base.cameras), say)
    if report is not None:
        _write("scale", bench.section(result, _command()), report)
    _show(bench.as_json(result), bench.table(result), as_json=as_json)
    return 0 if result.ok else EXIT_NEGATIVE


def _command() -> str:
    return " ".join(["streamkd", *(word if "://" not in word else "URL" for word in sys.argv[1:])])


def _write(name: str, body: str, path: Path) -> None:
    from streamkd_service.bench.report import write_section

    write_section(name, body, path)


def _show(found: dict[str, object], rows: list[tuple[str, str, str, str]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, indent=2))
        return
    table = Table("", "seen", "goal", "met")
    for row in rows:
        table.add_row(*(cell.replace("**", "") for cell in row))
    Console().print(table)
