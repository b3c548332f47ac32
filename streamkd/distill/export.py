"""From a torch student to what the live path runs: OpenVINO IR with the state as inputs and outputs, in int8."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from streamkd.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from streamkd.bundle import StudentSpec
    from streamkd.models.student import Student
    from streamkd.types import UInt8Array

# The head stays in float: it works on differences of neighbouring frames, which are of the size of an int8 step of the
# features themselves (left alone, NNCF quantises both sides of these subtractions). It costs next to nothing.
_FLOAT_OPERATIONS = ("Subtract", "Abs", "ReduceMean", "ReduceMax", "MatMul", "Sigmoid", "Tanh")
# The same by the names that the converter gives: of the types above, NNCF still rounds what the head's layers give and
# the sums that the student itself forms (those of the trunk stand behind a block's name).
_FLOAT_PARTS = (r".*student\.(motion|moving|memory|direct|recall|reduce|standardise).*", r"aten::add/.*")
_OUTPUTS = ("action", "forecast", "embedding")


class _Step(nn.Module):
    """`step` with tensors in and a tuple of tensors out, the shape that the converter wants."""

    def __init__(self, student: Student, *, with_raw: bool) -> None:
        super().__init__()
        self.student, self.with_raw = student, with_raw
        self.names = [tensor.name for tensor in student.spec.state]

    def forward(self, frame: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        before = dict(zip(self.names, state, strict=True))
        raw, embedding, following = self.student.step_features(frame, before)
        action, forecast, following["memory"] = self.student.head(raw, before["memory"])
        given = (action[:, 0], forecast[:, 0], embedding[:, 0], *(following[name] for name in self.names))
        return (*given, raw[:, 0]) if self.with_raw else given


def to_openvino(student: Student, *, with_raw: bool = False) -> Any:
    """The float32 `openvino.Model` of a student's step, with named inputs and outputs and a free batch size.

    Args:
        student: What to convert.
        with_raw: One more output, `raw [B, F]`: what the head sees, for fitting it on an int8 trunk.
    """
    import openvino as ov  # noqa: PLC0415 (slow to import, needed here only)

    spec = student.spec
    student.eval()
    step = _Step(student, with_raw=with_raw)
    size = spec.input_size
    example = (torch.zeros(2, 3, size, size), *student.init_state(2).values())
    with warnings.catch_warnings(), torch.inference_mode(mode=False), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer warns about Python integers that are constant here
        model = ov.convert_model(step, example_input=example)
    names = ["frame", *(tensor.name for tensor in spec.state)]
    shapes = [(3, size, size), *(tensor.shape for tensor in spec.state)]
    model.reshape({port: [-1, *shape] for port, shape in zip(model.inputs, shapes, strict=True)})
    for port, name in zip(model.inputs, names, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
    given = [*_OUTPUTS, *(f"next_{tensor.name}" for tensor in spec.state), *(["raw"] if with_raw else [])]
    for port, name in zip(model.outputs, given, strict=True):
        port.get_tensor().set_names({name})
    model.validate_nodes_and_infer_types()
    return model


def quantise(model: Any, spec: StudentSpec, clips: Sequence[UInt8Array], *, samples: int = 300, seed: int = 0) -> Any:
    """Int8 post-training quantisation, calibrated on clips with the state that their own frames leave behind.

    Args:
        model: What `to_openvino` gave.
        spec: Its spec.
        clips: `[T, S, S, 3]` uint8 RGB, each at the student's rate; played one after the other.
        samples: Number of frames to calibrate on.
        seed: Which clips are taken.

    Raises:
        DependencyError: NNCF is not installed.
    """
    try:
        import nncf  # noqa: PLC0415
    except ImportError as error:
        raise DependencyError("Quantisation needs nncf.", hint="Run: pip install 'streamkd[train]'") from error
    logging.getLogger("nncf").setLevel(logging.ERROR)
    feeds = _calibration(model, spec, clips, samples, np.random.default_rng(seed))
    # NNCF draws progress bars of its own on the standard output, where they would end up between ours or in JSON.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return nncf.quantize(
            model,
            nncf.Dataset(feeds),
            subset_size=len(feeds),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            fast_bias_correction=True,
            ignored_scope=nncf.IgnoredScope(types=list(_FLOAT_OPERATIONS), patterns=list(_FLOAT_PARTS), validate=False),
        )


def int8_model(
    student: Student,
    spec: StudentSpec,
    clips: Sequence[UInt8Array],
    *,
    samples: int = 300,
    seed: int = 0,
    with_raw: bool = False,
) -> Any:
    """The int8 network that is served: exported with what the head sees as an output, quantised, that output removed.

    Where the change features are an output NNCF leaves them in float; otherwise it puts 8-bit steps on them (on `Abs`,
    `ReduceMean` and `ReduceMax`), although nothing behind them runs in int8.

    Args:
        student: What to export.
        spec: Its spec.
        clips: To calibrate on, see `quantise`.
        samples: Number of frames to calibrate on.
        seed: Which clips are taken.
        with_raw: Keep the output `raw`.
    """
    model = quantise(to_openvino(student, with_raw=True), spec, clips, samples=samples, seed=seed)
    if not with_raw:
        for result in model.get_results():
            if "raw" in result.input_value(0).get_names():
                model.remove_result(result)
        model.validate_nodes_and_infer_types()
    return model


def _calibration(
    model: Any, spec: StudentSpec, clips: Sequence[UInt8Array], samples: int, rng: np.random.Generator
) -> list[dict[str, np.ndarray]]:
    """Inputs of single steps; the state carries over from clip to clip in two of three cases, as in a live stream."""
    import openvino as ov  # noqa: PLC0415

    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    request = compiled.create_infer_request()
    zero = {tensor.name: np.zeros((1, *tensor.shape), np.float32) for tensor in spec.state}
    state, feeds = dict(zero), []
    for clip in (clips[i] for i in rng.permutation(len(clips))):
        if rng.random() < 1 / 3:
            state = dict(zero)
        for frame in clip:
            feed = {"frame": frame[None].transpose(0, 3, 1, 2).astype(np.float32), **state}
            feeds.append(feed)
            if len(feeds) >= samples:
                return feeds
            request.infer(feed)
            state = {name: request.get_tensor(f"next_{name}").data.copy() for name in zero}
    return feeds


def save_ir(model: Any, path: Path) -> None:
    """Write an OpenVINO model as `path` (.xml) and its `.bin`; what is not int8 is stored as fp16."""
    import openvino as ov  # noqa: PLC0415

    ov.save_model(model, str(path), compress_to_fp16=True)


__all__ = ["int8_model", "quantise", "save_ir", "to_openvino"]
