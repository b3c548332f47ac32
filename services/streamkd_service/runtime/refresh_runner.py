"""Runs one refresh at a time inside the Controller: harvest → teach → distil → gate → swap.

What the steps are and what they leave on disk is in `streamkd.refresh.steps`; here is only when they run and what is
told. The work itself happens in the workers (harvest) and in processes of the lowest priority (everything else).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from streamkd.clock import SystemClock
from streamkd.errors import ConflictError, InputError, StreamkdError, UnavailableError
from streamkd.refresh import steps
from streamkd.refresh.registry import candidate_version, prune_work, publish, refresh_id, work_folder
from streamkd.refresh.verdicts import MOST_EVENTS, verdict_clips
from streamkd.store.records import RefreshRecord, RefreshStatus, RefreshStep
from streamkd.types import CameraState
from streamkd_service.needs import need_torch
from streamkd_service.runtime.models import record_of
from streamkd_service.runtime.ports import RefreshRequest
from streamkd_service.runtime.processors import usable_count

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streamkd.clock import Clock
    from streamkd.refresh.verdicts import VerdictClip
    from streamkd_service.runtime.ports import CameraView, RefreshHost

_TELL_EVERY_S = 1.0
_SWAP_WITHIN_S = 90.0
_LOOK_EVERY_S = 0.5
_CAMERAS_BACK_S = 60.0  # twice the longest back-off
_MOST_RESUMES = 2
_MOST_THREADS = 8
_SHOWN = 20  # refreshes looked through for one that was interrupted
_STOPPED = (RefreshStatus.CANCELLED, "the service was stopped")
_log = structlog.get_logger(__name__)

T = TypeVar("T")


class _Refused(Exception):  # noqa: N818 (an outcome, not an error)
    """The refresh ends without a new model, as it should."""


class RefreshRunner:
    """One refresh at a time; its state is the store's record and the files of its work folder.

    Args:
        host: The Controller.
        clock: Time.
        threads: Of the teach and distil steps; by default one a processor, because these run at the lowest priority.
        promoted: Told of a refresh whose candidate now serves.
    """

    def __init__(
        self,
        host: RefreshHost,
        clock: Clock | None = None,
        *,
        threads: int | None = None,
        promoted: Callable[[RefreshRecord], None] | None = None,
    ) -> None:
        self._host = host
        self._promoted = promoted
        self._clock = clock or SystemClock()
        self._threads = threads or min(usable_count(), _MOST_THREADS)
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.Task[None] | None = None
        self._record: RefreshRecord | None = None
        self._heard: tuple[str, float] | None = None  # what a step last said
        self._starting = asyncio.Lock()

    @property
    def running(self) -> str | None:
        """Id of the refresh that runs now."""
        return self._record.id if self._record is not None and self._task is not None else None

    # --- from outside ----------------------------------------------------------------------------------------------

    async def start(self, request: RefreshRequest) -> RefreshRecord:
        """Begin a refresh and return at once.

        Raises:
            ConflictError: One is running.
            DependencyError: The packages of training are not installed.
            InputError: The self-test is not known.
        """
        need_torch("A refresh")  # now, not after minutes of harvesting
        if request.self_test not in {None, steps.SHUFFLED_LABELS}:
            raise InputError(f"There is no self-test {request.self_test!r}.", hint=f"Use {steps.SHUFFLED_LABELS}.")
        async with self._starting:
            if self.running is not None:
                raise ConflictError(f"Refresh {self.running} is running.", hint="Wait until it has ended.")
            live, now = self._host.live_model, self._clock.utc()
            identity = refresh_id(now, secrets.token_hex(3))
            plan = steps.plan_from(
                self._host.config.refresh,
                id=identity,
                parent_version=live.version,
                parent_path=Path(live.path),
                candidate_version=candidate_version(live.version, identity),
                self_test=request.self_test,
                seed=secrets.randbits(31),
                harvest_s=request.harvest_s,
                clips_per_camera=request.clips_per_camera,
            )
            record = RefreshRecord(
                id=identity,
                status=RefreshStatus.RUNNING,
                step=RefreshStep.HARVEST,
                progress=0.0,
                started_utc=now,
                ended_utc=None,
                parent_version=live.version,
                candidate_version=plan.candidate_version,
                self_test=request.self_test,
                detail="collecting footage",
                gate=None,
            )
            created = await self._host.db(partial(self._host.repository.create_refresh, record))
            await asyncio.to_thread(steps.save_plan, self._work(identity), plan)
            self._launch(created, plan)
        return created

    async def recover(self) -> None:
        """After a start: go on with a refresh that was interrupted, and keep to the schedule."""
        records = await self._host.db(partial(self._host.repository.list_refreshes, _SHOWN))
        for record in records:
            if record.status is RefreshStatus.RUNNING:
                await self._resume(record)
        hours = self._host.config.refresh.every_hours
        if hours is not None:
            self._timer = asyncio.create_task(self._every(hours * 3600.0), name="refresh-timer")

    async def stop(self) -> None:
        """End what runs; a refresh that is under way counts as cancelled."""
        tasks = [task for task in (self._timer, self._task) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._task is not None and self._record is not None:  # cancelled before it had begun
            await self._end(self._record, *_STOPPED)

    # --- life of one refresh ---------------------------------------------------------------------------------------

    async def _resume(self, record: RefreshRecord) -> None:
        work = self._work(record.id)
        try:
            plan = await asyncio.to_thread(steps.load_plan, work)
        except InputError as error:
            await self._end(record, RefreshStatus.FAILED, f"interrupted, and can't be continued: {error.message}")
            return
        if plan.resumed >= _MOST_RESUMES or self.running is not None:
            await self._end(record, RefreshStatus.FAILED, f"interrupted {plan.resumed + 1} times; given up")
            return
        plan = replace(plan, resumed=plan.resumed + 1)
        await asyncio.to_thread(steps.save_plan, work, plan)
        _log.info("refresh continues", refresh=record.id, step=str(record.step))
        self._launch(record, plan)

    def _launch(self, record: RefreshRecord, plan: steps.RefreshPlan) -> None:
        self._record = record
        self._task = asyncio.create_task(self._run(record, plan), name=f"refresh-{record.id}")

    async def _run(self, record: RefreshRecord, plan: steps.RefreshPlan) -> None:
        teller = asyncio.create_task(self._tell(), name="refresh-progress")
        outcome = _STOPPED
        try:
            outcome = await self._steps(plan)
        except _Refused as refusal:
            outcome = (RefreshStatus.REFUSED, str(refusal))
        except StreamkdError as error:
            outcome = (RefreshStatus.FAILED, str(error))
        except Exception as error:  # noqa: BLE001 - a bug must not leave a refresh running for ever
            _log.exception("refresh failed", refresh=record.id)
            outcome = (RefreshStatus.FAILED, f"internal error: {type(error).__name__}; the log has more")
        finally:
            teller.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await teller
            ended = await self._end(self._record or record, *outcome)
            self._task = None
        if ended.status is RefreshStatus.PROMOTED and self._promoted is not None:
            self._promoted(ended)

    async def _steps(self, plan: steps.RefreshPlan) -> tuple[RefreshStatus, str]:
        work = self._work(plan.id)
        harvest = await self._step(RefreshStep.HARVEST, self._harvest(work, plan))
        lack = steps.lack_of_footage(harvest)
        if lack is not None:
            raise _Refused(lack)
        teach = steps.teach_job(work, plan, harvest, self._threads)
        await self._step(RefreshStep.TEACH, self._job(teach))
        if plan.self_test is not None:
            lack = await asyncio.to_thread(steps.lack_of_poison, work, harvest)
            if lack is not None:
                raise InputError(lack, hint="Harvest for longer, or when more happens before the cameras.")
        if not steps.gate_done(work):  # after it the candidate may lie among the models already
            distil = steps.distil_job(work, plan, harvest, self._threads)
            await self._step(RefreshStep.DISTIL, self._job(distil))
            gate = steps.gate_job(work, plan, harvest, await self._verdicts())
            await self._step(RefreshStep.GATE, self._job(gate))
        report = await asyncio.to_thread(steps.load_gate, work)
        await self._save(gate=report)
        if plan.self_test is not None:
            return _drill_outcome(report)
        if not report["passed"]:
            raise _Refused(str(report["reason"]))
        await self._step(RefreshStep.SWAP, self._swap(work, plan, report))
        return RefreshStatus.PROMOTED, str(report["reason"])

    async def _step(self, step: RefreshStep, doing: Awaitable[T]) -> T:
        """Do a step, and write down when it began and how long it took."""
        began_s = self._clock.monotonic_s()
        await self._save(step=step, progress=0.0, detail="")
        done = await doing
        self._heard = None
        assert self._record is not None
        seconds = self._record.steps_s | {str(step): round(self._clock.monotonic_s() - began_s, 3)}
        await self._save(progress=1.0, steps_s=seconds)
        return done

    async def _job(self, job: steps.Job) -> None:
        if not job.makes.exists():
            await self._host.jobs.run_job(job.entry, job.kwargs, self._hear)

    async def _verdicts(self) -> list[VerdictClip]:
        """What operators have said about events of which there is a clip."""
        config = self._host.config
        media_dir = config.store.media_dir.resolve()
        judged = await self._host.db(partial(self._host.repository.judged_clips, media_dir, MOST_EVENTS))
        return verdict_clips(judged, config.events)

    async def _harvest(self, work: Path, plan: steps.RefreshPlan) -> steps.Harvest:
        if steps.harvest_done(work):
            return await asyncio.to_thread(steps.load_harvest, work)
        # After a restart nothing has been heard of the cameras yet.
        cameras = await self._online_cameras(_CAMERAS_BACK_S if plan.resumed else 0.0)
        workers = sorted({view.worker_id for view in cameras if view.worker_id is not None})
        if not workers:
            raise UnavailableError("No camera is online, so there is no footage.", hint="Try again when one is.")
        calls = [
            self._host.harvest(
                worker, plan.harvest_s, plan.clip_s, plan.clips_per_camera, steps.clips_folder(work, worker)
            )
            for worker in workers
        ]
        watch = asyncio.create_task(self._watch_harvest(plan.harvest_s, len(cameras)))
        try:
            answers = await asyncio.gather(*calls, return_exceptions=True)
        finally:
            watch.cancel()
        clips = [clip for answer in answers if not isinstance(answer, BaseException) for clip in answer]
        failed = [answer for answer in answers if isinstance(answer, BaseException)]
        if failed and not clips:
            raise failed[0]
        group_of = {view.config.id: view.config.group for view in cameras}
        return await asyncio.to_thread(steps.save_harvest, work, clips, group_of, plan)

    async def _online_cameras(self, patience_s: float) -> list[CameraView]:
        """The cameras that are online; waits for the first one."""
        deadline_s = self._clock.monotonic_s() + patience_s
        while True:
            views = await self._host.list_cameras()
            online = [view for view in views if view.status.state is CameraState.ONLINE]
            if online or self._clock.monotonic_s() >= deadline_s:
                return online
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _watch_harvest(self, seconds: float, cameras: int) -> None:
        began_s = self._clock.monotonic_s()
        while True:
            share = (self._clock.monotonic_s() - began_s) / seconds
            self._hear(f"collecting footage of {cameras} cameras", min(1.0, share))
            await asyncio.sleep(_TELL_EVERY_S)

    async def _swap(self, work: Path, plan: steps.RefreshPlan, report: dict[str, Any]) -> None:
        live = self._host.live_model
        if live.version not in {plan.parent_version, plan.candidate_version}:
            raise ConflictError(
                f"{live.version} was made live while the refresh of {plan.parent_version} ran; nothing is changed.",
                hint="Start a new refresh.",
            )
        models_dir = self._host.config.store.models_dir
        bundle = await asyncio.to_thread(publish, work / plan.candidate_version, models_dir)
        record = record_of(bundle, self._clock)
        record = replace(record, parent=plan.parent_version, metrics=record.metrics | {"gate": report["figures"]})
        await self._host.db(partial(self._host.repository.add_model, record))
        await self._host.promote(bundle.spec.version, f"refresh {plan.id}")
        self._hear("workers load and warm the new model", 0.5)
        began_s = self._clock.monotonic_s()
        while not await self._taken_over(bundle.spec.version):
            if self._clock.monotonic_s() - began_s > _SWAP_WITHIN_S:
                await self._host.rollback()
                raise UnavailableError(
                    f"Not every worker took {bundle.spec.version} over within {_SWAP_WITHIN_S:.0f} s; rolled back.",
                    hint="The log of the workers says why.",
                )
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _taken_over(self, version: str) -> bool:
        system = await self._host.system()
        return system.ready or system.model_version != version  # rolled back by hand meanwhile: not ours to wait for

    # --- telling ---------------------------------------------------------------------------------------------------

    def _hear(self, detail: str, share: float) -> None:
        self._heard = (detail, share)

    async def _tell(self) -> None:
        """Write the latest progress down about once a second, however often a step speaks."""
        told: tuple[str, float] | None = None
        while True:
            await asyncio.sleep(_TELL_EVERY_S)
            heard = self._heard
            if heard is not None and heard != told:
                told = heard
                with contextlib.suppress(StreamkdError):
                    await self._save(detail=heard[0], progress=round(heard[1], 3))

    async def _save(self, **changed: Any) -> None:
        assert self._record is not None
        call = partial(self._host.repository.update_refresh, self._record.id, **changed)
        self._record = await self._host.db(call)
        self._host.announce()

    async def _end(self, record: RefreshRecord, status: RefreshStatus, detail: str) -> RefreshRecord:
        done = {RefreshStatus.PROMOTED, RefreshStatus.REFUSED}
        changed: dict[str, Any] = {"status": status, "detail": detail}
        if status in done:
            changed |= {"step": RefreshStep.DONE, "progress": 1.0}
        ended = await self._host.db(partial(self._host.repository.update_refresh, record.id, **changed))
        self._host.announce()
        _log.info("refresh ended", refresh=record.id, status=str(status), detail=detail)
        config = self._host.config
        quota = config.refresh.footage_quota_mb * 2**20
        await asyncio.to_thread(prune_work, config.store.models_dir, quota)
        return ended

    async def _every(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.start(RefreshRequest())
            except StreamkdError as error:
                _log.warning("scheduled refresh not started", reason=str(error))

    def _work(self, identity: str) -> Path:
        return work_folder(self._host.config.store.models_dir.resolve(), identity)


def _drill_outcome(report: dict[str, Any]) -> tuple[RefreshStatus, str]:
    """A fire drill is never promoted, whatever the gate said."""
    if report["passed"]:
        return RefreshStatus.FAILED, "the gate let a poisoned candidate through; do not trust it, and report this"
    return RefreshStatus.REFUSED, f"fire drill as it should be: {report['reason']}"


__all__ = ["RefreshRunner"]
