"""From a clip to the features of one kind, from every view of it: the only part of a teacher that looks at pictures."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from streamkd.errors import DependencyError, UnavailableError
from streamkd.focus import focus_clip
from streamkd.media.audio import AUDIO_RATE_HZ, MEL_BANDS, decode_audio, log_mel
from streamkd.media.clips import decode_clip, decode_shaped
from streamkd.models.backbone import HEAD_CHANNELS, Backbone, pretrained_backbone
from streamkd.models.clip_features import clip_features, tap_blocks
from streamkd.models.teachers.base import class_matrix, map_probs
from streamkd.models.teachers.cache import digest
from streamkd.models.teachers.declared import read_declaration
from streamkd.models.teachers.flow import flow_features, motion_features
from streamkd.models.teachers.models import open_model, open_pose

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from streamkd.models.teachers.base import TeacherClip
    from streamkd.models.teachers.cache import TensorCache
    from streamkd.models.teachers.declared import InputDeclaration
    from streamkd.models.teachers.models import ClipModel, PoseNetwork
    from streamkd.models.teachers.spec import FeatureKey, View
    from streamkd.types import FloatArray, UInt8Array

    FrameReader = Callable[[TeacherClip, float, int], UInt8Array]

EXTRACT_VERSION = "1"  # rises when the code below, or what it calls, gives other numbers
_OF_FLOW: dict[str, Callable[[UInt8Array, float], Tensor]] = {"flow": flow_features, "motion": motion_features}
_EPS = 1e-3
_FP16_LIMIT = 6e4
# Key points of COCO's order that change places in a mirror: eyes, ears, shoulders, elbows, wrists, hips, knees, ankles.
_MIRRORED_POINTS = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)


@dataclass(frozen=True, slots=True)
class Poses:
    """Where people are in a clip.

    Attributes:
        people: `[T, P, 56]` float32: 17 key points of COCO's order (y, x, score), the box (ymin, xmin, ymax, xmax), its
            score; coordinates as shares of the picture.
        rate_hz: Of the frames.
        aspect: Width of the picture over its height.
    """

    people: FloatArray
    rate_hz: float
    aspect: float


class PoseSource(Protocol):
    """Where poses come from: a network here, something better elsewhere."""

    version: str

    def poses(self, clip: TeacherClip) -> Poses:
        """Of one clip.

        Raises:
            UnsupportedMediaError: It can't be decoded.
        """


class PoseFile:
    """Poses by a declared network, kept in a cache.

    Args:
        path: The declaration.
        cache: Where they are kept.
        threads: CPU threads.
    """

    def __init__(self, path: Path, cache: TensorCache | None = None, *, threads: int = 1) -> None:
        self._path, self._cache, self._threads = path, cache, threads
        declared = read_declaration(path)
        self._network: PoseNetwork = open_pose(path, threads=threads)
        self._input = self._network.declared.input
        self._rate_hz = self._network.declared.rate_hz
        self.version = digest("pose", self._network.version, f"{declared.rate_hz:g}")

    def poses(self, clip: TeacherClip) -> Poses:
        found = self._cache.get(self.version, clip.key) if self._cache else None
        if found is None or set(found) != {"people", "aspect"}:
            found = self._look(clip)
            _keep(self._cache, self.version, clip.key, found)
        return Poses(found["people"].astype(np.float32), self._rate_hz, float(found["aspect"][0]))

    def _look(self, clip: TeacherClip) -> dict[str, np.ndarray]:
        wanted = self._input
        if wanted.short_side:
            frames, aspect = focused(clip, self._rate_hz, wanted.short_side, wanted.height), 1.0
        else:
            decoded = decode_shaped(
                clip.path, self._rate_hz, pose_shape(wanted), start_s=clip.start_s, end_s=clip.end_s
            )
            frames, aspect = decoded.frames, decoded.width / max(decoded.height, 1)
        return {"people": self._network.poses(frames), "aspect": np.array([aspect], np.float32)}


def pose_shape(wanted: InputDeclaration) -> Callable[[int, int], tuple[int, int]]:
    """Width and height of what a pose model is shown, from those of the video."""

    def shape(width: int, height: int) -> tuple[int, int]:
        own = max(round(wanted.height * width / height / wanted.multiple), 1) * wanted.multiple
        return wanted.width or own, wanted.height

    return shape


def focused(clip: TeacherClip, rate_hz: float, short_side: int, size: int) -> UInt8Array:
    """The busiest window of a clip, see `focus_clip`: `[T, size, size, 3]`."""
    decoded = decode_clip(clip.path, rate_hz, short_side, keep_aspect=True, start_s=clip.start_s, end_s=clip.end_s)
    return focus_clip(decoded.frames, size)


class Extractor:
    """Features of clips by key.

    Args:
        read: Frames of a clip at a rate and size, `[T, S, S, 3]`; decodes the file unless given.
        root: Folder that relative paths of models are in.
        classes: What the answers of models are mapped to.
        cache: Where features are kept between runs, fp16.
        pose_features: `(people [T, P, 56], rate_hz, aspect) -> [F]`; `streamkd.models.pose_features` unless given.
        threads: CPU threads of the networks in files.
        device: Where models of `transformers` run.
    """

    def __init__(
        self,
        read: FrameReader | None = None,
        *,
        root: Path = Path(),
        classes: tuple[str, ...] = (),
        cache: TensorCache | None = None,
        pose_features: Callable[[FloatArray, float, float], FloatArray] | None = None,
        threads: int = 1,
        device: str = "cpu",
    ) -> None:
        self._read = read or _decode
        self._root, self._classes, self._cache = root, classes, cache
        self._pose_features = pose_features
        self._threads, self._device = threads, device
        self._backbones: dict[str, Backbone] = {}
        self._models: dict[str, tuple[ClipModel, Tensor | None]] = {}
        self._pose_sources: dict[str, PoseSource] = {}
        self._last: tuple[object, UInt8Array] | None = None  # members that share rate and size follow each other

    def __call__(self, clip: TeacherClip, key: FeatureKey) -> Tensor:
        """`[V, ...]` float32 for the V views of the key.

        Raises:
            UnsupportedMediaError: The clip can't be decoded or has no frame.
            DependencyError: Weights or a library are not installed.
            InputError: The model of the key can't be read, or does not fit its declaration.
        """
        version = self.version(key)
        found = self._cache.get(version, clip.key) if self._cache else None
        if found is not None and "features" in found:
            return torch.from_numpy(found["features"].astype(np.float32))
        views: dict[View, Tensor] = {}
        for view in key.views:
            known = _backward(key, views["plain"]) if view == "backward" else None
            views[view] = self._view(clip, key, view) if known is None else known
        features = torch.stack(list(views.values()))
        limited = features.clamp(-_FP16_LIMIT, _FP16_LIMIT).half()
        _keep(self._cache, version, clip.key, {"features": limited.numpy()})
        return limited.float()  # the same numbers from the cache and without it

    def version(self, key: FeatureKey) -> str:
        """Digest that changes whenever features of this key may."""
        return digest(EXTRACT_VERSION, key.text, self._network_version(key))

    def boxes(self, clip: TeacherClip, key: FeatureKey) -> Tensor:
        """Of the people that a "pose" key's network finds: `[T, P, 5]`, see `TeacherOutput.boxes`."""
        return torch.from_numpy(self._pose_source(key).poses(clip).people[..., 51:56].copy())

    def own_classes(self, key: FeatureKey) -> int:
        """How many of the first features of a "model" key are log-probabilities of our classes (0: not mapped)."""
        matrix = self._model(key)[1]
        return 0 if matrix is None else matrix.shape[1]

    def _view(self, clip: TeacherClip, key: FeatureKey, view: View) -> Tensor:
        if key.kind == "audio":
            return audio_features(decode_audio(clip.path, start_s=clip.start_s, end_s=clip.end_s))
        if key.kind == "pose":
            return self._pose_view(clip, key, view)
        frames = self._frames(clip, key)
        if view == "mirror":
            frames = np.ascontiguousarray(frames[:, :, ::-1])
        elif view == "backward":
            frames = np.ascontiguousarray(frames[::-1])
        if key.kind in _OF_FLOW:
            return _OF_FLOW[key.kind](frames, key.rate_hz)
        if key.kind == "model":
            return self._ask(key, frames)
        backbone = self._backbone(key.backbone)
        if key.kind == "frames":
            return frame_features(backbone, frames, key.max_frames)
        return clip_features(backbone, frames)

    def _frames(self, clip: TeacherClip, key: FeatureKey) -> UInt8Array:
        size, rate_hz = key.size, key.rate_hz
        if key.kind == "model":
            model, _ = self._model(key)
            size, rate_hz = model.size, model.rate_hz
        wanted = (clip, rate_hz, size, key.short_side)
        if self._last is None or self._last[0] != wanted:
            whole = not key.short_side
            found = self._read(clip, rate_hz, size) if whole else focused(clip, rate_hz, key.short_side, size)
            self._last = (wanted, found)
        return self._last[1] if key.kind == "model" else self._last[1][: key.max_frames]

    def _pose_view(self, clip: TeacherClip, key: FeatureKey, view: View) -> Tensor:
        poses = self._pose_source(key).poses(clip)
        people = mirror_poses(poses.people) if view == "mirror" else poses.people
        people = people[::-1].copy() if view == "backward" else people
        describe = self._pose_features or _pose_features()
        return torch.from_numpy(np.asarray(describe(people, poses.rate_hz, poses.aspect), np.float32))

    def _ask(self, key: FeatureKey, frames: UInt8Array) -> Tensor:
        model, matrix = self._model(key)
        answer = model.answer(frames)
        if matrix is None:
            return answer.features
        return torch.cat([map_probs(answer.probs[None], matrix)[0], answer.features])

    def _network_version(self, key: FeatureKey) -> str:
        if key.kind == "pose":
            return self._pose_source(key).version
        if key.kind != "model":
            return ""
        model, matrix = self._model(key)
        return digest(model.version, *self._classes, str([] if matrix is None else matrix.tolist()))

    def _model(self, key: FeatureKey) -> tuple[ClipModel, Tensor | None]:
        if key.model not in self._models:
            path = self._root / key.model
            model = open_model(path, threads=self._threads, device=self._device)
            self._models[key.model] = (model, _matrix(model, path, self._classes))
        return self._models[key.model]

    def _pose_source(self, key: FeatureKey) -> PoseSource:
        if key.model not in self._pose_sources:
            self._pose_sources[key.model] = PoseFile(self._root / key.model, self._cache, threads=self._threads)
        return self._pose_sources[key.model]

    def _backbone(self, name: str) -> Backbone:
        if name not in self._backbones:
            backbone = pretrained_backbone(name).eval()
            self._backbones[name] = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self._backbones[name]


