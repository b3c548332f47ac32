"""The student on PyTorch: the engine for a GPU. Runs the stored float weights, not the int8 network."""

from __future__ import annotations

import io
import math
import warnings
from typing import TYPE_CHECKING, Any

import structlog
import torch
from safetensors.torch import load_file

from streamkd.engine.slots import SlottedEngine, output_shapes
from streamkd.errors import BundleError
from streamkd.models.student import Student

if TYPE_CHECKING:
    from torch import Tensor

    from streamkd.bundle import Bundle, StudentSpec
    from streamkd.types import FloatArray, UInt8Array

# A GPU computes a batch of 64 in hardly more time than one frame; a CPU (in tests) has nothing from large ones.
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
_WARM_RUNS = 3  # before a graph is recorded: kernels are chosen then
_log = structlog.get_logger(__name__)


class TorchEngine(SlottedEngine):
    """Runs a bundle's float weights; see `streamkd.engine.base.InferenceEngine`.

    On a GPU the trunk computes in float16, the head in float32; each batch size is recorded once as a CUDA graph, and
    frames, states and answers cross in pinned memory. What can't be recorded is run step by step, and said once.

    Args:
        bundle: A checked bundle.
        device: A PyTorch device, such as "cuda" or "cpu".

    Raises:
        BundleError: The weights don't fit the spec.
    """

    def __init__(self, bundle: Bundle, *, device: str) -> None:
        # TF32 keeps 10 bits of the mantissa: answers would depend on the shape of the batch.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        where = torch.device(device)
        student = _load(bundle).to(where)
        slots = {size: _Slot(student, bundle.spec, size, where) for size in BATCH_SIZES}
        super().__init__(bundle.spec, slots, run_cost=math.inf)


def _load(bundle: Bundle) -> Student:
    try:
        student = Student(bundle.spec)
        student.load_state_dict({name: value.float() for name, value in load_file(bundle.weights_path).items()})
    except (KeyError, RuntimeError, OSError) as error:  # an unknown backbone, or other shapes
        raise BundleError(
            f"The weights in {bundle.weights_path} don't fit this version's student.", hint="Train it again."
        ) from error
    return student.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class _Slot:
    """One batch size: memory on both sides, and on a GPU the recorded graph."""

    def __init__(self, student: Student, spec: StudentSpec, size: int, device: torch.device) -> None:
        self._student, self._device = student, device
        self._on_gpu = device.type == "cuda"
        self._frame = torch.zeros(size, spec.input_size, spec.input_size, 3, dtype=torch.uint8, pin_memory=self._on_gpu)
        self._state = {t.name: torch.zeros(size, *t.shape, pin_memory=self._on_gpu) for t in spec.state}
        self._answer = {
            name: torch.zeros(size, *shape, pin_memory=self._on_gpu) for name, shape in output_shapes(spec).items()
        }
        self.frame: UInt8Array = self._frame.numpy()
        self.state: dict[str, FloatArray] = {name: value.numpy() for name, value in self._state.items()}
        self.output: dict[str, FloatArray] = {name: value.numpy() for name, value in self._answer.items()}
        # The same tensors where a graph was recorded with them: a graph knows addresses, not names.
        self._frame_there = self._frame.to(device)
        self._state_there = {name: value.to(device) for name, value in self._state.items()}
        self._answer_there: dict[str, Tensor] = {}
        self._graph: torch.cuda.CUDAGraph | None = None
        self._recorded = not self._on_gpu

    @torch.inference_mode()
    def run(self) -> None:
        """One step of the whole batch."""
        if not self._recorded:
            self._record()
        if self._on_gpu:
            self._frame_there.copy_(self._frame, non_blocking=True)
            for name, value in self._state.items():
                self._state_there[name].copy_(value, non_blocking=True)
        if self._graph is not None:
            self._graph.replay()
        else:
            self._answer_there = self._forward()
        for name, value in self._answer.items():
            value.copy_(self._answer_there[name], non_blocking=self._on_gpu)
        if self._on_gpu:
            torch.cuda.current_stream(self._device).synchronize()

    def _forward(self) -> dict[str, Tensor]:
        frame = self._frame_there.permute(0, 3, 1, 2).float()
        # Without a cache: a graph that was recorded would go on using weights that the cache has given up.
        with torch.autocast("cuda", torch.float16, enabled=self._on_gpu, cache_enabled=False):
            output, after = self._student.step(frame, self._state_there)
        return {
            "action": output.action,
            "forecast": output.forecast,
            "embedding": output.embedding,
            **{f"next_{name}": value for name, value in after.items()},
        }

    def _record(self) -> None:
        """Record the graph, after a few runs beside the main stream, as CUDA asks for."""
        self._recorded = True
        aside = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(aside):
            for _ in range(_WARM_RUNS):
                self._forward()
        torch.cuda.current_stream(self._device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._answer_there = self._forward()
        except RuntimeError as error:
            _log.warning("no CUDA graph; the student runs step by step", reason=str(error).splitlines()[0])
            return
        self._graph = graph


def to_onnx(bundle: Bundle, batch: int) -> bytes:
    """A bundle's float32 network as ONNX, for other runtimes: benchmarks compare with them.

    Inputs and outputs are those of the IR (see `streamkd.bundle`), for one batch size: the exporter writes it into the
    reshapes of the forecast.

    Raises:
        BundleError: The weights don't fit the spec.
    """
    student = _load(bundle)
    spec = bundle.spec
    file: Any = io.BytesIO()  # it may be a file object, whatever its type hint says
    names = [tensor.name for tensor in spec.state]

    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student = student

        def forward(self, frame: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
            output, after = self.student.step(frame, dict(zip(names, state, strict=True)))
            return output.action, output.forecast, output.embedding, *(after[name] for name in names)

    given = (
        torch.zeros(batch, 3, spec.input_size, spec.input_size),
        *(torch.zeros(batch, *t.shape) for t in spec.state),
    )
    inputs, outputs = ["frame", *names], ["action", "forecast", "embedding", *(f"next_{name}" for name in names)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter without dynamo is called old; the other needs another package
        torch.onnx.export(
            Flat().eval(),
            given,
            file,
            input_names=inputs,
            output_names=outputs,
            dynamo=False,
        )
    whole: bytes = file.getvalue()
    return whole


def cuda_is_there() -> bool:
    """Whether PyTorch can use a GPU here."""
    return bool(torch.cuda.is_available())


__all__ = ["BATCH_SIZES", "TorchEngine", "cuda_is_there", "to_onnx"]
