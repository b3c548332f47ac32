"""One worker process of the live path: many cameras, one engine loop, one reporter. Knows nothing of Ray.

Three kinds of threads meet here:

- each camera's reader (`streamkd.media`) puts its newest due frame into a mailbox;
- the engine loop takes what is due, runs the pipeline and keeps its answers; the pipeline is touched by this thread
  only, so whoever wants to change it (new camera, new model) leaves a command that runs between two batches;
- the reporter tells the Controller a few times a second what happened, and does what the answer says.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import structlog

from streamkd.anomaly.history import HistoryFolder
from streamkd.clock import SystemClock
from streamkd.errors import StreamkdError, UnavailableError
from streamkd.media.mailbox import MailboxSet
from streamkd.media.packets import PacketBuffer
from streamkd.pipeline import GAP_S, Pipeline
from streamkd.refresh.harvest import Harvester, HarvestPlan
from streamkd_service.runtime.clips import ClipCourier, buffer_bytes, clip_plan
from streamkd_service.runtime.engine_loop import EngineLoop
from streamkd_service.runtime.histograms import LATENCY_BOUNDS_MS, Histogram
from streamkd_service.runtime.outbox import Outbox
from streamkd_service.runtime.overload import Governor, Losses
from streamkd_service.runtime.ports import WorkerReport, WorkerTotals
from streamkd_service.runtime.processors import ProcessorLoad
from streamkd_service.runtime.readers import ReaderPool
from streamkd_service.runtime.student_loader import StudentLoader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamkd.clock import Clock
    from streamkd.config import CameraConfig, EventsConfig
    from streamkd.engine import InferenceEngine
    from streamkd.refresh.harvest import HarvestedClip
    from streamkd.types import EventUpdate, Frame, FrameResult
    from streamkd_service.runtime.clips import SendPiece
    from streamkd_service.runtime.ports import Assignment, ReportReply

_REPORT_EVERY_S = 0.3
_COMMAND_S = 5.0
_LAST_CLIPS_S = 0.5
_MACHINE_WEIGHT = 0.2  # of a look at the machine, a few times a second
_log = structlog.get_logger(__name__)


class Worker:
    """Runs the cameras that the Controller assigns.

    Args:
        worker_id: The same in every incarnation.
        send: Delivers a report and returns the answer; raises `UnavailableError` while nobody answers.
        node: The machine's name, for people.
        on_rejected: Called when the Controller no longer accepts this incarnation, or when its engine loop failed:
            the process is to end.
        on_results: Sees every batch's frames and results, on the engine loop's thread.
        clip_dir: A folder of its own for event clips on their way; None: no clips are made.
        send_clip: Delivers a piece of a clip; see `ClipCourier`.
    """

    def __init__(
        self,
        worker_id: str,
        send: Callable[[WorkerReport], ReportReply],
        *,
        node: str = "",
        clock: Clock | None = None,
        on_rejected: Callable[[], None] = lambda: None,
        on_results: Callable[[Sequence[Frame], Sequence[FrameResult]], None] | None = None,
        report_every_s: float = _REPORT_EVERY_S,
        clip_dir: Path | None = None,
        send_clip: SendPiece | None = None,
    ) -> None:
        self.worker_id = worker_id
        self.epoch = uuid.uuid4().hex
        self.node = node
        self._send = send
        self._clock = clock or SystemClock()
        self._on_rejected = on_rejected
        self._on_results = on_results
        self._report_every_s = report_every_s
        self._outbox = Outbox(on_updates=self._follow_events)
        self._clip_dir, self._send_clip = clip_dir, send_clip
        self._courier: ClipCourier | None = None
        self._mailboxes = MailboxSet()
        self._loop = EngineLoop(self._mailboxes, self._outbox, self._clock, self._saw)
        self._decode_ms = Histogram(LATENCY_BOUNDS_MS)
        self._readers = ReaderPool(self._mailboxes, self._decode_ms, self._clock)
        self._loader = StudentLoader(self._clock)
        self._taps: list[Callable[[Sequence[Frame], Sequence[FrameResult]], None]] = []
        self._assignment: Assignment | None = None
        self._histories: HistoryFolder | None = None
        self._applied_revision = -1
        self._governor = Governor()
        self._losses = Losses()
        self._processor_load = ProcessorLoad()
        self._slowed = 0  # cameras
        self._pressure = 0.0  # as last judged
        self._answering = ""  # the version that answers
        self._ended = threading.Event()
        self._stop_lock = threading.Lock()
        self._harvesting = threading.Lock()
        self._harvest_over = threading.Event()
        self._process = psutil.Process()
        self._reporter = threading.Thread(target=self._report_until_ended, name="reporter", daemon=True)

    def start(self) -> None:
        self._loop.start()
        self._reporter.start()

    def stop(self) -> None:
        """End the cameras and their open events, and tell the Controller a last time; about a second."""
        with self._stop_lock:
            if self._ended.is_set():
                return
            self._ended.set()
        self._harvest_over.set()
        self._reporter.join(_COMMAND_S)
        cameras = self._readers.stop_all()
        with contextlib.suppress(TimeoutError):  # what is known so far is told all the same
            self._command(lambda: self._forget(cameras))
        self._loop.stop()
        while True:
            waiting = len(self._outbox)
            if not self._report_once() or not 0 < len(self._outbox) < waiting:
                break
        if self._courier is not None:
            self._courier.stop(_LAST_CLIPS_S)

    # --- asked from outside ----------------------------------------------------------------------------------------

    def ping(self) -> str:
        return self.epoch

    def snapshot(self, camera_id: str) -> bytes:
        """The camera's newest picture as a JPEG.

        Raises:
            NotFoundError: This worker does not run it.
            UnavailableError: It has not given a picture yet.
        """
        return self._readers.snapshot(camera_id)

    def harvest(self, seconds: float, clip_s: float, per_camera: int, out_dir: Path) -> list[HarvestedClip]:
        """Collect short clips of every camera for some time; returns what was kept. Ends a harvest that still runs.

        Raises:
            UnavailableError: No model is loaded yet.
        """
        spec = self._readers.spec
        if spec is None:
            raise UnavailableError(f"{self.worker_id} has no model yet.", hint="Try again shortly.")
        plan = HarvestPlan(clip_s=clip_s, per_camera=per_camera, rate_hz=spec.rate_hz)
        self._harvest_over.set()  # of a Controller that is no more; two would write into one folder
        with self._harvesting:
            over = self._harvest_over = threading.Event()
            harvester = Harvester(plan, out_dir)
            self._taps.append(harvester.offer)
            try:
                if not self._ended.is_set():
                    over.wait(seconds)
            finally:
                self._taps.remove(harvester.offer)
                clips = harvester.finish()
        _log.info("harvested", worker=self.worker_id, clips=len(clips), frames_lost=harvester.lost)
        return clips

    # --- reporting -------------------------------------------------------------------------------------------------

    def _report_until_ended(self) -> None:
        while not self._ended.is_set():
            try:
                self._report_once()
                self._keep_up()
            except Exception:  # noqa: BLE001 - a bug here must not silence the worker for ever
                _log.exception("reporter failed", worker=self.worker_id)
            if self._loop.failure is not None:
                _log.error("engine loop failed", worker=self.worker_id, exc_info=self._loop.failure)
                self._on_rejected()
            self._ended.wait(self._report_every_s)

    def _report_once(self) -> bool:
        """Send one report; returns whether it was answered."""
        report = self._report()
        try:
            reply = self._send(report)
        except UnavailableError as error:
            _log.warning("report not answered", worker=self.worker_id, reason=error.message)
            return False
        if not reply.accepted:
            _log.warning("no longer accepted", worker=self.worker_id, epoch=self.epoch)
            self._on_rejected()
            return False
        self._outbox.acknowledge(report.updates)
        if reply.assignment is not None and not self._ended.is_set():
            self._assignment = reply.assignment
        return True

    def _report(self) -> WorkerReport:
        answers = self._loop.answers
        statuses = self._readers.statuses(answers)  # before the counts: who is told online has answers that are counted
        with self._process.oneshot():
            cpu = self._process.cpu_times()
            rss_bytes = self._process.memory_info().rss
        totals = WorkerTotals(
            worker_id=self.worker_id,
            epoch=self.epoch,
            cameras=self._readers.totals(answers),
            decode_ms=self._decode_ms.totals(),
            inference_ms=self._loop.inference_ms.totals(),
            end_to_end_ms=self._loop.end_to_end_ms.totals(),
            batch_size=self._loop.batch_size.totals(),
            rss_bytes=rss_bytes,
            cpu_s=cpu.user + cpu.system,
            slowed_cameras=self._slowed,
            pressure=self._pressure,
        )
        return WorkerReport(
            worker_id=self.worker_id,
            epoch=self.epoch,
            sent_at_s=self._clock.monotonic_s(),
            assignment_revision=self._applied_revision,
            model_version=self._answering,
            updates=self._outbox.batch(),
            statuses=statuses,
            totals=totals,
            node=self.node,
        )

    # --- doing what the assignment says ----------------------------------------------------------------------------

    def _keep_up(self) -> None:
        """Move towards the assignment as far as possible now; called again a few times a second."""
        wanted = self._assignment
        if wanted is None:
            return
        self._loader.want(wanted.model_version, Path(wanted.bundle_path), wanted.student)
        engine = self._loader.take()
        if engine is not None:
            self._command(lambda: self._use(engine, wanted))
        if self._loop.pipeline is None:
            return
        if wanted.revision != self._applied_revision:
            self._loop.max_frame_age_s = self._readers.max_frame_age_s = wanted.student.max_frame_age_s
            self._prepare_clips(wanted.events)
            if wanted.history_dir and self._histories is None:
                self._histories = HistoryFolder(Path(wanted.history_dir), self._clock)
            self._apply_cameras(wanted.cameras)
            self._applied_revision = wanted.revision
        self._keep_pace()
        silent = self._readers.ids()
        self._command(lambda: self._loop.end_silent(silent, GAP_S))
        if not self._loop.pipeline.swap_pending:
            self._answering = self._loop.pipeline.model_version
        self._keep_history()

    def _keep_history(self) -> None:
        """Write what one camera has learnt; each has its turn about once a minute."""
        histories = self._histories
        due = [config for config in self._readers.configs() if histories is not None and histories.due(config)]
        if histories is None or not due:
            return
        history = self._command(lambda: self._loop.pipeline and self._loop.pipeline.history(due[0].id))
        try:
            if history is not None:
                histories.write(due[0], history)
        except OSError as error:
            _log.warning("anomaly history not kept", camera=due[0].id, reason=error.strerror)

    def _prepare_clips(self, events: EventsConfig) -> None:
        if self._courier is not None or self._clip_dir is None or self._send_clip is None or not events.clips:
            return
        plan = clip_plan(events)
        self._readers.packets = partial(PacketBuffer, plan.buffer_s, buffer_bytes(events))
        self._courier = ClipCourier(self._clip_dir, plan, self._readers.packets_of, self._send_clip, self._clock)
        self._courier.start()

    def _follow_events(self, updates: Sequence[EventUpdate]) -> None:
        if self._courier is not None:
            self._courier.offer(updates)

    def _keep_pace(self) -> None:
        """Larger batches where the machine is busy; lower rates before frames come too late, and higher ones again."""
        self._loop.machine_load += _MACHINE_WEIGHT * (self._processor_load.share() - self._loop.machine_load)
        now_s = self._clock.monotonic_s()
        self._pressure = self._loop.pressure(now_s, self._losses.pressure(*self._readers.due_and_lost(), now_s))
        paces = self._governor.step(self._pressure, self._readers.priorities(), now_s)
        slowed = sum(pace > 0 for pace in paces.values())
        if bool(slowed) != bool(self._slowed):
            _log.warning("overload" if slowed else "overload is over", worker=self.worker_id, slowed_cameras=slowed)
        self._slowed = slowed
        self._readers.slow_down(paces)
        self._readers.expect_latency(self._loop.latency_p95_s(now_s))

    def _use(self, engine: InferenceEngine, wanted: Assignment) -> None:
        """On the loop's thread: begin with a model, or move over to another."""
        if self._loop.pipeline is None:
            self._loop.pipeline = Pipeline(engine, wanted.events, self._clock, self.epoch)
            self._readers.spec = engine.spec
            return
        try:
            self._loop.pipeline.swap(engine)
        except StreamkdError as error:
            _log.error("model not taken over", version=engine.version, reason=str(error))
            self._loader.refuse(engine.version)

    def _apply_cameras(self, cameras: Sequence[CameraConfig]) -> None:
        change = self._readers.plan(cameras)
        self._readers.stop(change.gone)
        self._command(lambda: self._change_pipeline(change.gone, change.new, change.changed))
        self._readers.start(change.new)
        self._readers.remember(change.changed)

    def _change_pipeline(
        self, gone: Sequence[str], new: Sequence[CameraConfig], changed: Sequence[CameraConfig]
    ) -> None:
        assert self._loop.pipeline is not None
        # What is new is forgotten too: an attempt before may have got this far and no further.
        self._forget([*gone, *(config.id for config in new)])
        for config in new:
            self._loop.pipeline.add_camera(config, None if self._histories is None else self._histories.read(config))
        for config in changed:
            self._outbox.add(self._loop.pipeline.update_camera(config))

    def _forget(self, cameras: Sequence[str]) -> None:
        for camera_id in cameras:
            self._mailboxes.remove(camera_id)
            if self._loop.pipeline is not None:
                self._outbox.add(self._loop.pipeline.remove_camera(camera_id))
            self._loop.forget(camera_id)

    def _command(self, command: Callable[[], Any]) -> Any:
        return self._loop.submit(command).result(_COMMAND_S)

    def _saw(self, frames: Sequence[Frame], results: Sequence[FrameResult]) -> None:
        for tap in (*self._taps, *([self._on_results] if self._on_results else [])):
            tap(frames, results)


__all__ = ["Worker"]
