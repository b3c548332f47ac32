"""`streamkd bench api`: pages of events on a long history, /metrics with many cameras, many live clients at once.

Everything is the service's own (API process, Controller in its Ray actor, store) but the workers, which are played:
they report as workers do, an event with a picture each time. The clients are processes of their own; what each side
costs is measured apart.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import yaml

from streamkd.errors import UnavailableError
from streamkd.store import upgrade
from streamkd.store.events import encode_cursor
from streamkd.store.records import EventQuery
from streamkd.store.repository import open_repository
from streamkd_service.api.feed import FRESH_S
from streamkd_service.bench.api_data import RARE_LABEL, camera_name, fill_events
from streamkd_service.bench.report import machine, markdown_table, percentile
from streamkd_service.bench.waiting import pass_time, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE_GOAL_MS, METRICS_GOAL_MS, STREAM_GOAL_MS = 50.0, 200.0, 250.0
_READY_S = 90.0
_WARM_PAGES = 3
_SCRAPE_EVERY_S = FRESH_S + 0.1  # far enough apart to ask the Controller each time


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """One run; `url` names an empty database, None makes an SQLite file that is deleted afterwards."""

    rows: int = 1_000_000
    cameras: int = 1000
    workers: int = 10
    events_per_s: float = 100.0
    rounds: int = 30  # of every kind of page
    scrapes: int = 20
    clients: int = 200
    stream_s: float = 20.0
    url: str | None = None

    def quick(self) -> ApiOptions:
        """A few seconds of everything."""
        return replace(self, rows=min(self.rows, 50_000), rounds=8, scrapes=5, stream_s=5.0)


@dataclass(frozen=True, slots=True)
class ApiResult:
    """What was seen; the fields of `--json`."""

    rows: int
    store: str
    events_per_s: float  # written during the run
    page_p50_ms: float
    page_p95_ms: float
    pages: dict[str, tuple[float, float, float]]  # kind of page: p50, p95, most
    metrics_cameras: int
    metrics_p50_ms: float
    metrics_max_ms: float
    metrics_mb: float
    stream_clients: int
    stream_events: int
    stream_complete: int  # clients that got each event that workers told meanwhile, once and in order
    stream_p50_ms: float
    stream_p95_ms: float
    late_reports: int
    cpu_share: dict[str, dict[str, float]]  # phase: process: cores
    rss_mb: dict[str, float]

    @property
    def ok(self) -> bool:
        """Whether every goal is met."""
        return (
            self.page_p95_ms <= PAGE_GOAL_MS
            and self.metrics_max_ms <= METRICS_GOAL_MS
            and self.stream_p95_ms <= STREAM_GOAL_MS
            and self.stream_complete == self.stream_clients
        )


def bench_api(options: ApiOptions, say: Callable[[str], None] = lambda _: None) -> ApiResult:
    """Fill a database, serve it, measure.

    Raises:
        UnavailableError: The service did not start.
        StoreError: The database can't be used.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamkd-bench-")))
        url = options.url or f"sqlite:///{folder / 'streamkd.db'}"
        upgrade(url)
        say(f"writing {options.rows:,} events")
        fill_events(url, options.rows, options.cameras)
        served = stack.enter_context(_served(options, url, folder))
        _warm(served)
        return _measure(options, url, served, say)


def _warm(served: _Served) -> None:
    """Until every worker is heard of, and pages and metrics have been answered: statements are prepared then.

    Raises:
        UnavailableError: The service does not become ready.
    """

    def ready() -> bool:
        try:
            return served.http.get("/readyz").is_success
        except httpx.TransportError:  # too busy to answer in time
            return False

    if not wait_until(ready, _READY_S):
        raise UnavailableError(
            "The benchmark's service does not become ready.", hint="See whether the machine is busy."
        )
    for _ in range(_WARM_PAGES):
        for path in ("/v1/events", "/metrics"):
            served.http.get(path).raise_for_status()


