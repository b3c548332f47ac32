"""`streamkd bench compare`: the same cameras, student and rate, as others would do it, and as we do.

- a thread a camera: OpenCV's `VideoCapture` reads and decodes, PyTorch eager runs the student on every due frame;
- the same with a batching thread between;
- Roboflow's `InferencePipeline`, the same int8 network on OpenVINO inside, where an environment with it is named;
- ours, gaze and gate and all: the others squeeze the whole picture to the network's input, which costs them less.

Each has a process of its own and the machine for itself, one after the other; the RTSP server runs beside it.
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import queue
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streamkd.bundle import read_bundle
from streamkd.errors import DependencyError, UnavailableError
from streamkd_service.bench.compare_roboflow import check_environment, run_pipeline
from streamkd_service.bench.report import percentile
from streamkd_service.bench.rtsp import CameraServer, prepare_content
from streamkd_service.bench.streams import StreamsOptions, measure_live
from streamkd_service.bench.waiting import pass_time, wait_until
from streamkd_service.runtime.processors import usable_processors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

    from streamkd.types import UInt8Array

_WARM_FRAMES = 10  # of each camera, before the measured time
_START_S = 60.0
_GATHER_S = 0.04
_GRACE_S = 1.0  # what was sent at the end of the measured time may be answered so much later
HOLDS_GOAL, CPU_GOAL = 4.0, 0.7
_NEVER = threading.Event()


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """One run; the same cameras for each candidate.

    Attributes:
        cameras: How many.
        seconds: Measured time of each candidate.
        bundle: Of the student.
        roboflow_python: Python of an environment with Roboflow's `inference`; None: that candidate is left out.
    """

    cameras: int
    seconds: float
    bundle: Path
    roboflow_python: Path | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one candidate took.

    Attributes:
        name: What it is.
        cpu_ms_per_stream_second: Of its process, the server not counted.
        holds: Cameras that all cores could do at that cost, the server's share taken off; an upper bound.
        analysed_share: Of the due frames.
        latency_p95_ms: From sending to the answer.
    """

    name: str
    cpu_ms_per_stream_second: float
    holds: float
    analysed_share: float
    latency_p95_ms: float | None


@dataclass(frozen=True, slots=True)
class CompareResult:
    """All candidates, ours last, and how ours relates to the others.

    Attributes:
        cameras: Of each.
        found: The candidates.
        times_the_best_eager: Cameras that ours holds over those of the best candidate with PyTorch eager.
        cpu_over_roboflow: CPU of a stream of ours over that of Roboflow's pipeline; None where it was left out.
    """

    cameras: int
    found: tuple[Candidate, ...]
    times_the_best_eager: float
    cpu_over_roboflow: float | None

    def notes(self) -> list[str]:
        """What a reader has to know."""
        note = (
            f"{self.cameras} cameras for each. Cameras held: the cores' time over the cost of a stream, the RTSP "
            "server's included; an upper bound that leaves scheduling out. Ours over the best with PyTorch eager: "
            f"{self.times_the_best_eager:.2f} (goal: ≥ {HOLDS_GOAL:g})."
        )
        roboflow = (
            "Roboflow's InferencePipeline was left out: no environment with it was named (--roboflow-python)."
            if self.cpu_over_roboflow is None
            else f"CPU of ours over Roboflow's, OpenVINO in both: {self.cpu_over_roboflow:.2f} (goal: ≤ {CPU_GOAL:g})."
        )
        return [note, roboflow]


