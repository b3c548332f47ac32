"""What /metrics shows. Names and meanings: docs/reference/metrics.md.

Labels are closed sets: cameras and workers by their fixed ids, reasons, states, classes. A pid, an address or a version
in a label would make a new series at every restart; the one exception is `streamkd_model_info`.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from datetime import datetime
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from streamkd.events.rules import UNUSUAL_MOTION
from streamkd.store.records import RefreshStatus
from streamkd.types import EventKind
from streamkd_service.camera_series import CameraSeries
from streamkd_service.exposition import CONTENT_TYPE, Family, render
from streamkd_service.runtime.histograms import Histogram
from streamkd_service.totals import TotalsFold

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from streamkd.store.records import Change
    from streamkd.types import CameraStatus
    from streamkd_service.runtime.ports import CameraView, HistogramTotals, SystemView, WorkerTotals, WorkerView

_Key = TypeVar("_Key", bound=tuple[str, ...])
REFRESH_BOUNDS_S = (30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, inf)
_REFRESHES_KEPT = 1000
_OUTCOMES = tuple(status.value for status in RefreshStatus if status is not RefreshStatus.RUNNING)

_HISTOGRAMS = {  # name of the totals: name of the metric, what it measures, factor to the metric's unit
    "decode_ms": ("decode_seconds", "Time to decode and convert one due frame.", 1e-3),
    "inference_ms": ("inference_seconds", "Time of one run of the student, for all cameras in it.", 1e-3),
    "end_to_end_ms": ("end_to_end_seconds", "Time from the arrival of a frame's packet to its result.", 1e-3),
    "batch_size": ("batch_size", "Cameras in one run of the student.", 1.0),
}


class ServiceMetrics:
    """Collects what the API process learns from the Controller; any thread may tell or ask.

    Counters only rise while this object lives, whatever workers and cameras do. A removed camera's series vanish, and
    go on where they were if it comes back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals = TotalsFold()
        self._statuses: dict[str, CameraStatus] = {}
        self._series = CameraSeries()
        self._system: SystemView | None = None
        self._events: Counter[tuple[str, str, str]] = Counter()  # camera, kind, label
        self._kinds: set[tuple[str, str]] = {(EventKind.ANOMALY.value, UNUSUAL_MOTION)}  # kind, label
        self._restarts: Counter[str] = Counter()
        self._stream_clients = 0
        self._refreshes = _Refreshes()

    def fold(self, totals: Sequence[WorkerTotals]) -> None:
        """Add the latest totals of every worker incarnation."""
        with self._lock:
            self._totals.fold(totals)

    def set_cameras(self, views: Sequence[CameraView]) -> None:
        """Show exactly these cameras."""
        with self._lock:
            self._statuses = {view.config.id: view.status for view in views}
            self._series.keep(self._statuses)
            for view in views:
                labels = (*(view.config.labels or ()), view.status.action)
                self._kinds |= {(EventKind.ACTION.value, label) for label in labels if label}

    def set_system(self, view: SystemView) -> None:
        """Workers, the live model, open events."""
        with self._lock:
            before = {} if self._system is None else {worker.worker_id: worker for worker in self._system.workers}
            for worker in view.workers:
                last = before[worker.worker_id].restarts if worker.worker_id in before else 0
                self._restarts[worker.worker_id] += max(worker.restarts - last, 0)
            self._system = view

    def set_stream_clients(self, clients: int) -> None:
        """How many clients follow the live stream."""
        with self._lock:
            self._stream_clients = clients

    def count(self, change: Change) -> None:
        """Count a committed change; each must be told once."""
        with self._lock:
            if change.topic == "event" and change.action == "created":
                camera, kind, label = (str(change.data[name]) for name in ("camera_id", "kind", "label"))
                self._events[camera, kind, label] += 1
                self._kinds.add((kind, label))
            elif change.topic == "refresh":
                self._refreshes.observe(change.data)

    def observe_refresh(self, refresh: Mapping[str, Any]) -> None:
        """Show a refresh that ended before this process began (as `refresh_json` gives it), without counting it."""
        with self._lock:
            self._refreshes.show(refresh)

    def render(self) -> tuple[bytes, str]:
        """The page and its content type."""
        with self._lock:  # one consistent picture
            families = [*self._cameras(), *self._workers(), *self._service(), *self._refreshes.metrics()]
        return render(families), CONTENT_TYPE

    def _cameras(self) -> Iterator[Family]:
        return self._series.families(self._statuses, self._totals.get, self._events, self._kinds)

    def _workers(self) -> Iterator[Family]:
        workers = {} if self._system is None else {(worker.worker_id,): worker for worker in self._system.workers}
        for field, (name, text, factor) in _HISTOGRAMS.items():
            family = Family(f"streamkd_{name}", "histogram", text, ("worker",))
            for (worker_id,) in workers:
                totals = self._totals.histogram(field, worker_id)
                if totals.bounds:
                    _add(family, (worker_id,), totals, factor)
            yield family
        for name, text, value in _WORKER_GAUGES:
            yield _gauge(name, text, ("worker",), {key: value(worker) for key, worker in workers.items()})
        cpu = {key: self._totals.value("cpu_s", *key) for key in workers}
        yield _counter("worker_cpu_seconds", "Processor time of the worker's process.", ("worker",), cpu)
        restarts = {key: self._restarts[key[0]] for key in workers}
        yield _counter("worker_restarts", "Times that the worker's process was replaced.", ("worker",), restarts)

    def _service(self) -> Iterator[Family]:
        yield _gauge("stream_clients", "Clients that follow the live stream.", (), {(): self._stream_clients})
        system = self._system
        if system is None:
            return
        yield _gauge("model_info", "1 for the model that serves.", ("version",), {(system.model_version,): 1})
        yield _gauge("ready", "1 if every worker runs the model that serves.", (), {(): system.ready})
        yield _gauge("open_events", "Events that are open now.", (), {(): system.open_events})
        yield _gauge(
            "start_time_seconds", "Unix time at which the service began.", (), {(): system.started_utc.timestamp()}
        )
        running = system.refresh_running is not None
        yield _gauge("refresh_running", "1 while a refresh is running.", (), {(): running})