def _matrix(model: ClipModel, path: Path, classes: tuple[str, ...]) -> Tensor | None:
    """How a model's classes map to ours; None where they are others and no mapping says which: features only."""
    declared = read_declaration(path)
    if not declared.classes and not {one.casefold() for one in classes} <= {one.casefold() for one in model.labels}:
        return None
    return class_matrix(model.labels, classes, declared.classes, declared.name)


def _decode(clip: TeacherClip, rate_hz: float, size: int) -> UInt8Array:
    return decode_clip(clip.path, rate_hz, size, start_s=clip.start_s, end_s=clip.end_s).frames


def _keep(cache: TensorCache | None, version: str, key: str, tensors: dict[str, np.ndarray]) -> None:
    """Features can be computed again: a full disk makes the next run slower, and fails where labels are written."""
    if cache is None:
        return
    try:
        cache.put(version, key, tensors)
    except UnavailableError:
        return


@torch.inference_mode()
def frame_features(backbone: Backbone, frames: UInt8Array, max_frames: int) -> Tensor:
    """Frame by frame what `clip_features` sees of a clip, `[max_frames, D]`; NaN where the clip has no frame left.

    D: the pooled head (1280), and for each tapped stage the logarithm of the mean change since the frame before
    (channels; of no change at the first frame).
    """
    x = torch.from_numpy(frames).permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
    x = backbone.front(x, 0)
    taps, changes = tap_blocks(backbone.name), []
    for index, block in enumerate(backbone.blocks):
        x = block(x)
        if index in taps:
            change = (x[1:] - x[:-1]).abs().mean(dim=(2, 3))
            changes.append((torch.cat([torch.zeros_like(x[:1, :, 0, 0]), change]) + _EPS).log())
    pooled = backbone.head(x).mean(dim=(2, 3))
    found = torch.cat([pooled, *changes], dim=1)
    padded = torch.full((max_frames, found.shape[1]), torch.nan)
    padded[: len(found)] = found[:max_frames]
    return padded


