"""The service as a whole, from what the Controller knows. No I/O here."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING

from streamkd_service.runtime.ports import SystemView, WorkerView

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from streamkd_service.runtime.desired import Desired
    from streamkd_service.runtime.fleet import Fleet


def system_view(
    fleet: Fleet,
    desired: Desired,
    *,
    now_s: float,
    started: tuple[datetime, float],
    live_version: str,
    open_events: int,
    store: str,
    refresh_running: str | None,
) -> SystemView:
    """How everything is now.

    Args:
        fleet: What the workers said.
        desired: Which cameras shall run, and where.
        now_s: Monotonic clock.
        started: When the Controller began, in UTC and on the monotonic clock.
        live_version: The model that shall serve.
        open_events: How many events are open.
        store: Kind of the database.
        refresh_running: Id of the refresh that runs.
    """
    placed = Counter(desired.placement.values())
    workers = tuple(_worker_view(fleet, worker_id, placed, now_s) for worker_id in fleet.workers)
    states = Counter(
        str(fleet.status(record.config, desired.placement.get(record.config.id), now_s).state)
        for record in desired.records
    )
    loaded = all(worker.model_version == live_version for worker in fleet.workers.values())
    return SystemView(
        version=installed_version("streamkd"),
        started_utc=started[0],
        uptime_s=now_s - started[1],
        ready=loaded and all(worker.alive for worker in workers),
        model_version=live_version,
        workers=workers,
        cameras_by_state=dict(states),
        open_events=open_events,
        store=store,
        refresh_running=refresh_running,
        overloaded=any(worker.slowed_cameras for worker in workers),
    )


def _worker_view(fleet: Fleet, worker_id: str, placed: Mapping[str, int], now_s: float) -> WorkerView:
    worker, totals = fleet.workers[worker_id], fleet.totals_of(worker_id)
    return WorkerView(
        worker_id=worker_id,
        node=worker.node,
        alive=worker.alive(now_s),
        cameras=placed.get(worker_id, 0),
        last_report_age_s=worker.age_s(now_s),
        rss_bytes=0 if totals is None else totals.rss_bytes,
        cpu_s=0.0 if totals is None else totals.cpu_s,
        restarts=worker.restarts,
        slowed_cameras=0 if totals is None else totals.slowed_cameras,
    )


__all__ = ["system_view"]
