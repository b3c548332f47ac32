"""Training clips as cached features: what the frozen front of the student gives for augmented frames.

The blocks before the cut are never trained, so each augmented variant of a clip passes them once, and every epoch
after that starts from fp16 features. That makes an epoch over 245 clips about 15 s of two cores.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from streamkd.engine.gaze import first_corner, gaze_clip

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from streamkd.bundle import StudentSpec
    from streamkd.evaluate.dataset import ClipRecord, FrameCache
    from streamkd.models.student import Student
    from streamkd.types import UInt8Array

AUGMENT_VERSION = 3  # rises when the code below changes what it makes
OVERSAMPLE = 2  # augmented variants start from frames at twice the student's rate ...
MARGIN = 1.2  # ... and at 1.2 times its size
MAX_FRAMES = 24  # of a clip, per variant
_FRONT_BATCH = 64


@dataclass(frozen=True, slots=True)
class Variant:
    """How one augmented copy of a clip is made; drawn once from its seed, and the same for all of its frames."""

    flip: bool
    rotation_deg: float  # counter-clockwise, about the middle
    scale: float  # side of the crop, as a share of the whole
    aspect: float
    left: float  # position of the crop, 0..1 of the room there is
    top: float
    brightness: float
    contrast: float
    saturation: float
    gamma: float
    noise: float  # standard deviation in grey levels
    phase: int  # first frame of the oversampled grid
    slow: bool  # every second frame is due once in a while later: slower or faster playback
    jpeg_quality: int  # 1..95: each frame is compressed and decoded again; 0 leaves that out


def draw_variant(rng: np.random.Generator) -> Variant:
    """One random variant."""
    strong = rng.random() < 0.7
    spread = 1.0 if strong else 0.3
    return Variant(
        flip=bool(rng.random() < 0.5),
        rotation_deg=float(rng.uniform(-6, 6)) if rng.random() < 0.5 else 0.0,
        scale=float(rng.uniform(0.7, 1.0)),
        aspect=float(np.exp(rng.uniform(-0.15, 0.15))),
        left=float(rng.random()),
        top=float(rng.random()),
        brightness=float(rng.uniform(-30, 30) * spread),
        contrast=float(np.exp(rng.uniform(-0.35, 0.35) * spread)),
        saturation=0.0 if rng.random() < 0.15 else float(rng.uniform(0.5, 1.3)),
        gamma=float(np.exp(rng.uniform(-0.3, 0.3) * spread)),
        noise=float(rng.uniform(0, 6)) if rng.random() < 0.4 else 0.0,
        phase=int(rng.integers(0, OVERSAMPLE)),
        slow=bool(rng.random() < 0.25),
        jpeg_quality=int(rng.integers(15, 60)) if rng.random() < 0.3 else 0,
    )


def augment(
    frames: np.ndarray, variant: Variant, size: int, rng: np.random.Generator, *, oversample: int = OVERSAMPLE
) -> Tensor:
    """Apply a variant to all frames of a clip alike.

    Args:
        frames: `[T', M, M, 3]` uint8, at `oversample` times the student's rate.
        variant: What to do.
        size: S.
        rng: For noise and playback speed.
        oversample: 1 leaves playback speed alone.

    Returns:
        `[T, 3, S, S]` float32, 0..255.
    """
    x = torch.from_numpy(frames[_due(len(frames), variant, rng, oversample)]).permute(0, 3, 1, 2).float()
    x = _rotate(x, variant.rotation_deg)
    side = x.shape[-1]
    height = min(side, round(side * variant.scale / variant.aspect**0.5))
    width = min(side, round(side * variant.scale * variant.aspect**0.5))
    top, left = round(variant.top * (side - height)), round(variant.left * (side - width))
    x = x[:, :, top : top + height, left : left + width]
    x = F.interpolate(x, (size, size), mode="bilinear", antialias=True, align_corners=False)
    if variant.flip:
        x = x.flip(-1)
    grey = x.mean(dim=1, keepdim=True)
    x = grey + (x - grey) * variant.saturation
    x = 255.0 * (x / 255.0).clamp(0, 1) ** variant.gamma
    x = (x - 127.0) * variant.contrast + 127.0 + variant.brightness
    if variant.noise:
        noise = rng.standard_normal(x.shape, dtype=np.float32) * np.float32(variant.noise)
        x = x + torch.from_numpy(noise)
    x = x.clamp(0, 255)
    return _compress(x, variant.jpeg_quality) if variant.jpeg_quality else x


def _rotate(x: Tensor, degrees: float) -> Tensor:
    """`[T, C, S, S]` turned about the middle, mirrored where nothing was filmed."""
    if not degrees:
        return x
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0]]).expand(len(x), 2, 3)
    grid = F.affine_grid(turn, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def _compress(x: Tensor, quality: int) -> Tensor:
    """`[T, 3, S, S]` 0..255 as JPEG and back: the blocks of a stream with too few bits."""
    frames: list[Tensor] = []
    for frame in x.round().to(torch.uint8).permute(0, 2, 3, 1).numpy():
        packed = io.BytesIO()
        Image.fromarray(frame).save(packed, "JPEG", quality=quality)
        frames.append(torch.from_numpy(np.array(Image.open(packed))))
    return torch.stack(frames).permute(0, 3, 1, 2).float()


def _due(available: int, variant: Variant, rng: np.random.Generator, oversample: int) -> np.ndarray:
    if oversample == 1:
        return np.arange(min(available, MAX_FRAMES))
    steps = np.full(available, oversample)
    if variant.slow:
        steps += rng.integers(-1, 2) * (rng.random(available) < 0.5)
    picked = np.concatenate([[variant.phase], variant.phase + np.cumsum(steps)])
    return picked[picked < available][:MAX_FRAMES] if available > variant.phase else np.array([0])


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """Cached front features, `[T, M, h, w]` fp16.

    Attributes:
        plain: Clip i as the live path sees it.
        variants: `variants[v][i]` is the v-th augmented copy of clip i.
    """

    plain: tuple[Tensor, ...]
    variants: tuple[tuple[Tensor, ...], ...]

    def subset(self, indices: Sequence[int]) -> FeatureSet:
        """The same for some clips, in this order."""
        return FeatureSet(
            tuple(self.plain[i] for i in indices), tuple(tuple(one[i] for i in indices) for one in self.variants)
        )


def cache_features(
    student: Student,
    records: Sequence[ClipRecord],
    frames: FrameCache,
    *,
    variants: int,
    seed: int,
    folder: Path | None,
    progress: Callable[[str, float], None],
) -> FeatureSet:
    """Features of every clip: plain, and in `variants` augmented copies.

    Args:
        student: Its front is used as it is now.
        records: The clips.
        frames: Decoded frames.
        variants: Augmented copies of each clip.
        seed: Of the augmentation.
        folder: Where features are kept between runs; None keeps them in memory only.
        progress: Told what is being done and which share of it is done.
    """
    fingerprint = _fingerprint(student)
    per_clip: list[list[Tensor]] = []
    for index, record in enumerate(records):
        path = (
            None
            if folder is None
            else folder / f"{record.sha256[:32]}-{fingerprint}-v{variants}-s{seed}{_span(record)}.npz"
        )
        per_clip.append(_clip_features(student, record, frames, variants, seed, path))
        progress("features", (index + 1) / len(records))
    return FeatureSet(
        tuple(one[0] for one in per_clip),
        tuple(tuple(one[1 + v] for one in per_clip) for v in range(variants)),
    )


def _clip_features(
    student: Student, record: ClipRecord, frames: FrameCache, variants: int, seed: int, path: Path | None
) -> list[Tensor]:
    if path is not None and path.is_file():
        with np.load(path) as stored:
            return [torch.from_numpy(stored[f"v{index}"]) for index in range(variants + 1)]
    spec = student.spec
    plain = plain_frames(frames, record, spec)[: 2 * MAX_FRAMES]
    batches = [torch.from_numpy(plain).permute(0, 3, 1, 2).float()]
    if variants:
        dense = dense_frames(frames, record, spec)
        rng = np.random.default_rng([seed, int(record.sha256[:12], 16)])
        batches += [augment(dense, draw_variant(rng), spec.input_size, rng) for _ in range(variants)]
    parts = front_features(student, torch.cat(batches)).split_with_sizes([len(batch) for batch in batches])
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.stem}.{os.getpid()}.partial.npz")
        arrays: dict[str, Any] = {f"v{index}": part.numpy() for index, part in enumerate(parts)}
        np.savez(partial, **arrays)
        partial.replace(path)
    return [part.clone() for part in parts]


def plain_frames(frames: FrameCache, record: ClipRecord, spec: StudentSpec) -> UInt8Array:
    """A clip as the student sees it live: `[T, S, S, 3]` uint8."""
    return gaze_clip(frames.load_view(record, spec).frames, spec)


def dense_frames(frames: FrameCache, record: ClipRecord, spec: StudentSpec) -> UInt8Array:
    """A clip for `augment`: at OVERSAMPLE times the rate, and with a margin of the picture around what is seen.

    Returns:
        `[T', M, M, 3]` uint8 with M = MARGIN x S.
    """
    side = round(spec.input_size * MARGIN)
    rate_hz = spec.rate_hz * OVERSAMPLE
    if spec.focus is None:
        return frames.load(record, rate_hz, side).frames
    corner = first_corner(frames.load_view(record, spec).frames, spec)
    dense = frames.load(record, rate_hz, spec.view_size, keep_aspect=True).frames
    spare = (side - spec.input_size) // 2
    top, left = (min(max(at - spare, 0), whole - side) for at, whole in zip(corner, dense.shape[1:3], strict=True))
    return dense[:, top : top + side, left : left + side]


def front_features(student: Student, frames: Tensor) -> Tensor:
    """`[N, 3, S, S]` float32 RGB 0..255 to `[N, M, S/8, S/8]` fp16, in batches, without gradients."""
    with torch.inference_mode():
        parts = [
            student.front(part.contiguous(memory_format=torch.channels_last)).half()
            for part in torch.split(frames, _FRONT_BATCH)
        ]
    return torch.cat(parts).contiguous().clone()


def _span(record: ClipRecord) -> str:
    return "" if record.start_s == 0 and record.end_s is None else f"-{record.start_s:g}-{record.end_s or 0:g}"


def _fingerprint(student: Student) -> str:
    spec = student.spec
    said = (AUGMENT_VERSION, spec.input_size, spec.rate_hz, spec.focus, spec.motion is not None)
    digest = hashlib.sha256(" ".join(map(str, said)).encode())
    for parameter in student.backbone.blocks[4].parameters():
        digest.update(parameter.detach().half().numpy().tobytes())
    return digest.hexdigest()[:12]


__all__ = [
    "FeatureSet",
    "Variant",
    "augment",
    "cache_features",
    "dense_frames",
    "draw_variant",
    "front_features",
    "plain_frames",
]
