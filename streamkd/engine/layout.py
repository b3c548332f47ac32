"""How frames get into an OpenVINO network: as cameras have them, `[B, S, S, 3]` uint8."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops
from openvino.preprocess import PrePostProcessor

_ARITHMETIC = frozenset({"Add", "Subtract", "Multiply", "Divide", "FakeQuantize"})


def with_uint8_frames(model: Any) -> Any:
    """The network with `frame` as `[B, S, S, 3]` uint8 in place of `[B, 3, S, S]` float; its answers are the same.

    A convolution reads its input in the order that the frame has: a transposition right before it costs nothing. One
    further ahead, where OpenVINO puts it, is done, and undone for the convolution.
    """
    steps = PrePostProcessor(model)
    frame = steps.input("frame")
    frame.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    frame.model().set_layout(ov.Layout("NCHW"))
    frame.preprocess().convert_element_type(ov.Type.f32)
    built = steps.build()
    for operation in built.get_ordered_ops():
        if operation.get_type_name() == "Transpose" and _source(operation.input(0)) in {"Parameter", "Convert"}:
            for use in operation.output(0).get_target_inputs():
                _sink(operation, use)
    built.validate_nodes_and_infer_types()
    return built


def _sink(transpose: Any, use: Any) -> None:
    """Move the transposition of the frame to behind the arithmetic that follows it in one of its uses."""
    order = transpose.input_value(1)
    back = np.argsort(order.get_node().data)
    given, uses = transpose.input_value(0), [use]
    while len(uses) == 1 and _is_arithmetic(uses[0], len(back)):
        operation = uses[0].get_node()
        for other in operation.inputs()[1:]:
            values = _values(other)
            if values.ndim == len(back):
                other.replace_source_output(ops.constant(np.transpose(values, back)).output(0))
        uses[0].replace_source_output(given)
        given = operation.output(0)
        uses = list(given.get_target_inputs())
    behind = ops.transpose(given, order)
    for each in uses:
        each.replace_source_output(behind.output(0))


def _is_arithmetic(use: Any, axes: int) -> bool:
    """Whether an input is the first of an operation with constants, which does the same in whatever order axes are."""
    operation = use.get_node()
    if operation.get_type_name() not in _ARITHMETIC or use.get_index() != 0:
        return False
    others = operation.inputs()[1:]
    return all(_source(one) == "Constant" and (_values(one).ndim == axes or _values(one).size == 1) for one in others)


def _source(given: Any) -> str:
    return str(given.get_source_output().get_node().get_type_name())


def _values(given: Any) -> Any:
    return given.get_source_output().get_node().data


__all__ = ["with_uint8_frames"]
