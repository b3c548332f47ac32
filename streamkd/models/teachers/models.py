"""Models made elsewhere as teachers: ONNX and OpenVINO files, and the video models of `transformers`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import openvino as ov
import torch

from streamkd.bundle import file_sha256
from streamkd.errors import InputError
from streamkd.models.teachers.cache import digest
from streamkd.models.teachers.declared import (
    POSE_VALUES,
    FileDeclaration,
    HubDeclaration,
    model_files,
    read_declaration,
)

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from streamkd.models.teachers.declared import Declaration, InputDeclaration
    from streamkd.types import FloatArray, UInt8Array


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says about one clip.

    Attributes:
        probs: `[K]` of its own classes.
        features: `[F]`, what it saw.
    """

    probs: Tensor
    features: Tensor


class ClipModel(Protocol):
    """A model that knows classes, and looks at square frames."""

    labels: tuple[str, ...]
    version: str
    size: int
    rate_hz: float

    def answer(self, frames: UInt8Array) -> Answer:
        """Of frames `[T, size, size, 3]` uint8 RGB."""


class NetworkFile:
    """An ONNX or OpenVINO file on the CPU, in float32.

    Args:
        declared: How to feed it.
        threads: CPU threads.

    Raises:
        InputError: The file can't be read, or has no such input or output.
    """

    def __init__(self, declared: FileDeclaration, *, threads: int = 1) -> None:
        self._declared, self._threads = declared, threads
        self._core = ov.Core()
        try:
            self._model = self._core.read_model(declared.file)
        except RuntimeError as error:
            raise InputError(
                f"Teacher {declared.name}: {declared.file} can't be read as a network.",
                hint="It must be an ONNX file, or the .xml of an OpenVINO IR with its .bin beside it.",
            ) from error
        self._input = self._port(self._model.inputs, declared.input.name, "input")
        self._output = self._port(self._model.outputs, declared.output.name, "output")
        features = declared.output.features
        self._features = self._port(self._model.outputs, features, "output") if features else self._output
        self._compiled: dict[tuple[int, ...], Any] = {}
        self.version = version_of(declared)

    def run(self, array: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The declared output and features of a prepared input, batch first.

        Raises:
            InputError: The model does not take this input.
        """
        try:
            if array.shape not in self._compiled:
                model = self._model.clone()
                model.reshape({self._input: list(array.shape)})
                options = {"INFERENCE_NUM_THREADS": self._threads, "INFERENCE_PRECISION_HINT": "f32"}
                self._compiled[array.shape] = self._core.compile_model(model, "CPU", options)
            kind = self._model.inputs[self._input].element_type.to_dtype()
            found = self._compiled[array.shape]([array.astype(kind)])
        except RuntimeError as error:
            raise InputError(
                f"Teacher {self._declared.name} does not take an input of shape {list(array.shape)}.",
                hint="Correct layout, height, width or frames in its file.",
            ) from error
        return np.asarray(found[self._output], np.float32), np.asarray(found[self._features], np.float32)

    def _port(self, ports: list[Any], name: str, what: str) -> int:
        if not name:
            return 0
        for index, port in enumerate(ports):
            if name in port.names:
                return index
        known = ", ".join(sorted(one for port in ports for one in port.names))
        raise InputError(
            f"Teacher {self._declared.name}: {self._declared.file} has no {what} {name!r}; it has {known}.",
            hint=f"Correct {what}.name in its file.",
        )


def prepare(frames: UInt8Array, declared: InputDeclaration) -> FloatArray:
    """`[T, H, W, 3]` uint8 to what the layout says: `[1, ...]` of a clip, `[T, ...]` of single frames; float32."""
    low, high = declared.range
    mean, std = (np.asarray(one, np.float32) for one in (declared.mean, declared.std))
    x: FloatArray = (frames.astype(np.float32) * np.float32((high - low) / 255.0) + np.float32(low) - mean) / std
    order = {"NHWC": "THWC", "NCHW": "TCHW"}.get(declared.layout, declared.layout[1:])
    x = np.ascontiguousarray(x.transpose(["THWC".index(axis) for axis in order]))
    return x[None] if "T" in declared.layout else x


def spread(frames: UInt8Array, count: int) -> UInt8Array:
    """`count` frames at even distances over a clip; a short one repeats some."""
    return np.take(frames, np.linspace(0, len(frames) - 1, count).round().astype(int), axis=0)


class FileClassifier:
    """A class model in a file; frame by frame, its probabilities are averaged over the clip.

    Raises:
        InputError: The number of classes is not that of the declared labels.
    """

    def __init__(self, declared: FileDeclaration, *, threads: int = 1) -> None:
        self._declared = declared
        self._network = NetworkFile(declared, threads=threads)
        self.labels, self.version = declared.labels, digest(self._network.version, *declared.labels)
        self.size, self.rate_hz = declared.input.height, declared.rate_hz
        if declared.input.width != declared.input.height:
            raise InputError(f"Teacher {declared.name}: its input has to be square.", hint="Correct height and width.")

    def answer(self, frames: UInt8Array) -> Answer:
        whole = "T" in self._declared.input.layout
        count = self._declared.frames if whole else min(self._declared.frames, len(frames))
        array = prepare(spread(frames, count), self._declared.input)
        found = [self._network.run(one[None]) for one in array]
        values = torch.from_numpy(np.stack([one.reshape(-1) for one, _ in found]))
        if values.shape[1] != len(self.labels):
            raise InputError(
                f"Teacher {self._declared.name} gives {values.shape[1]} classes, its file names {len(self.labels)}.",
                hint="Correct its `labels:`.",
            )
        probs = values if self._declared.output.kind == "probs" else values.softmax(dim=-1)
        features = torch.from_numpy(np.stack([one.reshape(-1) for _, one in found]))
        return Answer(probs.mean(dim=0), features.mean(dim=0))


class PoseNetwork:
    """Finds people's key points, frame by frame."""

    def __init__(self, declared: FileDeclaration, *, threads: int = 1) -> None:
        self._network = NetworkFile(declared, threads=threads)
        self.declared, self.version = declared, self._network.version

    def poses(self, frames: UInt8Array) -> FloatArray:
        """`[T, H, W, 3]` uint8 to `[T, P, 56]` float32, coordinates as shares of the picture.

        Raises:
            InputError: The model gives something else.
        """
        found = [self._network.run(one[None])[0] for one in prepare(frames, self.declared.input)]
        if found[0].shape[-1] != POSE_VALUES:
            raise InputError(
                f"Teacher {self.declared.name} gives {list(found[0].shape)} a frame; a pose has {POSE_VALUES} values.",
                hint="Its output kind is not pose.",
            )
        return np.stack([one.reshape(-1, POSE_VALUES) for one in found])


def version_of(declared: Declaration) -> str:
    """Digest of a declaration and of the files that it names on this machine."""
    said = declared.model_dump(mode="json", exclude={"name", "file", "model", "classes", "prompts"})
    where = declared.model if isinstance(declared, HubDeclaration) else declared.file.name
    files = [file_sha256(one) for one in model_files(declared)]
    return digest(str(sorted(said.items())), *(files or [where]))


def open_model(path: Path, *, threads: int = 1, device: str = "cpu") -> ClipModel:
    """The class model that a declaration names.

    Raises:
        InputError: The declaration or the model can't be read, or it is a pose model.
        DependencyError: `transformers` is not installed.
    """
    declared = read_declaration(path)
    if isinstance(declared, HubDeclaration):
        from streamkd.models.teachers.hub import HubModel  # noqa: PLC0415 (an optional extra)

        return HubModel(declared, device=device)
    if declared.output.kind == "pose":
        raise InputError(
            f"Teacher {declared.name} finds people, it knows no classes.",
            hint="Train a head on it: streamkd teachers train --pose FILE.",
        )
    return FileClassifier(declared, threads=threads)


def open_pose(path: Path, *, threads: int = 1) -> PoseNetwork:
    """The pose model that a declaration names.

    Raises:
        InputError: The declaration or the model can't be read, or it is no pose model.
    """
    declared = read_declaration(path)
    if isinstance(declared, HubDeclaration) or declared.output.kind != "pose":
        raise InputError(f"{path} declares no pose model.", hint="Its output.kind has to be pose.")
    return PoseNetwork(declared, threads=threads)


__all__ = [
    "Answer",
    "ClipModel",
    "FileClassifier",
    "NetworkFile",
    "PoseNetwork",
    "open_model",
    "open_pose",
    "prepare",
    "spread",
    "version_of",
]
