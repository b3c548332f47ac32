"""Small real things for tests: a tiny student as an OpenVINO IR, the same in numpy, frames of one colour.

The tiny student's logits follow the frame in a simple way, so that tests can provoke events with coloured frames: a
leaky integrator per colour channel, `level = 0.5 * level + 0.5 * excess`, where `excess` is how much brighter the
channel is than the other two (0..1), and the logit of the i-th foreground class is `8 * (level_i - 0.5) + bias`.
Red frames are a 'fight' after a few frames; grey frames, bright or dark, are 'normal'.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from streamkd.bundle import Lineage, StudentSpec, TensorSpec, write_manifest
from streamkd.engine.base import StepOutput, softmax
from streamkd.types import EventKind, EventUpdate, Frame, UInt8Array

TINY_SIZE = 32
_DECAY = 0.5
_GAIN = 8.0
_GRID = 4

RED = (255, 0, 0)
GREEN = (0, 255, 0)
GREY = (128, 128, 128)


def tiny_spec(
    version: str = "tiny-1",
    classes: tuple[str, ...] = ("normal", "fight"),
    *,
    rate_hz: float = 5.0,
    warmup_frames: int = 3,
    input_size: int = TINY_SIZE,
) -> StudentSpec:
    """The spec of the tiny student; at most three foreground classes, one per colour channel."""
    return StudentSpec(
        version=version,
        backbone="tiny",
        input_size=input_size,
        rate_hz=rate_hz,
        classes=classes,
        background=classes[0],
        forecast_horizons_s=(1.0, 2.0),
        embedding_shape=(3, _GRID, _GRID),
        warmup_frames=warmup_frames,
        state=(TensorSpec(name="level", shape=(3,)), TensorSpec(name="map", shape=(3, _GRID, _GRID))),
        thresholds=dict.fromkeys(classes[1:], 0.5),
    )


def make_event(event_id: str, **changes: Any) -> EventUpdate:
    """A fight at the gate that has just begun."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    began = EventUpdate(event_id, 1, "gate", EventKind.ACTION, "fight", at, None, 0.0, None, 0.9, "tiny-1")
    return replace(began, **changes)


