"""The live table: what every camera does now, from a running service's API. `streamkd top` and the demo show it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streamkd.errors import StreamkdError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streamkd_service.client import ApiClient, ServerEvent

_REFRESH_S = 0.5
_PLAIN_EVERY_S = 5.0
_RECONNECT_S = 1.0
_NO_ACTION = "–"  # noqa: RUF001 - as the page shows it
_SUSPECTED = 0.5  # an action is named from this share of the score at which it opens an event
_OPENS_AT = 0.5  # where the action opens no event on this camera
_DROPPED = "streamkd_frames_dropped"
_STATE_STYLE = {
    "online": "green",
    "warming": "cyan",
    "connecting": "cyan",
    "disabled": "dim",
    "stalled": "red",
    "backing_off": "red",
}
_COLUMNS = ("camera", "state", "fps", "action", "score", "latency", "drops", "events")


@dataclass(frozen=True, slots=True)
class Row:
    """One camera in the table."""

    camera: str
    state: str
    fps: float
    action: str
    score: float
    latency_ms: float | None
    drops: int
    events: int
    detail: str = ""

    def cells(self) -> tuple[str, ...]:
        latency = "-" if self.latency_ms is None else f"{self.latency_ms:.0f} ms"
        numbers = (f"{self.fps:.1f}", self.action or _NO_ACTION, f"{self.score:.2f}", latency)
        return (self.camera, self.state, *numbers, str(self.drops), str(self.events))


@dataclass(slots=True)
class Seen:
    """What has happened since the table was opened; filled by the stream's thread, read by the table's."""

    started: Counter[str] = field(default_factory=Counter)  # events by camera
    labels: Counter[tuple[str, str]] = field(default_factory=Counter)  # events by camera and label
    ever_online: set[str] = field(default_factory=set)
    ids: set[str] = field(default_factory=set)

    def note_event(self, data: dict[str, Any]) -> bool:
        """Count an event once; returns whether it is new."""
        event_id = str(data.get("id", ""))
        if event_id in self.ids:
            return False
        self.ids.add(event_id)
        camera = str(data.get("camera_id", ""))
        self.started[camera] += 1
        self.labels[camera, str(data.get("label", ""))] += 1
        return True


def rows_of(cameras: Iterable[dict[str, Any]], drops: dict[str, int], seen: Seen) -> list[Row]:
    """The table's rows from the API's answer to `GET /v1/cameras`."""
    rows = []
    for camera in cameras:
        status = camera["status"] or {}
        name, state = str(camera["id"]), str(status.get("state", "connecting"))
        if state == "online":
            seen.ever_online.add(name)
        rows.append(
            Row(
                camera=name,
                state=state,
                fps=float(status.get("fps_analysed", 0.0)),
                action=shown_action(status),
                score=float(status.get("action_score", 0.0)),
                latency_ms=status.get("latency_ms"),
                drops=drops.get(name, 0),
                events=seen.started[name],
                detail=str(status.get("detail", "")),
            )
        )
    return rows


def shown_action(status: dict[str, Any]) -> str:
    """The likeliest action, or nothing where it is not even suspected."""
    suspected_from = _SUSPECTED * (status.get("action_opens_at") or _OPENS_AT)
    return str(status.get("action", "")) if status.get("action_score", 0.0) >= suspected_from else ""


def drops_of(metrics: str) -> dict[str, int]:
    """Dropped frames by camera, all reasons together, from the text of `/metrics`."""
    drops: Counter[str] = Counter()
    for family in text_string_to_metric_families(metrics):
        if family.name == _DROPPED:
            for sample in family.samples:
                if sample.name.endswith("_total"):
                    drops[sample.labels["camera"]] += int(sample.value)
    return dict(drops)


def render(rows: Iterable[Row], *, title: str, caption: str) -> Table:
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left", expand=False)
    for name in _COLUMNS:
        right = name in {"fps", "score", "latency", "drops", "events"}
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for row in rows:
        cells: list[Any] = list(row.cells())
        cells[1] = Text(row.state, style=_STATE_STYLE.get(row.state, "yellow"))
        table.add_row(*cells)
    return table


def describe_event(data: dict[str, Any]) -> str:
    """One line for people about the beginning of an event."""
    at = str(data.get("start_utc", ""))[11:19]
    return f"{at}  {data.get('kind')} {data.get('label')!r} on {data.get('camera_id')}, score {data.get('score'):.2f}"


class LiveTable:
    """Shows the table until told to end.

    On a terminal the table is redrawn in place and events scroll above it; elsewhere plain lines are printed.

    Args:
        client: The service's API.
        console: Where to draw.
        until: Asked a few times a second; True ends the table.
    """

    def __init__(self, client: ApiClient, console: Console, until: Callable[[], bool], title: str = "streamkd") -> None:
        self._client = client
        self._console = console
        self._until = until
        self._title = title
        self._ended = threading.Event()
        self.seen = Seen()
        self.rows: list[Row] = []

    def run(self) -> None:
        listener = threading.Thread(target=self._listen, name="events", daemon=True)
        listener.start()
        try:
            if self._console.is_terminal:
                self._run_live()
            else:
                self._run_plain()
        finally:
            self._ended.set()

    def _run_live(self) -> None:
        with Live(console=self._console, refresh_per_second=4, transient=False) as live:
            while not self._until():
                live.update(self._draw())
                time.sleep(_REFRESH_S)

    def _run_plain(self) -> None:
        printed_s = -_PLAIN_EVERY_S
        while not self._until():
            self._draw()
            if time.monotonic() - printed_s >= _PLAIN_EVERY_S:
                printed_s = time.monotonic()
                for row in self.rows:
                    cells = zip(_COLUMNS, row.cells(), strict=True)
                    self._console.print(
                        "  ".join(f"{name}={cell}" for name, cell in cells), highlight=False, soft_wrap=True
                    )
            time.sleep(_REFRESH_S)

    def _draw(self) -> Group | Table:
        try:
            cameras = self._client.get("/v1/cameras")
            drops = drops_of(self._client.text("/metrics"))
        except StreamkdError as error:
            return Group(Text(error.message, style="red"), render(self.rows, title=self._title, caption=""))
        self.rows = rows_of(cameras, drops, self.seen)
        wrong = [f"{row.camera}: {row.detail}" for row in self.rows if row.detail and row.state != "online"]
        return render(self.rows, title=self._title, caption="\n".join([self._client.url, *wrong]))

    def _listen(self) -> None:
        last: str | None = None
        while not self._ended.is_set():
            try:
                for message in self._client.stream(last):
                    last = message.id or last
                    self._hear(message)
                    if self._ended.is_set():
                        return
            except StreamkdError:
                self._ended.wait(_RECONNECT_S)

    def _hear(self, message: ServerEvent) -> None:
        if message.topic == "event" and self.seen.note_event(message.data):
            self._console.print(describe_event(message.data), style="bold yellow", highlight=False)


__all__ = ["LiveTable", "Row", "Seen", "describe_event", "drops_of", "render", "rows_of", "shown_action"]
