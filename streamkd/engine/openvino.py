"""The student on OpenVINO: the CPU engine of the live path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import openvino as ov

from streamkd.bundle import Bundle, StudentSpec
from streamkd.engine.layout import with_uint8_frames
from streamkd.engine.slots import SlottedEngine, output_shapes
from streamkd.errors import BundleError

# The network is compiled once for each: with its shapes known it takes 0.6 to 0.9 of the time of one compiled for any
# batch, and 25 MB, or 45 where the processor has AVX-512. Of the batches that 44 cameras make (many of one or two
# frames that are seen again, others of 6 to 22), a frame costs 4 % less with 1, 4 and 8.
BATCH_SIZES = (1, 8)
_RUN_COST = 0.64  # measured: a run takes 1.3 ms and 2.04 a frame, between decoding


class OpenVinoEngine(SlottedEngine):
    """Runs a bundle's int8 network; see `streamkd.engine.base.InferenceEngine`.

    A batch runs in pieces of `BATCH_SIZES`. Frames and states are written straight into the memory that a size's
    inference request reads.

    Args:
        bundle: A checked bundle.
        threads: Inference threads.

    Raises:
        BundleError: OpenVINO can't read the network, or its inputs and outputs do not fit the spec.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        super().__init__(bundle.spec, _slots(bundle, BATCH_SIZES, threads), run_cost=_RUN_COST)


def bare_request(bundle: Bundle, batch: int, rng: np.random.Generator) -> Callable[[], None]:
    """One inference of a batch of noise from zero state, and nothing else: what benchmarks compare with.

    Args:
        bundle: Of the network.
        batch: Frames in one inference; the network is compiled for just this many.
        rng: Of the noise.

    Raises:
        BundleError: As `OpenVinoEngine`.
    """
    slot = _slots(bundle, (batch,), threads=1)[batch]
    slot.frame[:] = rng.integers(0, 256, slot.frame.shape, np.uint8)
    return slot.run


class _Slot:
    """One batch size: its inference request, and the memory that it reads from and writes to."""

    def __init__(self, request: Any, spec: StudentSpec, size: int) -> None:
        self.request = request
        self.frame = np.zeros((size, spec.input_size, spec.input_size, 3), np.uint8)
        self.state = {tensor.name: np.zeros((size, *tensor.shape), np.float32) for tensor in spec.state}
        # Asking the request for its tensors would take longer than copying them.
        self.output = {name: np.zeros((size, *shape), np.float32) for name, shape in output_shapes(spec).items()}
        for name, buffer in (("frame", self.frame), *self.state.items(), *self.output.items()):
            self.request.set_tensor(name, ov.Tensor(buffer, shared_memory=True))

    def run(self) -> None:
        """One inference."""
        self.request.infer(share_outputs=True)  # what it returns is not read, so it need not be a copy


def _slots(bundle: Bundle, sizes: Sequence[int], threads: int) -> dict[int, _Slot]:
    """The network, read once and compiled for each of some batch sizes."""
    core = ov.Core()
    try:
        model = core.read_model(str(bundle.ir_path))
        _check_interface(model, bundle)
        requests = {size: _compile(core, model, size, threads).create_infer_request() for size in sizes}
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1][:200]
        raise BundleError(
            f"OpenVINO can't load the network of model bundle {bundle.path}: {reason}.",
            hint="Retrain the bundle with this version of streamkd.",
        ) from error
    return {size: _Slot(request, bundle.spec, size) for size, request in requests.items()}


def _compile(core: Any, model: Any, size: int, threads: int) -> Any:
    fixed = model.clone()
    fixed.reshape({port: ov.PartialShape([size, *list(port.get_partial_shape())[1:]]) for port in fixed.inputs})
    return core.compile_model(with_uint8_frames(fixed), "CPU", _settings(threads))


def _settings(threads: int) -> dict[str, Any]:
    return {
        # Left alone, OpenVINO computes in bf16 on CPUs that have it, and results then depend on the machine.
        "INFERENCE_PRECISION_HINT": "f32",
        # Scaling activations by a batch's own range would make a camera's answer depend on its batch mates.
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        # Several workers on one machine would all be pinned to its first cores.
        "ENABLE_CPU_PINNING": False,
    }


def _check_interface(model: Any, bundle: Bundle) -> None:
    spec = bundle.spec
    size, classes, horizons = spec.input_size, len(spec.classes), len(spec.forecast_horizons_s)
    states = {tensor.name: tensor.shape for tensor in spec.state}
    wanted_in = {"frame": (3, size, size), **states}
    wanted_out = {
        "action": (classes,),
        "forecast": (horizons, classes),
        "embedding": spec.embedding_shape,
        **{f"next_{name}": shape for name, shape in states.items()},
    }
    for what, ports, wanted in (("input", model.inputs, wanted_in), ("output", model.outputs, wanted_out)):
        found = {port.get_any_name(): port.get_partial_shape() for port in ports}
        for name, shape in wanted.items():
            if name not in found:
                raise BundleError(f"The network of model bundle {bundle.path} lacks the {what} {name!r}.")
            if not found[name].compatible(ov.PartialShape([-1, *shape])):
                raise BundleError(
                    f"The network of model bundle {bundle.path} has {what} {name!r} of shape {found[name]}, "
                    f"its spec says {[-1, *shape]}."
                )


__all__ = ["BATCH_SIZES", "OpenVinoEngine", "bare_request"]
