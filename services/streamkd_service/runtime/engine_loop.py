"""The engine loop: due frames in, results out. The one thread that touches the pipeline."""

from __future__ import annotations

import queue
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streamkd.types import DropReason
from streamkd_service.runtime.histograms import BATCH_BOUNDS, LATENCY_BOUNDS_MS, Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from streamkd.clock import Clock
    from streamkd.media.mailbox import MailboxSet
    from streamkd.pipeline import Pipeline
    from streamkd.types import Frame, FrameResult
    from streamkd_service.runtime.outbox import Outbox

_WAIT_S = 0.1  # how long a command or the end may have to wait on an idle loop
_RATE_WINDOW_S = 5.0
_SHORT_GATHER_S, _LONG_GATHER_S, _LEAST_GATHER_S = 0.01, 0.09, 0.002
_CALM, _BUSY = 0.3, 0.7  # share of the time that the loop is busy
_MACHINE_CALM, _MACHINE_BUSY = 0.55, 0.85  # share of the machine's processors
_LOAD_WINDOW_S = 2.0
_LATENCIES, _PRESSURE_WINDOW_S = 1024, 2.0
_SILENT_S = 1.0  # of a camera without an answer for so long, a late one is better than none
_ROOM, _NO_PRESSURE = 0.7, 0.5  # below this share, frames are not late for want of time


@dataclass(slots=True)
class CameraAnswers:
    """What the loop remembers of one camera: counts since the process began, and its latest answer."""

    analysed: int = 0
    caught_up: int = 0  # of these, frames of a still scene that were analysed when it woke up
    repeated: int = 0  # of these, frames of a still scene that showed nothing new: the last answer again
    dropped: dict[str, int] = field(default_factory=dict)
    result: FrameResult | None = None
    received_s: float = 0.0
    latency_ms: float | None = None
    gone: bool = False  # the pipeline was told that the stream ended
    finished_s: deque[float] = field(default_factory=lambda: deque(maxlen=64))

    def rate_hz(self, now_s: float) -> float:
        """Analysed frames a second over the last seconds."""
        return sum(now_s - at_s <= _RATE_WINDOW_S for at_s in tuple(self.finished_s)) / _RATE_WINDOW_S

    def drop(self, reason: DropReason) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1


class Load:
    """How busy the loop is: the share of the last seconds that it was analysing."""

    def __init__(self) -> None:
        self.share = 0.0
        self._at_s: float | None = None

    def add(self, busy_s: float, ended_s: float) -> None:
        """A batch was analysed."""
        if self._at_s is not None:
            passed_s = max(ended_s - self._at_s, 1e-6)
            weight = min(1.0, passed_s / _LOAD_WINDOW_S)
            self.share += weight * (min(1.0, busy_s / passed_s) - self.share)
        self._at_s = ended_s


def gather_s(load: float, machine: float = 0.0) -> float:
    """How long a batch may gather: little while there is room, more where larger batches are what makes room.

    Args:
        load: Share of the time that the loop is busy, 0 to 1.
        machine: Share of the machine's processors that are busy, with whatever, 0 to 1.
    """
    return _SHORT_GATHER_S + (_LONG_GATHER_S - _SHORT_GATHER_S) * _want_of_room(load, machine)


def _want_of_room(load: float, machine: float) -> float:
    return max(_between(load, _CALM, _BUSY), _between(machine, _MACHINE_CALM, _MACHINE_BUSY))


def _between(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, value - low) / (high - low))