def _backward(key: FeatureKey, plain: Tensor) -> Tensor | None:
    """What a clip played in reverse gives, where that follows from how it is played forwards; else None."""
    if key.kind in {"backbone", "audio"}:  # neither looks at the order of frames, or at frames at all
        return plain
    return reverse_frames(plain) if key.kind == "frames" else None


def reverse_frames(features: Tensor) -> Tensor:
    """`frame_features` of the clip in reverse: `[T, D]` to the same; a change belongs to the later of two frames."""
    count = int((~features.isnan().any(dim=1)).sum())
    pooled, change = features[:count, :HEAD_CHANNELS], features[:count, HEAD_CHANNELS:]
    turned = features.clone()
    turned[:count] = torch.cat([pooled.flip(0), torch.cat([change[:1], change[1:].flip(0)])], dim=1)
    return turned


def audio_features(samples: FloatArray | None) -> Tensor:
    """A clip's sound in numbers, `[4 * 40 + 1]`: of every mel band the mean, deviation, maximum and mean rise; and a 1.

    All zeros for a clip without an audio track, or with less than a tenth of a second of it.
    """
    if samples is None or len(samples) < AUDIO_RATE_HZ // 10:
        return torch.zeros(4 * MEL_BANDS + 1)
    bands = torch.from_numpy(log_mel(samples))
    rise = (bands[1:] - bands[:-1]).clamp(min=0.0).mean(dim=0)
    parts = [bands.mean(dim=0), bands.std(dim=0, correction=0), bands.amax(dim=0), rise, torch.ones(1)]
    return torch.cat(parts)