def run_compare(options: CompareOptions, say: Callable[[str], None] = lambda _: None) -> CompareResult:
    """Measure every candidate.

    Raises:
        DependencyError: OpenCV or PyTorch is not installed, or the environment with Roboflow's `inference` lacks it.
    """
    for package in ("cv2", "torch", "safetensors"):
        if importlib.util.find_spec(package) is None:
            raise DependencyError(
                f"streamkd bench compare needs {package}.", hint="Run: pip install 'streamkd[train,bench]'"
            )
    version = None if options.roboflow_python is None else check_environment(options.roboflow_python)
    length_s = options.seconds + 2 * _START_S
    recordings = prepare_content(length_s, still=False, say=say).of(options.cameras, 0.0)
    found = []
    for name, batched in (("OpenCV and PyTorch eager, a thread a camera", False), ("the same, batched", True)):
        say(name)
        with CameraServer(recordings) as server:
            found.append(_measure_other(name, batched, server, options))
    eager_holds = max(candidate.holds for candidate in found)
    if options.roboflow_python is not None:
        name = f"Roboflow's InferencePipeline {version}, OpenVINO inside"
        say(name)
        with CameraServer(recordings) as server:
            found.append(_measure_roboflow(name, options.roboflow_python, server, options))
    others_ms = [candidate.cpu_ms_per_stream_second for candidate in found]
    say("streamkd")
    ours = measure_live(StreamsOptions(options.cameras, options.seconds, options.bundle, floor_s=0.0), recordings, say)
    server_ms = ours.server_cpu_ms_per_stream_second
    found.append(
        Candidate(
            "streamkd",
            ours.cpu_ms_per_stream_second,
            _holds(ours.cpu_ms_per_stream_second, server_ms),
            ours.analysed_share,
            ours.latency_p95_ms,
        )
    )
    over = None if options.roboflow_python is None else ours.cpu_ms_per_stream_second / others_ms[-1]
    return CompareResult(options.cameras, tuple(found), found[-1].holds / eager_holds, over)


def _holds(cpu_ms: float, server_ms: float) -> float:
    return len(usable_processors()) * 1000.0 / (cpu_ms + server_ms)


def _measure_other(name: str, batched: bool, server: CameraServer, options: CompareOptions) -> Candidate:  # noqa: FBT001
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    arguments = (tuple(server.urls.items()), options.bundle, options.seconds, batched, there)
    process = context.Process(target=_run, args=arguments, daemon=True)
    process.start()
    there.close()
    try:
        if not here.poll(2 * _START_S):
            raise UnavailableError(f"{name}: not ready in time.", hint="Try fewer cameras.")
        here.recv()  # the measured time begins
        server_s = server.cpu_s()
        if not here.poll(options.seconds + 30.0):
            raise UnavailableError(f"{name}: no answer.", hint="Try fewer cameras.")
        measured: _Measured = here.recv()
        server_s = server.cpu_s() - server_s
    except EOFError:
        raise UnavailableError(f"{name} failed.", hint="Run it again with fewer cameras.") from None
    finally:
        process.kill()
        process.join()
    return _candidate(name, measured, server_s, server, options)


def _measure_roboflow(name: str, python: Path, server: CameraServer, options: CompareOptions) -> Candidate:
    server_s = [0.0]

    def begins() -> None:
        server_s[0] = server.cpu_s()

    told = run_pipeline(python, server.urls, options.bundle, options.seconds, _START_S, _WARM_FRAMES, begins)
    answers = [(str(camera), float(at_s), float(finished_s)) for camera, at_s, finished_s in told["answers"]]
    measured = _Measured(told["began_s"], told["took_s"], told["cpu_s"], answers)
    return _candidate(name, measured, server.cpu_s() - server_s[0], server, options)


@dataclass(frozen=True, slots=True)
class _Measured:
    """What a candidate tells of itself; answers are camera, the source's PTS, when it was finished."""

    began_s: float
    took_s: float
    cpu_s: float
    answers: list[tuple[str, float, float]]


def _candidate(
    name: str, measured: _Measured, server_s: float, server: CameraServer, options: CompareOptions
) -> Candidate:
    stream_seconds = measured.took_s * options.cameras
    end_s = measured.began_s + measured.took_s
    inside = [
        (finished - server.began_s[camera] - at_s) * 1e3
        for camera, at_s, finished in measured.answers
        if measured.began_s <= server.began_s[camera] + at_s < end_s
    ]
    due = stream_seconds * read_bundle(options.bundle).spec.rate_hz
    cpu_ms, server_ms = measured.cpu_s / stream_seconds * 1e3, server_s / stream_seconds * 1e3
    return Candidate(name, cpu_ms, _holds(cpu_ms, server_ms), min(1.0, len(inside) / due), percentile(inside, 0.95))


