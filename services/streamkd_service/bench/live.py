"""The live path in processes of its own, as `streamkd serve` runs it, told what to do by the benchmark.

Each process holds one `Worker`: readers, mailboxes, engine loop, pipeline, reports. What is left out is Ray and the
Controller, neither of which takes part in a frame's way.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import psutil
import structlog
from pydantic import SecretStr

from streamkd.bundle import read_bundle
from streamkd.config import CameraConfig, EventsConfig, StudentConfig
from streamkd.errors import UnavailableError
from streamkd_service.bench.waiting import wait_until
from streamkd_service.runtime.ports import Assignment, ReportReply, WorkerReport
from streamkd_service.runtime.process import prepare_process, stay
from streamkd_service.runtime.slots import Place
from streamkd_service.runtime.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    from streamkd.types import Frame, FrameResult

_READY_S = 120.0
_ANSWER_S = 30.0
_ASK_EVERY_S = 0.2
_ANALYSED_TO_BE_READY = 5


class Answered(NamedTuple):
    """One answer.

    Attributes:
        camera: Whose.
        pts_s: The source's own, of the frame.
        finished_s: When the answer was there, on the monotonic clock.
        caught_up: The frame had been skipped, and was analysed when its scene woke up.
        repeated: The frame showed nothing new: the last answer again, which is not the network's work.
    """

    camera: str
    pts_s: float
    finished_s: float
    caught_up: bool = False
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """What a worker process runs."""

    cameras: tuple[CameraConfig, ...]
    bundle: Path
    folder: Path  # of its own, for event clips on their way and what cameras have learnt
    threads: int = 1
    place: Place | None = None  # as the service's workers; None: on any processor


class LiveWorkers:
    """Worker processes, as a context.

    Args:
        urls: Address of each camera.
        bundle: Of the student.
        processes: How many; cameras are dealt out in turn.
        threads: Inference threads of each.
    """

    def __init__(
        self,
        urls: dict[str, str],
        bundle: Path,
        processes: int,
        *,
        threads: int = 1,
        settings: dict[str, Any] | None = None,
    ) -> None:
        configs = [CameraConfig(id=name, url=SecretStr(url), **(settings or {})) for name, url in urls.items()]
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        self._folder = tempfile.TemporaryDirectory(prefix="streamkd-bench-")
        processes = min(processes, len(configs))
        for index in range(processes):
            place = Place(index, processes) if threads == 1 else None
            folder = Path(self._folder.name) / str(index)
            options = LiveOptions(tuple(configs[index::processes]), bundle, folder, threads, place)
            here, there = context.Pipe()
            process = context.Process(target=_run, args=(options, there), daemon=True)
            self._pipes.append(here)
            self._processes.append(process)

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.join(5.0)
            if process.is_alive():
                process.kill()
                process.join()
        self._folder.cleanup()

    def wait_ready(self) -> None:
        """Until every camera has been analysed a few times.

        Raises:
            UnavailableError: That takes too long.
        """
        if not wait_until(lambda: all(self._ask("ready", _READY_S)), _READY_S, every_s=_ASK_EVERY_S):
            raise UnavailableError("Not every camera came online.", hint="Try fewer cameras.")

    def wait_for_pictures(self, each: int, timeout_s: float) -> None:
        """Until every camera has sent so many pictures from now on, or the time is up: then it shows in the result."""
        before = self.totals()

        def there() -> bool:
            now = self.totals()
            return all(counts["received"] - before[name]["received"] >= each for name, counts in now.items())

        wait_until(there, timeout_s, every_s=_ASK_EVERY_S)

    def wait_unhurried(self, timeout_s: float) -> None:
        """Until every camera has its full rate, or the time is up: connecting all of them at once is an overload."""
        wait_until(lambda: not any(self._ask("slowed")), timeout_s, every_s=_ASK_EVERY_S)

    def cpu_s(self) -> float:
        """CPU time that all worker processes have taken."""
        times = [psutil.Process(process.pid).cpu_times() for process in self._processes]
        return sum(each.user + each.system for each in times)

    def rss_bytes(self) -> int:
        """Memory of all worker processes; what they share is counted in each."""
        return sum(psutil.Process(process.pid).memory_info().rss for process in self._processes)

    def pss_bytes(self) -> int:
        """Memory of all worker processes, what is shared with others in parts (the kernel's PSS)."""
        return sum(psutil.Process(process.pid).memory_full_info().pss for process in self._processes)

    def totals(self) -> dict[str, dict[str, int]]:
        """Counts of each camera since its worker began."""
        return {name: counts for answer in self._ask("totals") for name, counts in answer.items()}

    def take_answers(self) -> list[Answered]:
        """What has been answered since this was last asked; a long run must not pile it up in what is measured."""
        return [answer for answers in self._ask("answers") for answer in answers]

    def finish(self) -> list[Answered]:
        """End the workers; returns what was answered since it was last taken."""
        return [answer for answers in self._ask("finish") for answer in answers]

    def _ask(self, what: str, within_s: float = _ANSWER_S) -> list[Any]:
        for pipe in self._pipes:
            pipe.send(what)
        answers = []
        for pipe in self._pipes:
            if not pipe.poll(within_s):
                raise UnavailableError("A worker process does not answer.", hint="Try fewer cameras.")
            answers.append(pipe.recv())
        return answers


class _Told:
    """The benchmark's end of one worker: answers its reports, remembers its results."""

    def __init__(self, options: LiveOptions) -> None:
        self._assignment = Assignment(
            revision=1,
            cameras=options.cameras,
            student=StudentConfig(threads=options.threads),
            events=EventsConfig(),
            model_version=read_bundle(options.bundle).spec.version,
            bundle_path=str(options.bundle),
            history_dir=str(options.folder / "history"),
        )
        self._ids = {camera.id for camera in options.cameras}
        self._counts = dict.fromkeys(self._ids, 0)
        self._answers: deque[Answered] = deque()
        self.report: WorkerReport | None = None

    def send(self, report: WorkerReport) -> ReportReply:
        self.report = report
        return ReportReply(accepted=True, assignment=self._assignment)

    def saw(self, frames: Sequence[Frame], results: Sequence[FrameResult]) -> None:
        now_s = time.monotonic()
        repeated = {result.camera_id for result in results if result.repeated}
        for frame in frames:
            self._counts[frame.camera_id] += 1
            if frame.source_pts_s is not None:
                name = frame.camera_id
                self._answers.append(Answered(name, frame.source_pts_s, now_s, frame.caught_up, name in repeated))

    def take_answers(self) -> list[Answered]:
        return [self._answers.popleft() for _ in range(len(self._answers))]

    def ready(self) -> bool:
        return min(self._counts.values()) >= _ANALYSED_TO_BE_READY

    def slowed(self) -> int:
        return 0 if self.report is None else self.report.totals.slowed_cameras

    def totals(self) -> dict[str, dict[str, int]]:
        if self.report is None:
            return {}
        return {
            camera.camera_id: {
                "received": camera.received,
                "decoded": camera.decoded,
                "analysed": camera.analysed,
                "gated": camera.gated,
                "caught_up": camera.caught_up,
                **{f"dropped_{reason}": count for reason, count in camera.dropped.items()},
            }
            for camera in self.report.totals.cameras
        }


def _run(options: LiveOptions, pipe: Connection) -> None:
    """A worker process: runs until it is told to finish, or until whoever started it is gone."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is the result's
    prepare_process()
    if options.place is not None:
        stay(options.place)
    told = _Told(options)
    # Clips are made and handed over as in the service; where they would be stored is not the workers' business.
    clips = options.folder / "clips"
    worker = Worker("bench", told.send, on_results=told.saw, clip_dir=clips, send_clip=lambda *_: True)
    worker.start()
    try:
        while True:
            what = pipe.recv()
            if what == "ready":
                pipe.send(told.ready())
            elif what == "totals":
                pipe.send(told.totals())
            elif what == "slowed":
                pipe.send(told.slowed())
            elif what == "answers":
                pipe.send(told.take_answers())
            else:
                pipe.send(told.take_answers())
                return
    except EOFError:
        return
    finally:
        worker.stop()
        # Readers that still wait for the network would hold the interpreter up, or be cut off inside a library.
        os._exit(0)


__all__ = ["Answered", "LiveWorkers"]