def mirror_poses(people: FloatArray) -> FloatArray:
    """`[T, P, 56]` as a mirror shows them: x turned round, left and right exchanged."""
    points = people[..., :51].reshape(*people.shape[:-1], 17, 3)[..., _MIRRORED_POINTS, :].copy()
    points[..., 1] = 1.0 - points[..., 1]
    box = people[..., 51:56].copy()
    box[..., 1], box[..., 3] = 1.0 - people[..., 54], 1.0 - people[..., 52]
    return np.concatenate([points.reshape(*people.shape[:-1], 51), box], axis=-1)


def _pose_features() -> Callable[[FloatArray, float, float], FloatArray]:
    try:
        module: Any = importlib.import_module("streamkd.models.pose_features")
    except ModuleNotFoundError as error:
        raise DependencyError(
            "This version has no pose features (streamkd.models.pose_features).", hint="Leave the pose member out."
        ) from error

    def describe(people: FloatArray, rate_hz: float, aspect: float) -> FloatArray:
        return np.asarray(module.pose_clip_features(people, rate_hz=rate_hz, aspect=aspect), np.float32)

    return describe


__all__ = [
    "EXTRACT_VERSION",
    "Extractor",
    "PoseFile",
    "PoseSource",
    "Poses",
    "audio_features",
    "frame_features",
    "mirror_poses",
    "reverse_frames",
]
