"""The edge where plain classes become Ray actors and tasks; nothing is decided here."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import os
import socket
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from streamkd.errors import UnavailableError
from streamkd_service.runtime.log_relay import log_to
from streamkd_service.runtime.process import prepare_process, stay
from streamkd_service.runtime.settled import settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamkd.config import Config, LogConfig
    from streamkd_service.runtime.controller import Controller
    from streamkd_service.runtime.ports import ReportReply, WorkerReport
    from streamkd_service.runtime.slots import Place
    from streamkd_service.runtime.worker import Worker

CONTROLLER_NAME = "controller"
_REPORT_TIMEOUT_S = 5.0
_PROGRESS_EVERY_S = 0.2
_LEAST_NICE = 19

ProgressFn = "Callable[[str, float], None]"


class ControllerActor:
    """Runs a `Controller` on the actor's event loop; restarted by Ray, it begins again from the store."""

    def __init__(self, config: Config, workers: tuple[str, ...], namespace: str, log_path: Path | None) -> None:
        log_to(config.log, log_path)
        self._config = config
        self._workers = workers
        self._namespace = namespace
        self._controller: Controller | None = None
        self._starting = asyncio.Lock()

    async def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the Controller; the first call starts it."""
        controller = await self._started()
        return await getattr(controller, method)(*arguments)

    async def pid(self) -> int:
        """Of its process."""
        return os.getpid()

    async def stop(self) -> None:
        """Commit what is under way and close the store."""
        if self._controller is not None:
            await self._controller.stop()

    async def _started(self) -> Controller:
        from streamkd_service.runtime.controller import Controller  # noqa: PLC0415

        async with self._starting:
            if self._controller is None:
                controller = Controller(
                    self._config,
                    self._workers,
                    RayWorkers(self._namespace),
                    RayJobs(self._namespace),
                )
                await controller.start()
                settle()
                self._controller = controller
        return self._controller


class WorkerActor:
    """Runs a `Worker`; a worker that the Controller no longer accepts ends its process, and Ray starts a fresh one."""

    def __init__(
        self, worker_id: str, namespace: str, log: LogConfig, log_path: Path | None, place: Place | None
    ) -> None:
        from streamkd_service.runtime.worker import Worker  # noqa: PLC0415

        prepare_process()
        if place is not None:
            stay(place)
        log_to(log, log_path)
        self._namespace = namespace
        self._controller: Any = None
        own = Path(tempfile.gettempdir()) / namespace if log_path is None else log_path.parent
        self._worker: Worker = Worker(
            worker_id,
            self._send,
            node=_node_name(in_cluster=log_path is None),
            on_rejected=lambda: os._exit(1),
            clip_dir=own / "clips" / worker_id,
            send_clip=self._send_clip,
        )
        self._worker.start()

    def _send(self, report: WorkerReport) -> ReportReply:
        reply: ReportReply = self._ask("report", report)
        return reply

    def _send_clip(self, event_id: str, offset: int, piece: bytes, total: int) -> bool:
        return bool(self._ask("store_clip", event_id, offset, piece, total))

    def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            if self._controller is None:
                self._controller = ray.get_actor(CONTROLLER_NAME, namespace=self._namespace)
            return ray.get(self._controller.call.remote(method, *arguments), timeout=_REPORT_TIMEOUT_S)
        except (ray.exceptions.RayError, ValueError) as error:
            self._controller = None
            raise UnavailableError(f"The Controller did not answer a {method}: {type(error).__name__}.") from error

    def stay(self, place: Place) -> str:
        """Take a place among the node's workers; returns the epoch of the incarnation that has taken it."""
        stay(place)
        return self._worker.epoch

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the Worker; several may run at a time."""
        return getattr(self._worker, method)(*arguments)


def _node_name(*, in_cluster: bool) -> str:
    host = socket.gethostname()
    return f"{host}-{ray.get_runtime_context().get_node_id()[:6]}" if in_cluster else host


@dataclass(frozen=True, slots=True)
class RayWorkers:
    """The Controller's way to its workers (`ports.WorkersPort`)."""

    namespace: str

    async def snapshot(self, worker_id: str, camera_id: str) -> bytes:
        found: bytes = await self._call(worker_id, 5.0, "snapshot", camera_id)
        return found

    async def harvest(self, worker_id: str, seconds: float, clip_s: float, per_camera: int, out_dir: Path) -> list[Any]:
        found: list[Any] = await self._call(worker_id, seconds + 60.0, "harvest", seconds, clip_s, per_camera, out_dir)
        return found

    async def _call(self, worker_id: str, timeout_s: float, method: str, *arguments: Any) -> Any:
        try:
            actor = ray.get_actor(worker_id, namespace=self.namespace)
            return await asyncio.wait_for(actor.call.remote(method, *arguments), timeout_s)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except (ray.exceptions.RayError, ValueError, TimeoutError) as error:
            raise UnavailableError(
                f"{worker_id} did not answer ({method}): {type(error).__name__}.", hint="Try again in a few seconds."
            ) from error


