"""`streamkd bench engine`: one frame of the student on one thread: PyTorch, ONNX Runtime, OpenVINO int8, our step."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from streamkd.bundle import read_bundle
from streamkd.engine.openvino import BATCH_SIZES, OpenVinoEngine, bare_request
from streamkd.engine.rows import StateRows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIVE_BATCH = max(BATCH_SIZES)  # what a live batch of many cameras runs in, however many they are
BATCHES = tuple(sorted({1, 4, LIVE_BATCH, 16}))  # the project's goals are defined for 16


@dataclass(frozen=True, slots=True)
class EngineTime:
    """Milliseconds of CPU time of one frame: median over rounds, with the spread of the middle half."""

    name: str
    batch: int
    ms: float
    low_ms: float
    high_ms: float


@dataclass(frozen=True, slots=True)
class EngineResult:
    """What was seen.

    Attributes:
        times: Every runtime at every batch size.
        int8_vs_torch: PyTorch eager alone (batch 1, as a user has it) over int8 in batches of 16.
        int8_vs_torch_same_batch: The same at the same batch, the smallest over the batch sizes.
        int8_vs_torch_live_batch: The same, both in batches of `LIVE_BATCH`; None: not measured.
        int8_vs_onnx: ONNX Runtime float32 at its best batch over int8 in batches of 16; None: absent.
        int8_vs_onnx_same_batch: The same at the same batch, the smallest over the batch sizes.
        int8_vs_onnx_live_batch: The same, both in batches of `LIVE_BATCH`; None: not measured.
        step_overhead: Our step with state over the bare inference of the same batch of 16.
        left_out: Runtimes that are not installed.
    """

    times: tuple[EngineTime, ...]
    int8_vs_torch: float | None
    int8_vs_torch_same_batch: float | None
    int8_vs_torch_live_batch: float | None
    int8_vs_onnx: float | None
    int8_vs_onnx_same_batch: float | None
    int8_vs_onnx_live_batch: float | None
    step_overhead: float
    left_out: tuple[str, ...]


def run_engine(bundle_path: Path, *, rounds: int = 30, batches: tuple[int, ...] = BATCHES) -> EngineResult:
    """Measure; rounds alternate between the candidates, so that the machine's moods hit all of them.

    Args:
        bundle_path: Of the student.
        rounds: Runs of each candidate.
        batches: Frames a run.
    """
    candidates: dict[tuple[str, int], Callable[[], object]] = {}
    left_out = []
    for batch in batches:
        for name, make in (
            ("torch eager", _torch),
            ("onnxruntime fp32", _onnx),
            ("int8 bare", _bare),
            ("int8 step", _step),
        ):
            run = make(bundle_path, batch)
            if run is None:
                left_out.append(name)
            else:
                candidates[name, batch] = run
    samples: dict[tuple[str, int], list[float]] = {key: [] for key in candidates}
    for run in candidates.values():
        run()
    for _ in range(rounds):
        for key, run in candidates.items():
            began = time.thread_time()
            run()
            samples[key].append((time.thread_time() - began) / key[1] * 1e3)
    times = {key: _time(*key, values) for key, values in samples.items()}
    return _result(times, batches, tuple(sorted(set(left_out))))


def _time(name: str, batch: int, values: list[float]) -> EngineTime:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return EngineTime(name, batch, middle, low, high)


def _result(
    times: dict[tuple[str, int], EngineTime], batches: tuple[int, ...], left_out: tuple[str, ...]
) -> EngineResult:
    def ratio(name: str, batch: int) -> float | None:
        return times[name, batch].ms / times["int8 bare", batch].ms if (name, batch) in times else None

    def least_ratio(name: str) -> float | None:
        return min((found for batch in batches if (found := ratio(name, batch)) is not None), default=None)

    largest, single = max(batches), times.get(("torch eager", min(batches)))
    onnx = [time.ms for (name, _), time in times.items() if name == "onnxruntime fp32"]
    return EngineResult(
        times=tuple(times.values()),
        int8_vs_torch=None if single is None else single.ms / times["int8 bare", largest].ms,
        int8_vs_torch_same_batch=least_ratio("torch eager"),
        int8_vs_torch_live_batch=ratio("torch eager", LIVE_BATCH),
        int8_vs_onnx=None if not onnx else min(onnx) / times["int8 bare", largest].ms,
        int8_vs_onnx_same_batch=least_ratio("onnxruntime fp32"),
        int8_vs_onnx_live_batch=ratio("onnxruntime fp32", LIVE_BATCH),
        step_overhead=times["int8 step", largest].ms / times["int8 bare", largest].ms,
        left_out=left_out,
    )


def _bare(path: Path, batch: int) -> Callable[[], object]:
    return bare_request(read_bundle(path), batch, np.random.default_rng(0))


def _step(path: Path, batch: int) -> Callable[[], object]:
    engine = OpenVinoEngine(read_bundle(path))
    rows = StateRows(engine.spec.state, batch)
    size = engine.spec.input_size
    frames = list(np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8))
    numbers = np.arange(batch)
    return lambda: engine.advance(frames, rows, numbers)


def _torch(path: Path, batch: int) -> Callable[[], object] | None:
    if find_spec("torch") is None or find_spec("safetensors") is None:
        return None
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(1)
    bundle = read_bundle(path)
    student = importlib.import_module("streamkd.distill.bundles").load_student(bundle)
    size = bundle.spec.input_size
    frame = torch.from_numpy(np.random.default_rng(0).random((batch, 3, size, size), np.float32) * 255)
    state = {tensor.name: torch.zeros((batch, *tensor.shape)) for tensor in bundle.spec.state}

    def run() -> object:
        with torch.inference_mode():
            return student.step(frame, state)

    return run


def _onnx(path: Path, batch: int) -> Callable[[], object] | None:
    """The float32 network in ONNX Runtime, as `torch.onnx.export` gives it."""
    if any(find_spec(name) is None for name in ("torch", "onnx", "onnxruntime", "safetensors")):
        return None
    network = importlib.import_module("streamkd.engine.torch").to_onnx(read_bundle(path), batch)
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = runtime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    spec = read_bundle(path).spec
    rng = np.random.default_rng(0)
    given = {"frame": rng.random((batch, 3, spec.input_size, spec.input_size), np.float32) * 255}
    given |= {tensor.name: np.zeros((batch, *tensor.shape), np.float32) for tensor in spec.state}
    return lambda: session.run(None, given)


__all__ = ["BATCHES", "LIVE_BATCH", "EngineResult", "EngineTime", "run_engine"]