@dataclass(slots=True)
class _Served:
    url: str
    http: httpx.Client
    pids: dict[str, int]

    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get("/bench/told", timeout=90).json()
        return found

    @contextlib.contextmanager
    def costs(self, into: dict[str, dict[str, float]], phase: str) -> Iterator[None]:
        """Cores that each process keeps busy meanwhile."""
        before, began_s = self._cpu_s(), time.monotonic()
        yield
        lasted_s = time.monotonic() - began_s
        into[phase] = {name: (now - before[name]) / lasted_s for name, now in self._cpu_s().items()}

    def _cpu_s(self) -> dict[str, float]:
        times = {name: psutil.Process(pid).cpu_times() for name, pid in self.pids.items()}
        return {name: cpu.user + cpu.system for name, cpu in times.items()}

    def rss_mb(self) -> dict[str, float]:
        return {name: psutil.Process(pid).memory_info().rss / 2**20 for name, pid in self.pids.items()}


@contextlib.contextmanager
def _served(options: ApiOptions, url: str, folder: Path) -> Iterator[_Served]:
    config = {
        "cameras": [{"id": camera_name(index), "url": "rtsp://127.0.0.1:9/x"} for index in range(options.cameras)],
        "store": {"url": url, "media_dir": str(folder / "media"), "models_dir": str(folder / "models")},
        "workers": {"count": options.workers},
        "api": {"port": 0},
        "log": {"level": "error"},
    }
    path = folder / "bench.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [sys.executable, "-m", "streamkd_service.bench.api_server", str(path)]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(  # noqa: S603 - our own module
            [*command, str(options.workers), str(options.events_per_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        line = server.stdout.readline()
        if not line:
            words = (folder / "server.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise UnavailableError(f"The benchmark's service did not start: {words[-1] if words else 'no word'}.")
        address = json.loads(line)["url"]
        with httpx.Client(base_url=address, timeout=30, trust_env=False) as http:
            served = _Served(address, http, {})
            served.pids = served.told()["pids"]
            yield served
    finally:
        server.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(15)
        server.kill()
        server.wait()
        server.stdout.close()
        shutil.rmtree(folder / "media", ignore_errors=True)


def _measure(options: ApiOptions, url: str, served: _Served, say: Callable[[str], None]) -> ApiResult:
    cpu: dict[str, dict[str, float]] = {}
    before, began_s = served.told(), time.monotonic()
    say("pages of events")
    with served.costs(cpu, "pages"):
        pages = _pages(options, url, served.http)
    say(f"/metrics with {options.cameras:,} cameras")
    with served.costs(cpu, "metrics"):
        scrapes, size = _scrapes(options, served.http)
    say(f"{options.clients} live clients")
    with served.costs(cpu, "stream"):
        stream = _stream(options, served.url)
    after, lasted_s = served.told(), time.monotonic() - began_s
    cpu["stream"]["clients"] = stream["cpu_s"] / options.stream_s
    every = [value for values in pages.values() for value in values]
    return ApiResult(
        rows=options.rows,
        store="sqlite" if url.startswith("sqlite") else "postgresql",
        events_per_s=(after["events"] - before["events"]) / lasted_s,
        page_p50_ms=percentile(every, 0.5),
        page_p95_ms=percentile(every, 0.95),
        pages={kind: (percentile(v, 0.5), percentile(v, 0.95), max(v)) for kind, v in pages.items()},
        metrics_cameras=options.cameras,
        metrics_p50_ms=percentile(scrapes, 0.5),
        metrics_max_ms=max(scrapes),
        metrics_mb=size / 1e6,
        stream_clients=options.clients,
        stream_events=stream["events"],
        stream_complete=stream["complete"],
        stream_p50_ms=percentile(stream["delays_ms"], 0.5),
        stream_p95_ms=percentile(stream["delays_ms"], 0.95),
        late_reports=after["late"] - before["late"],
        cpu_share=cpu,
        rss_mb=served.rss_mb(),
    )


def _pages(options: ApiOptions, url: str, http: httpx.Client) -> dict[str, list[float]]:
    """Times of every kind of page, in ms; kinds alternate, and the first round is left out."""
    queries = _queries(url)
    times: dict[str, list[float]] = defaultdict(list)
    cursor: str | None = None
    for turn in range(options.rounds + 1):
        for kind, query in queries.items():
            params = query | ({"cursor": cursor} if kind == "next page" and cursor else {})
            began_s = time.perf_counter()
            answer = http.get("/v1/events", params=params)
            took_ms = (time.perf_counter() - began_s) * 1e3
            answer.raise_for_status()
            if kind == "next page":
                cursor = answer.json()["next_cursor"]
            if turn:
                times[kind].append(took_ms)
    return dict(times)


def _queries(url: str) -> dict[str, dict[str, str]]:
    """What people and programs ask for; 50 events each."""
    now = datetime.now(UTC)
    middle = now - timedelta(days=15)
    with open_repository(url, read_only=True) as repository:
        deep = encode_cursor(repository.list_events(EventQuery(before=middle, limit=1)).events[0])
    return {
        "newest": {},
        "next page": {},
        "deep in the past": {"cursor": deep},
        "an hour of the past": {"after": middle.isoformat(), "before": (middle + timedelta(hours=1)).isoformat()},
        "one camera": {"camera": camera_name(7)},
        "a common label": {"label": "fall"},
        "a rare label": {"label": RARE_LABEL},
        "a label that never was": {"label": "none"},
        "anomalies": {"kind": "anomaly"},
        "a camera's rare label": {"camera": camera_name(7), "label": RARE_LABEL},
        "score ≥ 0.95": {"min_score": "0.95"},
        "open": {"open": "true"},
    }


def _scrapes(options: ApiOptions, http: httpx.Client) -> tuple[list[float], int]:
    """Times in ms, and the page's bytes."""
    times, size = [], 0
    next_s = time.monotonic()
    for turn in range(options.scrapes + 1):
        pass_time(next_s)
        next_s = time.monotonic() + _SCRAPE_EVERY_S
        began_s = time.perf_counter()
        answer = http.get("/metrics")
        took_ms = (time.perf_counter() - began_s) * 1e3
        answer.raise_for_status()
        size = len(answer.content)
        if turn:
            times.append(took_ms)
    return times, size


def _stream(options: ApiOptions, url: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "streamkd_service.bench.sse", url, str(options.clients), str(options.stream_s)]
    ended = subprocess.run(command, capture_output=True, timeout=options.stream_s + 90, check=False)  # noqa: S603
    if ended.returncode:
        raise UnavailableError(f"The benchmark's clients failed: {ended.stderr.decode()[-300:]}.")
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def table(result: ApiResult) -> list[tuple[str, str, str, str]]:
    """Rows of (what, seen, goal, met)."""

    def row(what: str, seen: float, goal: float) -> tuple[str, str, str, str]:
        return what, f"{seen:.0f} ms", f"≤ {goal:.0f} ms", "yes" if seen <= goal else "**no**"

    complete = f"{result.stream_complete} of {result.stream_clients}"
    return [
        row(f"page of 50 events, {result.rows:,} rows, p95", result.page_p95_ms, PAGE_GOAL_MS),
        row(f"/metrics, {result.metrics_cameras:,} cameras, slowest", result.metrics_max_ms, METRICS_GOAL_MS),
        row(f"event to client, {result.stream_clients} clients, p95", result.stream_p95_ms, STREAM_GOAL_MS),
        (
            "clients that got each event once",
            complete,
            "all",
            "yes" if result.stream_complete == result.stream_clients else "**no**",
        ),
    ]


def section(result: ApiResult, command: str) -> str:
    """The section of docs/results/performance.md."""
    kinds = [(kind, *(f"{value:.1f}" for value in values)) for kind, values in result.pages.items()]
    names = sorted({name for shares in result.cpu_share.values() for name in shares})
    shares = [
        (phase, *(f"{found[name]:.2f}" if name in found else "" for name in names))
        for phase, found in result.cpu_share.items()
    ]
    memory = ", ".join(f"{name} {value:.0f} MB" for name, value in result.rss_mb.items())
    how = (
        f"`{command}` on {machine()}. {result.events_per_s:.0f} events a second were written meanwhile, each with a "
        f"picture of 20 kB; reports that were late: {result.late_reports}."
    )
    more = (
        f"Pages by kind, ms (/metrics: median {result.metrics_p50_ms:.0f} ms, {result.metrics_mb:.1f} MB; "
        f"live clients: median {result.stream_p50_ms:.0f} ms, {result.stream_events} events):"
    )
    parts = [
        f"## Read side ({result.store})",
        how,
        markdown_table(["", "seen", "goal", "met"], table(result)),
        more,
        markdown_table(["page", "p50", "p95", "most"], kinds),
        f"Cores that each process kept busy (memory: {memory}):",
        markdown_table(["phase", *names], shares),
    ]
    return "\n\n".join(parts)


def as_json(result: ApiResult) -> dict[str, Any]:
    """For `--json`."""
    return asdict(result) | {"ok": int(result.ok)}


__all__ = ["ApiOptions", "ApiResult", "as_json", "bench_api", "section", "table"]
