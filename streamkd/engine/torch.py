"""The student on PyTorch: the engine for a GPU. Runs the stored float weights, not the int8 network."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file

from streamkd.engine.base import StepOutput, softmax
from streamkd.errors import BundleError
from streamkd.models.student import Student

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from streamkd.bundle import Bundle
    from streamkd.engine.base import State
    from streamkd.types import FloatArray, UInt8Array

_WARM_SIZES = (1, 2, 4, 8, 16, 32)


class TorchEngine:
    """Runs a bundle's weights in float32; see `streamkd.engine.base.InferenceEngine`.

    Args:
        bundle: A checked bundle.
        device: A PyTorch device, such as "cuda" or "cpu".

    Raises:
        BundleError: The weights don't fit the spec.
    """

    def __init__(self, bundle: Bundle, *, device: str) -> None:
        self.spec = bundle.spec
        self._device = torch.device(device)
        # TF32 keeps 10 bits of the mantissa: answers would depend on the shape of the batch.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        try:
            student = Student(bundle.spec)
            student.load_state_dict({name: value.float() for name, value in load_file(bundle.weights_path).items()})
        except (KeyError, RuntimeError, OSError) as error:  # an unknown backbone, or other shapes
            raise BundleError(
                f"The weights in {bundle.weights_path} don't fit this version's student.", hint="Train it again."
            ) from error
        self._student = student.eval().to(self._device)

    @property
    def version(self) -> str:
        """The bundle's version."""
        return self.spec.version

    def init_state(self) -> dict[str, FloatArray]:
        """Zero state of one camera, without a batch axis."""
        return {tensor.name: np.zeros(tensor.shape, np.float32) for tensor in self.spec.state}

    def warm(self) -> None:
        """Run a few batch sizes once: kernels are chosen and memory is taken then."""
        side = self.spec.input_size
        for size in _WARM_SIZES:
            self.step(np.zeros((size, side, side, 3), np.uint8), [self.init_state()] * size)

    @torch.inference_mode()
    def step(self, rgb: UInt8Array, states: Sequence[State]) -> tuple[StepOutput, list[dict[str, FloatArray]]]:
        """Advance `B` cameras by one frame."""
        if len(rgb) != len(states) or not states:
            raise ValueError(f"{len(rgb)} frames do not go with {len(states)} states")
        frame = torch.from_numpy(np.ascontiguousarray(rgb)).to(self._device).permute(0, 3, 1, 2).float()
        before = {
            tensor.name: torch.from_numpy(np.stack([state[tensor.name] for state in states])).to(self._device)
            for tensor in self.spec.state
        }
        output, after = self._student.step(frame, before)
        temperature = np.float32(self.spec.temperature)
        following = {name: _array(value) for name, value in after.items()}
        answer = StepOutput(
            action=softmax(_array(output.action) / temperature),
            forecast=softmax(_array(output.forecast) / temperature),
            embedding=_array(output.embedding),
        )
        # A copy per camera: a view would keep the whole batch alive.
        return answer, [{name: following[name][row].copy() for name in following} for row in range(len(states))]


def to_onnx(bundle: Bundle, batch: int) -> bytes:
    """A bundle's float32 network as ONNX, for other runtimes: benchmarks compare with them.

    Inputs and outputs are those of the IR (see `streamkd.bundle`), for one batch size: the exporter writes it into the
    reshapes of the forecast.

    Raises:
        BundleError: The weights don't fit the spec.
    """
    student = TorchEngine(bundle, device="cpu")._student  # noqa: SLF001 - of this module
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


def _array(value: Tensor) -> FloatArray:
    array: FloatArray = value.float().cpu().numpy()
    return array


__all__ = ["TorchEngine", "cuda_is_there", "to_onnx"]