class _Torch:
    """The student as PyTorch eager runs it, with a state a camera."""

    def __init__(self, bundle: Path) -> None:
        torch: Any = importlib.import_module("torch")
        torch.set_num_threads(1)
        self._engine = importlib.import_module("streamkd.engine.torch").TorchEngine(read_bundle(bundle), device="cpu")
        self._states: dict[str, Any] = {}
        self.spec = self._engine.spec

    def step(self, cameras: Sequence[str], frames: Sequence[UInt8Array]) -> None:
        states = [self._states.get(camera) or self._engine.init_state() for camera in cameras]
        _, following = self._engine.step(np.stack(frames), states)
        self._states.update(zip(cameras, following, strict=True))


def _run(cameras: Sequence[tuple[str, str]], bundle: Path, seconds: float, batched: bool, pipe: Connection) -> None:  # noqa: FBT001
    student = _Torch(bundle)
    answers: list[tuple[str, float, float]] = []
    due: queue.Queue[tuple[str, float, UInt8Array]] = queue.Queue(maxsize=2 * len(cameras))

    def give(camera: str, at_s: float, rgb: UInt8Array) -> None:
        if batched:
            try:
                due.put_nowait((camera, at_s, rgb))
            except queue.Full:
                return
        else:
            student.step([camera], [rgb])
            answers.append((camera, at_s, time.monotonic()))

    for camera, url in cameras:
        threading.Thread(target=_capture, args=(camera, url, student.spec, give), daemon=True).start()
    if batched:
        threading.Thread(target=_batches, args=(due, student, answers), daemon=True).start()

    def warm() -> bool:
        counts = Counter(camera for camera, _, _ in tuple(answers))
        return len(counts) == len(cameras) and min(counts.values()) >= _WARM_FRAMES

    wait_until(warm, _START_S)  # where it does not come that far, the result shows it
    pipe.send("ready")
    began_s, cpu_s = time.monotonic(), time.process_time()
    pass_time(began_s + seconds)
    took_s, cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s
    pass_time(time.monotonic() + _GRACE_S)
    pipe.send(_Measured(began_s, took_s, cpu_s, list(answers)))


def _capture(camera: str, url: str, spec: Any, give: Callable[[str, float, UInt8Array], None]) -> None:
    """A camera as OpenCV's users read one; RTSP over TCP is what its FFmpeg takes by itself."""
    cv2: Any = importlib.import_module("cv2")
    cv2.setNumThreads(1)
    capture, next_s, number = cv2.VideoCapture(url, cv2.CAP_FFMPEG), 0.0, 0
    fps = capture.get(cv2.CAP_PROP_FPS) or 15.0
    while capture.grab():
        at_s, number = number / fps, number + 1
        if at_s >= next_s - 1e-6:
            next_s += 1.0 / spec.rate_hz
            _, picture = capture.retrieve()
            small = cv2.resize(picture, (spec.input_size, spec.input_size), interpolation=cv2.INTER_AREA)
            give(camera, at_s, cv2.cvtColor(small, cv2.COLOR_BGR2RGB))


def _batches(
    due: queue.Queue[tuple[str, float, UInt8Array]], student: _Torch, answers: list[tuple[str, float, float]]
) -> None:
    while True:
        first = due.get()
        newest = {first[0]: first}  # a camera's older frame gives way, as in ours
        _NEVER.wait(_GATHER_S)  # part of what is compared: a batch gathers so long behind its first frame
        while not due.empty():
            frame = due.get()
            newest[frame[0]] = frame
        batch = list(newest.values())
        student.step([camera for camera, _, _ in batch], [rgb for _, _, rgb in batch])
        now_s = time.monotonic()
        answers.extend((camera, at_s, now_s) for camera, at_s, _ in batch)


__all__ = ["Candidate", "CompareOptions", "CompareResult", "run_compare"]