def make_tiny_bundle(
    path: Path,
    classes: tuple[str, ...] = ("normal", "fight"),
    *,
    version: str = "tiny-1",
    bias: float = 0.0,
    rate_hz: float = 5.0,
    warmup_frames: int = 3,
    input_size: int = TINY_SIZE,
) -> Path:
    """Write a complete bundle with a real OpenVINO IR into the folder `path` and return it.

    Args:
        path: The folder; created.
        classes: The background class first, then one to three foreground classes (red, green, blue).
        version: Name in its spec.
        bias: Added to every foreground logit: 20 makes a model that always alarms, -20 one that never does.
        rate_hz: Of its spec.
        warmup_frames: Of its spec.
        input_size: Height and width of its input.
    """
    path.mkdir(parents=True, exist_ok=True)
    spec = tiny_spec(version, classes, rate_hz=rate_hz, warmup_frames=warmup_frames, input_size=input_size)
    _save_tiny_ir(spec, bias, path / "int8.xml")
    (path / "spec.json").write_text(spec.model_dump_json(indent=2), encoding="utf-8")
    (path / "lineage.json").write_text(Lineage(recipe="tiny").model_dump_json(), encoding="utf-8")
    (path / "metrics.json").write_text("{}", encoding="utf-8")
    header = json.dumps({"bias": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<f", bias))
    write_manifest(path)
    return path


def _save_tiny_ir(spec: StudentSpec, bias: float, path: Path) -> None:
    import openvino as ov
    from openvino import opset13 as ops

    def const(value):
        return ops.constant(np.asarray(value, np.float32))

    size, n_classes = spec.input_size, len(spec.classes)
    frame = ops.parameter([-1, 3, size, size], np.float32, name="frame")
    level = ops.parameter([-1, 3], np.float32, name="level")
    before = ops.parameter([-1, 3, _GRID, _GRID], np.float32, name="map")
    pixels = ops.multiply(frame, const(1 / 255))
    mean = ops.reduce_mean(pixels, ops.constant(np.array([2, 3])), keep_dims=False)
    excess_of = 1.5 * np.eye(3) - 0.5  # own channel minus the mean of the other two
    excess = ops.relu(ops.matmul(mean, const(excess_of), transpose_a=False, transpose_b=False))
    next_level = ops.add(ops.multiply(level, const(_DECAY)), ops.multiply(excess, const(1 - _DECAY)))
    weights = np.zeros((3, n_classes))
    offset = np.zeros(n_classes)
    for index in range(1, n_classes):
        weights[index - 1, index], offset[index] = _GAIN, bias - _GAIN / 2
    action = ops.add(ops.matmul(next_level, const(weights), transpose_a=False, transpose_b=False), const(offset))
    horizons = len(spec.forecast_horizons_s)
    forecast = ops.concat([ops.unsqueeze(action, ops.constant(1))] * horizons, axis=1)
    next_map = ops.avg_pool(
        pixels, [size // _GRID] * 2, [0, 0], [0, 0], [size // _GRID] * 2, exclude_pad=True, rounding_type="floor"
    )
    embedding = ops.subtract(next_map, before)
    outputs = {
        "action": action,
        "forecast": forecast,
        "embedding": embedding,
        "next_level": next_level,
        "next_map": next_map,
    }
    model = ov.Model([ops.result(node) for node in outputs.values()], [frame, level, before], "tiny")
    for port, name in zip(model.inputs, ("frame", "level", "map"), strict=True):
        port.get_tensor().set_names({name})
    for port, name in zip(model.outputs, outputs, strict=True):
        port.get_tensor().set_names({name})
    ov.save_model(model, str(path), compress_to_fp16=False)


class FakeEngine:
    """The tiny student in numpy, without files: an `InferenceEngine` that starts in no time.

    Attributes:
        bias: Added to every foreground logit.
        decay: Of the leaky integrators; 0 makes a model without memory.
        batches: Size of every batch so far.
        warmed: How often `warm` was called.
    """

    def __init__(self, spec: StudentSpec | None = None, *, bias: float = 0.0, decay: float = _DECAY) -> None:
        self.spec = spec or tiny_spec()
        self.bias = bias
        self.decay = decay
        self.batches: list[int] = []
        self.warmed = 0

    @property
    def version(self) -> str:
        return self.spec.version

    def init_state(self) -> dict[str, NDArray[np.float32]]:
        return {tensor.name: np.zeros(tensor.shape, np.float32) for tensor in self.spec.state}

    def warm(self) -> None:
        self.warmed += 1

    def step(
        self, rgb: UInt8Array, states: Sequence[Mapping[str, NDArray[np.float32]]]
    ) -> tuple[StepOutput, list[dict[str, NDArray[np.float32]]]]:
        self.batches.append(len(rgb))
        pixels = rgb.astype(np.float32) / 255
        side = pixels.shape[1] // _GRID
        excess = np.maximum(pixels.mean((1, 2)) @ (1.5 * np.eye(3) - 0.5), 0)
        level = (self.decay * np.stack([s["level"] for s in states]) + (1 - self.decay) * excess).astype(np.float32)
        maps = pixels.reshape(len(rgb), _GRID, side, _GRID, side, 3).mean((2, 4)).transpose(0, 3, 1, 2)
        logits = np.zeros((len(rgb), len(self.spec.classes)), np.float32)
        logits[:, 1:] = _GAIN * (level[:, : logits.shape[1] - 1] - 0.5) + self.bias
        action = softmax(logits / self.spec.temperature)
        output = StepOutput(
            action=action,
            forecast=np.repeat(action[:, None], len(self.spec.forecast_horizons_s), axis=1),
            embedding=(maps - np.stack([s["map"] for s in states])).astype(np.float32),
        )
        return output, [{"level": level[i], "map": maps[i].astype(np.float32)} for i in range(len(rgb))]


@dataclass(frozen=True, slots=True)
class FakePicture:
    """A full-size frame of one colour."""

    width: int = 64
    height: int = 48
    colour: tuple[int, int, int] = GREY

    def jpeg(self, *, max_width_px: int = 1280, quality: int = 80) -> bytes:
        buffer = io.BytesIO()
        width = min(self.width, max_width_px)
        Image.new("RGB", (width, self.height * width // self.width), self.colour).save(buffer, "JPEG", quality=quality)
        return buffer.getvalue()


def make_frame(
    camera_id: str = "cam",
    pts_s: float = 0.0,
    colour: tuple[int, int, int] = GREY,
    *,
    segment: int = 0,
    received_s: float | None = None,
    size: int = TINY_SIZE,
    grey: UInt8Array | None = None,
) -> Frame:
    """A frame of one colour; `grey` is flat unless given, so that nothing moves in it."""
    rgb = np.empty((size, size, 3), np.uint8)
    rgb[:] = colour
    if grey is None:
        grey = np.full((240, 360), 100, np.uint8)
    return Frame(
        camera_id=camera_id,
        segment=segment,
        pts_s=pts_s,
        received_s=pts_s if received_s is None else received_s,
        rgb=rgb,
        grey=grey,
        picture=FakePicture(colour=colour),
    )


__all__ = [
    "GREEN",
    "GREY",
    "RED",
    "TINY_SIZE",
    "FakeEngine",
    "FakePicture",
    "make_frame",
    "make_tiny_bundle",
    "tiny_spec",
]
