"""A Controller on a real database, with workers played by the test."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace

from pydantic import SecretStr

from streamkd.bundle import read_bundle, write_manifest
from streamkd.clock import SystemClock
from streamkd.config import CameraConfig, Config
from streamkd.errors import UnavailableError
from streamkd.store import open_repository
from streamkd.store.records import EventQuery
from streamkd.types import EventUpdate
from streamkd_service.runtime.controller import Controller
from streamkd_service.runtime.models import record_of
from streamkd_service.runtime.ports import HistogramTotals, WorkerReport, WorkerTotals
from tests.fakes import make_event

NONE = HistogramTotals((float("inf"),), (0,), 0.0)


def camera(name: str, **settings) -> CameraConfig:
    return CameraConfig(id=name, url=SecretStr(f"rtsp://user:secret@host/{name}"), **settings)


def update(event_id: str, *, revision: int = 1, epoch: str = "one", ended: bool = False) -> EventUpdate:
    began = make_event(event_id, revision=revision, epoch=epoch, snapshot_jpeg=b"jpeg")
    return replace(began, end_utc=began.start_utc, end_pts_s=0.0) if ended else began


def report(worker_id="worker-0", epoch="one", *, revision=-1, updates=(), statuses=(), model="") -> WorkerReport:
    return WorkerReport(
        worker_id=worker_id,
        epoch=epoch,
        sent_at_s=0.0,
        assignment_revision=revision,
        model_version=model,
        updates=tuple(updates),
        statuses=tuple(statuses),
        totals=WorkerTotals(worker_id, epoch, (), NONE, NONE, NONE, NONE, 1, 1.0),
    )


@dataclass
class Workers:
    """Answers for every worker."""

    async def snapshot(self, worker_id: str, camera_id: str) -> bytes:
        if camera_id == "dark":
            raise UnavailableError("Camera 'dark' gives no picture now.")
        return f"{worker_id} {camera_id}".encode()

    async def harvest(self, *_: object) -> list[object]:
        return []


class Jobs:
    """Runs nothing."""

    async def run_job(self, entry, kwargs, progress=None, *, nice=19):
        raise UnavailableError(f"{entry} is not run here.")

    def progressed(self, job_id, detail, fraction) -> None: ...


@contextlib.asynccontextmanager
async def running(config: Config, worker_ids=("worker-0",)):
    controller = Controller(config, worker_ids, Workers(), Jobs())
    await controller.start()
    try:
        yield controller
    finally:
        await controller.stop()


def events(config: Config):
    with open_repository(config.store.url.get_secret_value(), read_only=True) as repository:
        return {event.id: event for event in repository.list_events(EventQuery()).events}


def run(scenario):
    return asyncio.run(asyncio.wait_for(scenario, 20))


def record_of_bundle(folder):
    write_manifest(folder)
    return replace(record_of(read_bundle(folder), SystemClock()), parent="tiny-1")


__all__ = ["camera", "events", "record_of_bundle", "report", "run", "running", "update"]