class EngineLoop:
    """Takes due frames from the mailboxes, drops stale ones, runs the pipeline, keeps updates in the outbox.

    Args:
        mailboxes: Where the cameras' readers put their newest frame.
        outbox: Where event updates wait to become durable.
        clock: Time.
        on_results: Sees every batch's frames and results, on the loop's thread (harvest, tests).
    """

    def __init__(
        self,
        mailboxes: MailboxSet,
        outbox: Outbox,
        clock: Clock,
        on_results: Callable[[Sequence[Frame], Sequence[FrameResult]], None] | None = None,
    ) -> None:
        self._mailboxes = mailboxes
        self._outbox = outbox
        self._clock = clock
        self._on_results = on_results
        self._commands: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine-loop", daemon=True)
        self._load = Load()
        self._latencies: deque[tuple[float, float]] = deque(maxlen=_LATENCIES)  # when, milliseconds
        self.pipeline: Pipeline | None = None  # set by a command; nothing is analysed before
        self.max_frame_age_s = 0.5
        self.machine_load = 0.0  # told from outside, see `gather_s`
        self.failure: BaseException | None = None
        self.answers: dict[str, CameraAnswers] = {}
        self.inference_ms = Histogram(LATENCY_BOUNDS_MS)
        self.end_to_end_ms = Histogram(LATENCY_BOUNDS_MS)
        self.batch_size = Histogram(BATCH_BOUNDS)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """End after the present batch; commands still waiting are run."""
        self._ended.set()
        self._thread.join(timeout_s)

    def submit(self, command: Callable[[], Any]) -> Future[Any]:
        """Run `command` on the loop's thread between two batches."""
        future: Future[Any] = Future()
        self._commands.put((command, future))
        self._mailboxes.wake()
        return future

    def end_silent(self, camera_ids: Sequence[str], silent_s: float) -> None:
        """End state and events of cameras of which nothing has been analysed for so long; on the loop's thread."""
        now_s = self._clock.monotonic_s()
        for camera_id in camera_ids:
            answers = self.answers.get(camera_id)
            if answers is None or answers.gone or now_s - answers.received_s < silent_s or self.pipeline is None:
                continue
            answers.gone = True
            self._outbox.add(self.pipeline.camera_gone(camera_id))

    def latency_p95_s(self, now_s: float) -> float:
        """From a frame's arrival to its answer, of the last two seconds, dropped frames included; 0 if idle."""
        recent = sorted(ms for at_s, ms in tuple(self._latencies) if now_s - at_s <= _PRESSURE_WINDOW_S)
        return recent[int(0.95 * (len(recent) - 1))] / 1e3 if recent else 0.0

    def pressure(self, now_s: float, of_losses: float = 0.0) -> float:
        """The p95 latency of the last two seconds, as a share of the age at which frames are dropped; 0 if idle.

        Where neither the loop nor the machine is busy, frames come late in bursts (the keyframes of many cameras at
        once), or a network brings them late, and lower rates would not help: then it is small, whatever the latency.

        Args:
            now_s: Monotonic time.
            of_losses: See `streamkd_service.runtime.overload.Losses`.
        """
        pressure = max(self.latency_p95_s(now_s) / self.max_frame_age_s, of_losses)
        has_room = max(self._load.share, self.machine_load) < _ROOM
        return min(pressure, _NO_PRESSURE) if has_room else pressure

    def forget(self, camera_id: str) -> None:
        """A camera was removed: its counts stay (they never fall), its answer goes."""
        answers = self._of(camera_id)
        answers.result, answers.latency_ms = None, None
        answers.finished_s.clear()

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                self._run_commands()
                if self.pipeline is None:
                    self._ended.wait(0.01)
                    continue
                if self.pipeline.in_work or self._mailboxes.wait(_WAIT_S):
                    self._run_batch(self.pipeline)
            self._finish()
            self._run_commands()
        except Exception as error:  # noqa: BLE001 - the worker ends itself and says why
            self.failure = error

    def _run_batch(self, pipeline: Pipeline) -> None:
        """Gather a batch, run it, and finish what is left of it, unless full batches are what makes room."""
        in_work, full = pipeline.in_work, pipeline.full_batch
        most = None if full is None else full - len(in_work)
        self._gather(most, in_work)
        frames = self._mailboxes.collect(most, in_work)
        if not frames and not in_work:
            return
        is_full = most is not None and sum(frame.same_as_s is None for frame in frames) >= most
        self._advance(pipeline, self._in_time(frames, self._clock.monotonic_s()))
        # In a batch that others do not fill, what is seen again would be as many runs for one picture, only later.
        if not is_full or _want_of_room(self._load.share, self.machine_load) < 1.0:
            self._finish()

    def _gather(self, wanted: int | None, in_work: Collection[str]) -> None:
        """Let a batch gather behind its first frame, until it is full: a run for one frame costs half as much again."""
        oldest_s = self._mailboxes.oldest_s(in_work)
        waited_s = 0.0 if oldest_s is None else max(0.0, self._clock.monotonic_s() - oldest_s)
        wait_s = gather_s(self._load.share, self.machine_load) - waited_s
        if wait_s > _LEAST_GATHER_S:
            self._mailboxes.gather(wait_s, wanted, in_work)

    def _finish(self) -> None:
        """Give every frame in work its answer."""
        while self.pipeline is not None and self.pipeline.in_work:
            self._advance(self.pipeline)

    def _run_commands(self) -> None:
        while not self._commands.empty():  # nobody else takes any
            self._finish()
            command, future = self._commands.get_nowait()
            try:
                future.set_result(command())
            except Exception as error:  # noqa: BLE001 - belongs to whoever asked
                future.set_exception(error)

    def _in_time(self, frames: Sequence[Frame], now_s: float) -> list[Frame]:
        """Those that are to be analysed; the others are counted."""
        fresh = []
        for frame in frames:
            # What is caught up on is old by its nature; the mailbox bounds how much of it there is.
            in_time = now_s - frame.received_s <= self.max_frame_age_s
            if in_time or frame.caught_up or self._has_no_recent_answer(frame):
                fresh.append(frame)
            else:
                self._of(frame.camera_id).drop(DropReason.STALE)
                self._latencies.append((now_s, (now_s - frame.received_s) * 1e3))
        return fresh

    def _advance(self, pipeline: Pipeline, frames: Sequence[Frame] = ()) -> None:
        """One run for these frames and all that are in work, and what it says of those that are through."""
        began_s = self._clock.monotonic_s()
        pipeline.begin(frames)
        size = len(pipeline.in_work)
        if not size:
            return
        done = pipeline.advance()
        ended_s = self._clock.monotonic_s()
        self._load.add(ended_s - began_s, ended_s)
        self.inference_ms.observe((ended_s - began_s) * 1e3)
        self.batch_size.observe(size)
        for frame, result in done:
            self._remember(frame, result, ended_s)
        if done and self._on_results is not None:
            self._on_results([frame for frame, _ in done], [result for _, result in done])

    def _has_no_recent_answer(self, frame: Frame) -> bool:
        """Of a still scene, or a camera slowed to keyframes, one frame dropped would be seconds without an answer."""
        answers = self.answers.get(frame.camera_id)
        return answers is None or frame.received_s - answers.received_s > _SILENT_S

    def _remember(self, frame: Frame, result: FrameResult, ended_s: float) -> None:
        latency_ms = (ended_s - frame.received_s) * 1e3
        answers = self._of(frame.camera_id)
        if frame.caught_up:
            answers.caught_up += 1
        else:
            self.end_to_end_ms.observe(latency_ms)
            self._latencies.append((ended_s, latency_ms))
        answers.analysed += 1
        answers.repeated += result.repeated
        answers.gone = False
        answers.result = result
        answers.received_s = frame.received_s
        answers.latency_ms = latency_ms
        answers.finished_s.append(ended_s)
        self._outbox.add(result.updates)

    def _of(self, camera_id: str) -> CameraAnswers:
        return self.answers.setdefault(camera_id, CameraAnswers())


__all__ = ["CameraAnswers", "EngineLoop", "Load", "gather_s"]