class _Refreshes:
    """Outcomes, durations, and the verdict of the last gate."""

    def __init__(self) -> None:
        self._duration_s = Histogram(REFRESH_BOUNDS_S)
        self._seen: OrderedDict[str, str] = OrderedDict()  # refresh → how it ended, as last told
        self._outcomes: Counter[str] = Counter()
        self._ended_s: float | None = None
        self._scores: dict[tuple[str, ...], float] = {}

    def observe(self, refresh: Mapping[str, Any]) -> None:
        outcome, refresh_id = str(refresh.get("status")), str(refresh.get("id"))
        before = self._seen.get(refresh_id)
        if outcome not in _OUTCOMES or outcome == before:
            return
        self._seen[refresh_id] = outcome
        if len(self._seen) > _REFRESHES_KEPT:
            self._seen.popitem(last=False)
        self._outcomes[outcome] += 1
        if before is not None:
            return  # promoted, and rolled back later
        started, ended = (datetime.fromisoformat(str(refresh[name])) for name in ("started_utc", "ended_utc"))
        self._duration_s.observe((ended - started).total_seconds())
        self.show(refresh)

    def show(self, refresh: Mapping[str, Any]) -> None:
        if refresh.get("ended_utc") is None:
            return
        self._ended_s = datetime.fromisoformat(str(refresh["ended_utc"])).timestamp()
        if refresh.get("gate"):
            self._scores = _gate_scores(refresh["gate"].get("checks") or ())

    def metrics(self) -> Iterator[Family]:
        outcomes = {(name,): self._outcomes[name] for name in _OUTCOMES}
        yield _counter("refreshes", "Refreshes that ended, by outcome.", ("outcome",), outcomes)
        text = "Time that a finished refresh took."
        yield _add(Family("streamkd_refresh_duration_seconds", "histogram", text), (), self._duration_s.totals())
        ended = {} if self._ended_s is None else {(): self._ended_s}
        yield _gauge("last_refresh_timestamp_seconds", "Unix time at which the last refresh ended.", (), ended)
        text = "What the last gate measured, its worst camera group for safety and its best for benefit."
        yield _gauge("gate_score", text, ("part",), self._scores)


def _gate_scores(checks: Iterable[Mapping[str, Any]]) -> dict[tuple[str, ...], float]:
    """Per part of the gate the value that decides: the lowest for safety, the highest for the others."""
    scores: dict[tuple[str, ...], float] = {}
    for check in checks:
        value, part = check.get("value"), str(check.get("part"))
        if isinstance(value, (int, float)):
            worse = min if part == "safety" else max
            scores[part,] = worse(scores.get((part,), value), value)
    return scores


def _up(worker: WorkerView) -> float:
    return float(worker.alive)


_WORKER_GAUGES = (
    ("worker_up", "1 if the worker reports.", _up),
    ("worker_cameras", "Cameras that the worker runs.", lambda worker: worker.cameras),
    ("worker_slowed_cameras", "Cameras at a lower rate because of overload.", lambda worker: worker.slowed_cameras),
    ("worker_resident_memory_bytes", "Resident memory of the worker's process.", lambda worker: worker.rss_bytes),
)


def _counter(name: str, text: str, labels: tuple[str, ...], values: Mapping[_Key, float]) -> Family:
    return Family(f"streamkd_{name}", "counter", text, labels).add(values)


def _gauge(name: str, text: str, labels: tuple[str, ...], values: Mapping[_Key, float]) -> Family:
    return Family(f"streamkd_{name}", "gauge", text, labels).add(values)


def _add(family: Family, key: tuple[str, ...], totals: HistogramTotals, factor: float = 1.0) -> Family:
    bounds = (inf if bound == inf else round(bound * factor, 9) for bound in totals.bounds)
    return family.add_histogram(key, list(zip(bounds, totals.counts, strict=True)), totals.sum * factor)


__all__ = ["CONTENT_TYPE", "ServiceMetrics"]
