"""The driver's side of the actors: creates them, and gives the API a `ControllerPort` that speaks to the real one."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import ray
import structlog

from streamkd.errors import UnavailableError
from streamkd_service.runtime.actors import CONTROLLER_NAME, ControllerActor, WorkerActor
from streamkd_service.runtime.processors import usable_count
from streamkd_service.runtime.slots import Pins, Slots

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from streamkd.config import CameraConfig, Config
    from streamkd.store.records import EventRecord, ModelRecord, RefreshRecord
    from streamkd.types import Verdict
    from streamkd_service.runtime.ports import (
        CameraPatch,
        CameraView,
        ChangeBatch,
        ClipAnalysis,
        RefreshRequest,
        SystemView,
        WorkerTotals,
    )
    from streamkd_service.runtime.session import RaySession
    from streamkd_service.runtime.slots import Place

_ANSWER_S = 10.0
_RESTART_PATIENCE_S = 4.0  # a killed Controller is back within about 2 s
_RETRY_EVERY_S = 0.2
_CONTROLLER_CONCURRENCY = 1000
_WORKER_CONCURRENCY = 8
_START_S = 60.0
_log = structlog.get_logger(__name__)
_ALWAYS_THERE: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": 0}
_NODES_EVERY_S = 2.0
_STAY_S = 2.0  # nodes are not followed meanwhile
_WORKERS_SHARE = 0.7  # of the time that all of them have to stop


def start_controller(config: Config, workers: Sequence[str], session: RaySession) -> Any:
    """The Controller's actor, on this machine: it owns the database, which may be a file here."""
    affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(session.node_id, soft=False)
    options = {"max_concurrency": _CONTROLLER_CONCURRENCY, "scheduling_strategy": affinity, **_ALWAYS_THERE}
    actor = ray.remote(ControllerActor).options(**options, name=CONTROLLER_NAME, namespace=session.namespace)
    return actor.remote(config, tuple(workers), session.namespace, session.log_path)


class Actors:
    """Every actor of one service, created in the driver so that they live exactly as long as it does."""

    def __init__(self, config: Config, session: RaySession) -> None:
        self._slots = Slots(config.workers.count)
        # Before the cluster was asked what it has: this node alone.
        self._slots.update(_this_node(session), len(config.cameras))
        self._controller = start_controller(config, list(self._slots.nodes), session)
        self._config, self._session = config, session
        self._workers: dict[str, tuple[str, Any]] = {}  # worker → its node, its actor
        self._pins = Pins() if config.workers.pin and config.student.threads == 1 else None
        self.controller = ControllerHandle(self._controller)
        if session.local:
            for worker_id, place in self._slots.places().items():
                self._start_worker(worker_id, session.node_id, place)

    def _start_worker(self, worker_id: str, node_id: str, place: Place) -> None:
        affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node_id, soft=False)
        options = {"max_concurrency": _WORKER_CONCURRENCY, "scheduling_strategy": affinity, **_ALWAYS_THERE}
        actor = ray.remote(WorkerActor).options(**options, name=worker_id, namespace=self._session.namespace)
        arguments = (worker_id, self._session.namespace, self._config.log, self._session.log_path)
        self._workers[worker_id] = (node_id, actor.remote(*arguments, None if self._pins is None else place))

    async def follow_nodes(self) -> None:
        """Workers on every node that is there, as many as the cameras ask for; never returns."""
        while True:
            try:
                await self._follow_once()
            except (ray.exceptions.RayError, UnavailableError, ValueError) as error:
                _log.warning("nodes not followed", reason=str(error).splitlines()[0])
            await asyncio.sleep(_NODES_EVERY_S)

    async def _follow_once(self) -> None:
        session = self._session
        alive = _this_node(session) if session.local else await asyncio.to_thread(alive_nodes)
        cameras = 0 if self._slots.is_fixed else sum((await self.controller.system()).cameras_by_state.values())
        self._slots.update(alive, cameras)
        wanted, places = self._slots.nodes, self._slots.places()
        for worker_id, (node_id, actor) in list(self._workers.items()):
            if wanted.get(worker_id) != node_id:
                ray.kill(actor)  # it would wait for its node for ever, and keep its name
                del self._workers[worker_id]
        for worker_id, node_id in wanted.items():
            if worker_id not in self._workers:
                # ValueError: the one before still has the name; the next time it will be free.
                with contextlib.suppress(ValueError):
                    self._start_worker(worker_id, node_id, places[worker_id])
        shares = self._slots.capacities(alive)
        present = {worker_id: share for worker_id, share in shares.items() if worker_id in self._workers}
        epochs: dict[str, str] = await self.controller.call("set_workers", present)
        if self._pins is not None:
            await self._tell_places(self._pins, epochs)

    async def _tell_places(self, pins: Pins, epochs: Mapping[str, str]) -> None:
        places = {worker_id: place for worker_id, place in self._slots.places().items() if worker_id in self._workers}
        due = pins.due(places, epochs)
        await asyncio.gather(*(self._tell_place(pins, worker_id, place) for worker_id, place in due.items()))

    async def _tell_place(self, pins: Pins, worker_id: str, place: Place) -> None:
        """Only an answer counts: a worker that has ended meanwhile is told again the next time."""
        _, actor = self._workers[worker_id]
        try:
            pins.confirm(worker_id, await asyncio.wait_for(actor.stay.remote(place), _STAY_S), place)
        except (ray.exceptions.RayError, TimeoutError) as error:
            _log.warning("worker not told its place", worker=worker_id, reason=type(error).__name__)

    async def ready(self) -> None:
        """Wait until the Controller has started from the store."""
        await self.controller.call("system", timeout_s=_START_S)

    async def stop(self, timeout_s: float) -> None:
        """Workers give their last report, then the Controller commits and closes the store."""
        began_s = time.monotonic()
        await _within([actor.call.remote("stop") for _, actor in self._workers.values()], timeout_s * _WORKERS_SHARE)
        left_s = timeout_s - (time.monotonic() - began_s)
        await _within([self._controller.stop.remote()], left_s)


