"""Commands that ask a running service over its API: refresh and models."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from streamkd.errors import ConflictError, UnavailableError
from streamkd_service.cli.options import TokenOption, UrlOption

if TYPE_CHECKING:
    from streamkd_service.client import ApiClient

_POLL_S = 0.5
_PATIENCE_S = 15.0
_STEPS = ("harvest", "teach", "distil", "gate", "swap")


def refresh(
    url: UrlOption = None,
    token: TokenOption = None,
    self_test: Annotated[
        str | None, typer.Option(help="shuffled_labels: a fire drill that the gate has to refuse.")
    ] = None,
    harvest_s: Annotated[float | None, typer.Option(min=1, help="Collect footage for so long.")] = None,
    clips_per_camera: Annotated[int | None, typer.Option(min=2, help="Clips kept of each camera.")] = None,
) -> int:
    """Distil a better student from the running cameras; it serves only if the gate agrees."""
    wanted = {"self_test": self_test, "harvest_s": harvest_s, "clips_per_camera": clips_per_camera}
    console = Console()
    with _client(url, token) as client:
        started = client.post("/v1/refreshes", {key: value for key, value in wanted.items() if value is not None})
        ended = _follow(client, started, console)
    console.print(f"{ended['status']}: {ended['detail']}", highlight=False)
    as_wished = "refused" if self_test else "promoted"
    return 0 if ended["status"] == as_wished else 1


def _follow(client: ApiClient, record: dict[str, Any], console: Console) -> dict[str, Any]:
    columns = (TextColumn("{task.description:<8}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as bars:
        tasks = {step: bars.add_task(step, total=1.0, start=False) for step in _STEPS}
        away_s = time.monotonic()
        while record["status"] == "running":
            _show(bars, tasks, record)
            time.sleep(_POLL_S)
            with contextlib.suppress(UnavailableError):  # the service may be busy for a moment; it ends by itself
                record = client.get(f"/v1/refreshes/{record['id']}")
                away_s = time.monotonic()
            if time.monotonic() - away_s > _PATIENCE_S:
                record = client.get(f"/v1/refreshes/{record['id']}")  # says what is wrong
        _show(bars, tasks, record)
    return record


def _show(bars: Progress, tasks: dict[str, Any], record: dict[str, Any]) -> None:
    for step, task in tasks.items():
        if step in record["steps_s"]:
            bars.start_task(task)
            bars.update(task, completed=1.0)
            bars.stop_task(task)
        elif step == record["step"]:
            bars.start_task(task)
            bars.update(task, completed=record["progress"])


def clip(
    event: Annotated[str, typer.Argument(help="The event's id, as GET /v1/events shows it.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file; CAMERA-ID.mp4 if left out.")] = None,
    url: UrlOption = None,
    token: TokenOption = None,
) -> int:
    """Save the video clip of an event; waits while the event is going on."""
    with _client(url, token) as client:
        found = client.get(f"/v1/events/{event}")
        target = out or Path(f"{found['camera_id']}-{event}.mp4")
        while True:
            try:
                size = client.download(f"/v1/events/{event}/clip.mp4", target)
            except ConflictError:
                time.sleep(_POLL_S)
            else:
                break
    print(f"{target} ({size / 1e6:.1f} MB)")
    return 0


def models_list(url: UrlOption = None, token: TokenOption = None) -> int:
    """The versions that a running service knows, newest first."""
    with _client(url, token) as client:
        known = client.get("/v1/models")
    table = Table("version", "live", "parent", "created")
    for model in known:
        table.add_row(model["version"], "yes" if model["live"] else "", model["parent"] or "", model["created_utc"])
    Console().print(table)
    return 0


def models_promote(
    version: Annotated[str, typer.Argument(help="As streamkd models list shows it.")],
    url: UrlOption = None,
    token: TokenOption = None,
) -> int:
    """Let a version serve; the running workers load, warm and swap it in."""
    with _client(url, token) as client:
        live = client.post(f"/v1/models/{version}/promote")
    print(f"{live['version']} serves now.")
    return 0


def models_rollback(url: UrlOption = None, token: TokenOption = None) -> int:
    """Let the version that served before serve again."""
    with _client(url, token) as client:
        live = client.post("/v1/models/rollback")
    print(f"{live['version']} serves now.")
    return 0


def _client(url: str | None, token: str | None) -> ApiClient:
    from streamkd_service.client import ApiClient
    from streamkd_service.settings import client_settings

    return ApiClient(*client_settings(url, token))