class RayJobs:
    """Long work in a process of its own, at the lowest priority (`ports.JobsPort`)."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._progress: dict[str, Callable[[str, float], None]] = {}
        self._count = 0

    async def run_job(
        self,
        entry: str,
        kwargs: dict[str, Any],
        progress: Callable[[str, float], None] | None = None,
        *,
        nice: int = _LEAST_NICE,
    ) -> Any:
        """Run `entry` ("package.module:function") as `function(**kwargs[, progress=…])` and return what it returns.

        Raises:
            UnavailableError: The process died.
            StreamkdError: Whatever the function raised.
        """
        self._count += 1
        job_id = f"{os.getpid()}-{self._count}"
        if progress is not None:
            self._progress[job_id] = progress
        ref = (
            _job_task()
            .options(name=entry)
            .remote(entry, kwargs, self._namespace, job_id if progress is not None else None, nice)
        )
        try:
            return await ref
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            raise UnavailableError(
                f"The process of {entry} ended unexpectedly: {type(error).__name__}.",
                hint="Check that there is enough free memory, then try again.",
            ) from error
        except asyncio.CancelledError:
            ray.cancel(ref, force=True)
            raise
        finally:
            self._progress.pop(job_id, None)

    def progressed(self, job_id: str, detail: str, fraction: float) -> None:
        """A job's process tells how far it is."""
        listener = self._progress.get(job_id)
        if listener is not None:
            listener(detail, fraction)


@functools.cache  # Ray keeps every remote function that was ever made
def _job_task() -> Any:
    # A process per call: what it imports (PyTorch) and what a clip does to it are gone with it.
    return ray.remote(num_cpus=0, max_retries=0, max_calls=1)(_run_entry)


def _run_entry(entry: str, kwargs: dict[str, Any], namespace: str, job_id: str | None, nice: int) -> Any:
    with contextlib.suppress(OSError):
        os.nice(nice)
    module, _, function = entry.partition(":")
    call = getattr(importlib.import_module(module), function)
    if job_id is None:
        return call(**kwargs)
    return call(**kwargs, progress=_Progress(namespace, job_id))


class _Progress:
    """Sends a few progress messages a second, the last one surely."""

    def __init__(self, namespace: str, job_id: str) -> None:
        self._controller = ray.get_actor(CONTROLLER_NAME, namespace=namespace)
        self._job_id = job_id
        self._sent_s = 0.0
        self._lock = threading.Lock()

    def __call__(self, detail: str, fraction: float) -> None:
        with self._lock:
            now_s = time.monotonic()
            if fraction < 1.0 and now_s - self._sent_s < _PROGRESS_EVERY_S:
                return
            self._sent_s = now_s
        self._controller.call.remote("job_progressed", self._job_id, detail, fraction)


__all__ = ["CONTROLLER_NAME", "ControllerActor", "RayJobs", "RayWorkers", "WorkerActor"]