def _this_node(session: RaySession) -> dict[str, float]:
    """This machine, as a session of our own has it: Ray is told of no processors there."""
    return {session.node_id: float(usable_count())}


def alive_nodes() -> dict[str, float]:
    """The cluster's nodes by id, with their processors."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return {node["NodeID"]: float(node["Resources"].get("CPU", 1.0)) for node in nodes if node["Alive"]}


class ControllerHandle:
    """`ControllerPort` over Ray. Reads wait for a restarting Controller; writes say that it is away."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def list_cameras(self) -> list[CameraView]:
        found: list[CameraView] = await self._read("list_cameras")
        return found

    async def get_camera(self, camera_id: str) -> CameraView:
        found: CameraView = await self._read("get_camera", camera_id)
        return found

    async def add_camera(self, config: CameraConfig) -> CameraView:
        added: CameraView = await self.call("add_camera", config)
        return added

    async def patch_camera(self, camera_id: str, patch: CameraPatch) -> CameraView:
        patched: CameraView = await self.call("patch_camera", camera_id, patch)
        return patched

    async def delete_camera(self, camera_id: str) -> None:
        await self.call("delete_camera", camera_id)

    async def snapshot(self, camera_id: str) -> bytes:
        picture: bytes = await self._read("snapshot", camera_id)
        return picture

    async def set_verdict(self, event_id: str, verdict: Verdict | None, note: str | None) -> EventRecord:
        event: EventRecord = await self.call("set_verdict", event_id, verdict, note)
        return event

    async def changes_after(self, seq: int, timeout_s: float, limit: int = 500) -> ChangeBatch:
        batch: ChangeBatch = await self._read("changes_after", seq, timeout_s, limit, timeout_s=timeout_s + _ANSWER_S)
        return batch

    async def start_refresh(self, request: RefreshRequest) -> RefreshRecord:
        started: RefreshRecord = await self.call("start_refresh", request)
        return started

    async def promote(self, version: str) -> ModelRecord:
        live: ModelRecord = await self.call("promote", version)
        return live

    async def rollback(self) -> ModelRecord:
        live: ModelRecord = await self.call("rollback")
        return live

    async def system(self) -> SystemView:
        view: SystemView = await self._read("system")
        return view

    async def totals(self) -> list[WorkerTotals]:
        found: list[WorkerTotals] = await self._read("totals")
        return found

    async def infer(self, path: Path, filename: str) -> ClipAnalysis:
        analysis: ClipAnalysis = await self.call("infer", path, filename, timeout_s=300.0)
        return analysis

    async def _read(self, method: str, *arguments: Any, timeout_s: float = _ANSWER_S) -> Any:
        deadline_s = time.monotonic() + _RESTART_PATIENCE_S
        while True:
            try:
                return await self.call(method, *arguments, timeout_s=timeout_s)
            except UnavailableError as error:
                restarting = isinstance(error.__cause__, ray.exceptions.RayActorError)
                if not restarting or time.monotonic() > deadline_s:
                    raise
            await asyncio.sleep(_RETRY_EVERY_S)

    async def call(self, method: str, *arguments: Any, timeout_s: float = _ANSWER_S) -> Any:
        """One call, once.

        Raises:
            UnavailableError: The Controller restarts or does not answer in time; the call may have had its effect.
            StreamkdError: Whatever the Controller raised.
        """
        try:
            return await asyncio.wait_for(self._actor.call.remote(method, *arguments), timeout_s)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except (ray.exceptions.RayError, TimeoutError) as error:
            raise UnavailableError(
                f"The Controller did not answer ({method}): {type(error).__name__}.",
                hint="It restarts by itself; try again in a few seconds.",
            ) from error


async def _within(refs: list[Any], timeout_s: float) -> None:
    """Wait for calls, at most so long; what they raise no longer matters."""
    waiting = asyncio.gather(*(asyncio.wrap_future(ref.future()) for ref in refs), return_exceptions=True)
    try:
        await asyncio.wait_for(waiting, timeout_s)
    except TimeoutError:
        return


__all__ = ["Actors", "ControllerHandle", "start_controller"]
