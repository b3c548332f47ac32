"""The Controller: desired cameras against actual ones, single writer of the store, source of live updates.

A plain asyncio class without Ray; `actors.py` wraps it. Everything it knows and must not lose is in the store: killed
at any moment, it begins again from there, and the workers' next reports tell it the rest. The database has one thread
of its own, so that neither the event loop waits for a disk nor two writes happen at once.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from streamkd.clock import SystemClock
from streamkd.config import CameraConfig
from streamkd.errors import ConflictError, NotFoundError, StoreError, StreamkdError, UnavailableError
from streamkd.store import open_repository
from streamkd.store.records import CameraOrigin
from streamkd_service.runtime.balance import Balance
from streamkd_service.runtime.costs import CameraCosts
from streamkd_service.runtime.desired import Desired, check_labels, patched, warn_of_labels
from streamkd_service.runtime.fleet import Fleet
from streamkd_service.runtime.group_commit import GroupCommit
from streamkd_service.runtime.housekeeping import Housekeeping
from streamkd_service.runtime.model_watch import ModelWatch
from streamkd_service.runtime.models import Models
from streamkd_service.runtime.news import News
from streamkd_service.runtime.overview import system_view
from streamkd_service.runtime.ports import CameraView, ReportReply
from streamkd_service.runtime.refresh_runner import RefreshRunner
from streamkd_service.runtime.told import ToldStates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from streamkd.clock import Clock
    from streamkd.config import Config
    from streamkd.refresh.harvest import HarvestedClip
    from streamkd.store.records import CameraRecord, EventRecord, ModelRecord, RefreshRecord
    from streamkd.store.repository import Repository
    from streamkd.types import CameraStatus, Verdict
    from streamkd_service.runtime.ports import (
        CameraPatch,
        ChangeBatch,
        ClipAnalysis,
        JobsPort,
        RefreshRequest,
        SystemView,
        WorkerReport,
        WorkersPort,
        WorkerTotals,
    )

T = TypeVar("T")
_WATCH_EVERY_S = 1.0
_GATHER_S = 60.0  # a Controller that has restarted hears of its workers again one by one
_INFER_ENTRY = "streamkd_service.runtime.infer:analyse_clip"
_log = structlog.get_logger(__name__)


class Controller:
    """Implements `ControllerPort`, and `report` for the workers.

    Args:
        config: The whole configuration.
        worker_ids: The workers that the service has.
        workers: How to reach one.
        jobs: How to run long work elsewhere.
        clock: Time.
    """

    def __init__(
        self,
        config: Config,
        worker_ids: Sequence[str],
        workers: WorkersPort,
        jobs: JobsPort,
        clock: Clock | None = None,
    ) -> None:
        self.config = config
        self._workers = workers
        self.jobs = jobs
        self._clock = clock or SystemClock()
        self._fleet = Fleet(worker_ids)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._told = ToldStates()
        self._editing = asyncio.Lock()  # reading a camera's settings and writing them is one step
        self._orphans_left = False  # events may be open that no living worker will close
        self._started_s = self._clock.monotonic_s()
        self._started_utc = self._clock.utc()
        # Revisions only rise, over restarts of the Controller too.
        self._costs = CameraCosts()
        first_revision = int(self._started_utc.timestamp() * 1000)
        self._desired = Desired(worker_ids, first_revision, self._costs.of)
        self._balance = Balance(self._fleet, self._desired, self._costs, self._started_s)
        self._capacities = dict.fromkeys(worker_ids, 1.0)
        self._tasks: list[asyncio.Task[None]] = []
        self._repository: Repository
        self._updates: GroupCommit
        self._news: News
        self._models: Models
        self._model_watch: ModelWatch
        self._runner: RefreshRunner

    # --- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin from the store.

        Raises:
            StoreError: It can't be opened.
            ConfigError: A camera of the YAML was already added through the API.
            BundleError: The configured student can't be used.
        """
        self._repository = await self.db(partial(open_repository, self.config.store.url.get_secret_value()))
        self._news = News(self._repository, self.db, self._clock)
        apply = partial(self._repository.apply_updates, media_dir=self.config.store.media_dir)
        self._updates = GroupCommit(lambda updates: self.db(partial(apply, updates)))
        self._models = await self.db(partial(Models.open, self.config, self._repository, self._clock))
        records = await self.db(partial(self._repository.sync_config_cameras, self.config.cameras))
        self._desired.put(*records)
        warn_of_labels(self._desired.records, self._models.spec)
        self._model_watch = ModelWatch(self, self._clock)
        await self._model_watch.recover()
        self._runner = RefreshRunner(self, self._clock, promoted=self._model_watch.begin)
        await self._runner.recover()
        housekeeping = Housekeeping(self.config, self._repository, self._models, self.db)
        self._tasks = [
            asyncio.create_task(self._watch(), name="watch"),
            asyncio.create_task(housekeeping.run(), name="housekeeping"),
        ]
        _log.info("controller started", cameras=len(records), model=self._models.live.version)

    async def stop(self) -> None:
        """Finish what is under way and close the store."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._runner.stop()
        await self._model_watch.stop()
        await self.db(self._repository.close)
        self._thread.shutdown(wait=True)

    async def db(self, call: Callable[[], T]) -> T:
        """Run a call on the database's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    # --- workers ---------------------------------------------------------------------------------------------------

    async def report(self, report: WorkerReport) -> ReportReply:
        """Take a worker's report in; the answer comes after COMMIT."""
        if not self._fleet.accepts(report):
            return ReportReply(accepted=False, assignment=None)
        new = self._fleet.is_new_incarnation(report)
        self._orphans_left = self._orphans_left or new
        now_s = self._clock.monotonic_s()
        self._fleet.take(report, now_s)
        self._costs.take(report, now_s)
        applied = await self._updates.apply(report.updates) if report.updates else False
        if new:
            restarts = self._fleet.workers[report.worker_id].restarts
            _log.info("worker started", worker=report.worker_id, node=report.node, restarts=restarts)
        closed = await self._close_orphans() if self._orphans_left else []
        if applied or closed:
            self.announce()
        await self._publish_states(status.camera_id for status in report.statuses)
        if report.assignment_revision == self._desired.revision:
            return ReportReply(accepted=True, assignment=None)
        assignment = self._desired.assignment(report.worker_id, self.config, self._models.live)
        return ReportReply(accepted=True, assignment=assignment)

    async def set_workers(self, capacities: dict[str, float]) -> dict[str, str]:
        """The cluster has these workers now, each as capable as it says; cameras of workers that have gone move.

        Returns the epoch of each worker's present incarnation, of those that have been heard of.
        """
        if capacities and capacities != self._capacities:
            self._capacities = dict(capacities)
            if self._fleet.set_workers(capacities):
                self._orphans_left = True
                _log.info("workers changed", workers=len(capacities))
            self._place()
        return {worker_id: worker.epoch for worker_id, worker in self._fleet.workers.items() if worker.epoch}

    def _place(self) -> None:
        """Use the workers that are there; where none of them is heard of, all of them."""
        now_s = self._clock.monotonic_s()
        lost = self._fleet.lost(now_s, waits=now_s - self._started_s < _GATHER_S)
        usable = {worker: share for worker, share in self._capacities.items() if worker not in lost}
        if self._desired.use(usable or self._capacities) and lost:
            _log.warning("cameras moved away from silent workers", workers=sorted(lost))

    async def _close_orphans(self) -> list[Any]:
        """Close the events of incarnations that are gone, once every worker has said which one it is now."""
        epochs = [worker.epoch for worker in self._fleet.workers.values()]
        if not all(epochs):
            return []
        close = partial(self._repository.close_interrupted, epoch_not=epochs, at=self._clock.utc())
        self._orphans_left = False
        try:
            return list(await self.db(close))
        except StoreError:
            self._orphans_left = True  # by the next report, when the database is back
            raise

    async def _watch(self) -> None:
        """Notice what no report tells: that one is missing."""
        while True:
            await asyncio.sleep(_WATCH_EVERY_S)
            self._place()
            self._balance.tick(self._clock.monotonic_s())
            self._model_watch.tick([self._status(record.config) for record in self._desired.records])
            try:
                await self._publish_states()
            except StreamkdError as error:
                _log.warning("camera states not published", reason=error.message)

    async def _publish_states(self, camera_ids: Iterable[str] | None = None) -> None:
        """Tell the live stream of cameras (None: all) whose state is another than last told."""
        records = self._desired.records if camera_ids is None else self._desired.known(camera_ids)
        drafts = self._told.news([self._view(record) for record in records])
        if drafts:
            await self.db(partial(self._repository.add_changes, drafts))
            self.announce()

    # --- cameras ---------------------------------------------------------------------------------------------------

    async def list_cameras(self) -> list[CameraView]:
        return [self._view(record) for record in self._desired.records]

    async def get_camera(self, camera_id: str) -> CameraView:
        return self._view(self._desired.record(camera_id))

    async def add_camera(self, config: CameraConfig) -> CameraView:
        check_labels(config, self._models.spec)
        record = await self.db(partial(self._repository.add_camera, config, CameraOrigin.API))
        return self._camera_changed(record)

    async def patch_camera(self, camera_id: str, patch: CameraPatch) -> CameraView:
        async with self._editing:
            config = patched(self._desired.record(camera_id).config, patch)
            if "labels" in patch.changes:  # a camera's older ones don't stand in the way of other changes
                check_labels(config, self._models.spec)
            record = await self.db(partial(self._repository.update_camera, config))
            return self._camera_changed(record)

    async def delete_camera(self, camera_id: str) -> None:
        async with self._editing:
            self._told.leaving = camera_id
            try:
                await self.db(partial(self._repository.delete_camera, camera_id))
                self._desired.remove(camera_id)
            finally:
                self._told.leaving = ""
        self._told.forget(camera_id)
        self.announce()

    async def snapshot(self, camera_id: str) -> bytes:
        """The camera's newest picture.

        Raises:
            NotFoundError: There is no such camera.
            UnavailableError: It gives no picture now.
        """
        record = self._desired.record(camera_id)
        worker_id = self._desired.placement.get(camera_id)
        if not record.config.enabled or worker_id is None:
            raise ConflictError(f"Camera {camera_id!r} is disabled.", hint="Enable it first.")
        try:
            return await self._workers.snapshot(worker_id, camera_id)
        except NotFoundError as error:
            raise UnavailableError(f"Camera {camera_id!r} is only starting.", hint="Try again shortly.") from error

    def _camera_changed(self, record: CameraRecord) -> CameraView:
        self._desired.put(record)
        self.announce()
        return self._view(record)

    def _view(self, record: CameraRecord) -> CameraView:
        status = self._status(record.config)
        return CameraView(record.config, record.origin, status, self._desired.placement.get(record.config.id))

    def _status(self, config: CameraConfig) -> CameraStatus:
        return self._fleet.status(config, self._desired.placement.get(config.id), self._clock.monotonic_s())

    async def store_clip(self, event_id: str, offset: int, piece: bytes, total: int) -> bool:
        """Take a piece of an event's clip from a worker; returns whether the event is known (yet, or still)."""
        store = partial(self._repository.store_clip, event_id, offset, piece, total, self.config.store.media_dir)
        try:
            changes = await self.db(store)
        except NotFoundError:
            return False
        if changes:
            self.announce()
        return True

    # --- events and changes ----------------------------------------------------------------------------------------

    async def set_verdict(self, event_id: str, verdict: Verdict | None, note: str | None) -> EventRecord:
        event = await self.db(partial(self._repository.set_verdict, event_id, verdict, note))
        self.announce()
        return event

    async def changes_after(self, seq: int, timeout_s: float, limit: int = 500) -> ChangeBatch:
        """Changes newer than `seq`; waits up to `timeout_s` for the first."""
        return await self._news.after(seq, timeout_s, limit)

    def announce(self) -> None:
        """Wake who waits for changes; after the commit, never before."""
        self._news.announce()

    # --- models and refreshes --------------------------------------------------------------------------------------

    @property
    def repository(self) -> Repository:
        """The store; use it on the database's thread only (`db`)."""
        return self._repository

    @property
    def live_model(self) -> ModelRecord:
        """The version that serves."""
        return self._models.live

    async def harvest(
        self, worker_id: str, seconds: float, clip_s: float, per_camera: int, out_dir: Path
    ) -> list[HarvestedClip]:
        """Let a worker collect footage for some time."""
        return await self._workers.harvest(worker_id, seconds, clip_s, per_camera, out_dir)

    async def start_refresh(self, request: RefreshRequest) -> RefreshRecord:
        record = await self._runner.start(request)
        self.announce()
        return record

    async def promote(self, version: str, reason: str = "promoted by hand") -> ModelRecord:
        """Let a version serve: workers load and warm it, then swap at a batch boundary.

        Raises:
            NotFoundError: There is no such version.
            BundleError: Its bundle is damaged.
        """
        live = await self.db(partial(self._models.promote, version, reason))
        return await self._model_changed(live)

    async def rollback(self) -> ModelRecord:
        """Let the version that served before serve again.

        Raises:
            ConflictError: There is none.
        """
        live = await self.db(self._models.rollback)
        return await self._model_changed(live)

    async def _model_changed(self, live: ModelRecord) -> ModelRecord:
        self._desired.changed()
        self.announce()
        _log.info("model changed", version=live.version)
        warn_of_labels(self._desired.records, self._models.spec)
        return live

    async def job_progressed(self, job_id: str, detail: str, fraction: float) -> None:
        self.jobs.progressed(job_id, detail, fraction)

    async def infer(self, path: Path, filename: str) -> ClipAnalysis:
        """Analyse an uploaded clip in a process of its own."""
        kwargs = {
            "path": path,
            "filename": filename,
            "bundle_path": Path(self._models.live.path),
            "events": self.config.events,
            "max_s": self.config.api.max_upload_s,
        }
        analysis: ClipAnalysis = await self.jobs.run_job(_INFER_ENTRY, kwargs, nice=5)
        return analysis

    # --- the whole -------------------------------------------------------------------------------------------------

    async def system(self) -> SystemView:
        return system_view(
            self._fleet,
            self._desired,
            now_s=self._clock.monotonic_s(),
            started=(self._started_utc, self._started_s),
            live_version=self._models.live.version,
            open_events=await self.db(self._repository.count_open),
            store=self._repository.kind,
            refresh_running=self._runner.running,
        )

    async def totals(self) -> list[WorkerTotals]:
        return self._fleet.totals()


__all__ = ["Controller"]
