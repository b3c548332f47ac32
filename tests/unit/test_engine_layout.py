"""Frames as cameras have them: the network gets them without a transposition that costs, and answers the same."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops
from openvino.preprocess import PrePostProcessor

from streamkd.bundle import read_bundle
from streamkd.engine.layout import with_uint8_frames
from streamkd.shipped import SHIPPED_STUDENT

SIZE = 8


def constant(values):
    return ops.constant(np.asarray(values, np.float32))


def network(*uses, per_channel=True):
    """Frames less a mean and over a deviation, and then what `uses` make of that or of the frames themselves."""
    frame = ops.parameter(ov.PartialShape([2, 3, SIZE, SIZE]), ov.Type.f32, name="frame")
    frame.output(0).get_tensor().set_names({"frame"})
    shape = (1, 3, 1, 1) if per_channel else ()
    mean = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape) + 100.0
    scaled = ops.divide(ops.subtract(frame, constant(mean)), constant(np.full(shape, 50.0)))
    return ov.Model([ops.result(use(frame, scaled)) for use in uses], [frame], "net")


def convolution(_, scaled):
    weights = np.random.default_rng(0).normal(size=(4, 3, 3, 3))
    return ops.convolution(scaled, constant(weights), [1, 1], [1, 1], [1, 1], [1, 1])


def quantised(frame, scaled):
    low, high = constant(np.full((1, 1, 1, 1), -2.0)), constant(np.full((1, 1, 1, 1), 2.0))
    return convolution(frame, ops.fake_quantize(scaled, low, high, low, high, 256))


def red(frame, _):
    return ops.slice(frame, *(ops.constant(np.array([one])) for one in (0, 1, 1, 1)))


def by_columns(frame, _):
    return ops.multiply(frame, constant(np.arange(SIZE)))  # along the last axis, which is another one for the frame


def the_other_way_round(frame, _):
    return ops.subtract(constant(np.full((1, 3, 1, 1), 255.0)), frame)


def plainly(model):
    steps = PrePostProcessor(model)
    steps.input("frame").tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input("frame").model().set_layout(ov.Layout("NCHW"))
    steps.input("frame").preprocess().convert_element_type(ov.Type.f32)
    return steps.build()


def answers(model, frames):
    request = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    return [value.copy() for value in request.infer([frames]).values()]


def behind_transpositions(model):
    """What reads transposed frames."""
    return {
        use.get_node().get_type_name()
        for operation in model.get_ordered_ops()
        if operation.get_type_name() == "Transpose"
        for use in operation.output(0).get_target_inputs()
    }


@pytest.mark.parametrize(
    "uses",
    [
        (convolution,),
        (quantised,),
        (convolution, red),
        (convolution, quantised),
        (by_columns,),
        (the_other_way_round, convolution),
    ],
)
@pytest.mark.parametrize("per_channel", [True, False])
def test_the_answers_are_the_same(uses, per_channel):
    frames = np.random.default_rng(1).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    expected = answers(plainly(network(*uses, per_channel=per_channel)), frames)
    found = answers(with_uint8_frames(network(*uses, per_channel=per_channel)), frames)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_arithmetic_is_done_in_the_order_of_the_frame():
    assert behind_transpositions(plainly(network(quantised))) == {"Subtract"}
    assert behind_transpositions(with_uint8_frames(network(quantised))) == {"Convolution"}


def test_of_the_shipped_student_only_convolutions_read_transposed_frames():
    model = ov.Core().read_model(str(read_bundle(SHIPPED_STUDENT).ir_path))
    before = behind_transpositions(model)
    assert behind_transpositions(with_uint8_frames(model)) - before == {"Convolution"}
