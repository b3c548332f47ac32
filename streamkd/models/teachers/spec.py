"""What a teacher bundle says about itself, and what its members look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from streamkd.models.clip_features import FEATURE_PARTS
from streamkd.models.teachers.base import Group, MemberInfo
from streamkd.models.teachers.declared import FOCUS_RULE, valid_focus

FeatureKind = Literal["backbone", "frames", "flow", "motion", "audio", "pose", "model", "combined"]
View = Literal["plain", "mirror", "backward"]
HeadKind = Literal["linear", "forest", "hidden", "temporal", "own"]
MAX_FRAMES = 12
_PICTURES = frozenset({"backbone", "frames", "flow", "motion"})


@dataclass(frozen=True, slots=True)
class FeatureKey:
    """What a member's features are made with; members with the same key share them.

    Attributes:
        backbone: Picture network, for "backbone" and "frames".
        size: S, pixels.
        rate_hz: Sampling rate.
        max_frames: Later frames are left out.
        kind: Which kind of features.
        model: File or hub id of the network behind "pose" and "model", else empty.
        views: How the clip is looked at: as it is, mirrored, in reverse.
        short_side: Of the picture, of which the `size` x `size` window is looked at in which the most moves; 0: the
            whole picture, squeezed.
    """

    backbone: str
    size: int
    rate_hz: float
    max_frames: int = MAX_FRAMES
    kind: FeatureKind = "backbone"
    model: str = ""
    views: tuple[View, ...] = ("plain",)
    short_side: int = 0

    @property
    def text(self) -> str:
        """One line that names it; part of the key of cached features."""
        parts = [self.kind, self.backbone or self.model, f"{self.size}px", f"{self.rate_hz:g}hz", f"{self.max_frames}f"]
        parts += [f"of {self.short_side}px"] if self.short_side else []
        return " ".join([*(part for part in parts if part), "+".join(self.views)])


class TeacherMember(BaseModel):
    """One head over frozen features.

    Attributes:
        name: Unique within the teacher.
        group: "train" or "judge".
        features: "backbone": a picture network's clip features. "frames": the same network, frame by frame. "flow":
            optical flow. "motion": the same flow in the few numbers in which the student sums its own up. "audio":
            log-mel bands. "pose": people's key points, from the file `model`. "model": the
            features, or with head "own" the answers, of the model that the file `model` declares. "combined": those of
            the members that `of` names, side by side.
        head: "linear": logistic regression. "forest": extremely randomised trees. "hidden": networks with one
            hidden layer. "temporal": a transformer over the
            frames of "frames". "own": none, the model's own classes.
        short_side: See `FeatureKey`.
        views: Trained on all of them and averaged over them: test-time augmentation.
        parts: Of the clip features; of "frames", without "mean" only what changes from frame to frame.
        inverse_penalty: C of the logistic regression.
        temperature: Its logits are divided by this; fitted on held-out clips.
        weight: Share in the mean of the "train" members.
        oof_roc_auc: Of the clips of each fold, by heads that saw none of its sources.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$")
    group: Group = "train"
    features: FeatureKind = "backbone"
    head: HeadKind = "linear"
    backbone: str = ""
    size: int = Field(default=192, gt=0)
    rate_hz: float = Field(default=5.0, gt=0)
    max_frames: int = Field(default=MAX_FRAMES, gt=1)
    model: str = ""
    of: tuple[str, ...] = ()
    short_side: int = Field(default=0, ge=0)
    views: tuple[View, ...] = Field(default=("plain",), min_length=1)
    parts: tuple[str, ...] = FEATURE_PARTS
    inverse_penalty: float = Field(default=1e-3, gt=0)
    temperature: float = Field(default=1.0, gt=0)
    weight: float = Field(default=1.0, ge=0)
    oof_roc_auc: float | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        needs_backbone = self.features in {"backbone", "frames"}
        if needs_backbone != bool(self.backbone):
            raise ValueError(f"features {self.features!r} {'need' if needs_backbone else 'take no'} backbone")
        if (self.features in {"pose", "model"}) != bool(self.model):
            raise ValueError("features 'pose' and 'model', and no others, need model")
        if (self.features == "combined") != bool(self.of):
            raise ValueError("features 'combined', and no others, need of")
        if (self.head == "temporal") != (self.features == "frames"):
            raise ValueError("head 'temporal' belongs to features 'frames'")
        if self.head == "own" and self.features != "model":
            raise ValueError("head 'own' belongs to features 'model'")
        if self.short_side and (self.features not in _PICTURES or not valid_focus(self.short_side, self.size)):
            raise ValueError(f"{FOCUS_RULE}; and it is for features {', '.join(sorted(_PICTURES))}")
        if self.views[0] != "plain" or len(set(self.views)) != len(self.views):
            raise ValueError("views begin with 'plain' and name each one once")
        return self

    @property
    def info(self) -> MemberInfo:
        return MemberInfo(self.name, self.group, self.weight)


class TeacherSpec(BaseModel):
    """What `teacher.json` says.

    Attributes:
        classes: Order of the logits.
        data_sha256: Of the training clips.
        clip_folds: Per training clip (SHA-256) the fold whose heads have not seen its source.
        source_folds: The same by source, as `source_key` of its name.
        oof_roc_auc: Of the "train" members together, their weights learnt on the other folds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1, 2] = 2
    name: str
    classes: tuple[str, ...] = Field(min_length=2)
    background: str = "normal"
    members: tuple[TeacherMember, ...] = Field(min_length=1)
    data_sha256: tuple[str, ...] = ()
    clip_folds: dict[str, int] = {}
    source_folds: dict[str, int] = {}
    oof_roc_auc: float | None = None

    @model_validator(mode="after")
    def _members_exist(self) -> Self:
        check_members(self.members)
        return self

    @property
    def folds(self) -> tuple[int, ...]:
        """Folds that there are heads of."""
        return tuple(sorted(set(self.clip_folds.values())))

    def member(self, name: str) -> TeacherMember:
        return next(one for one in self.members if one.name == name)


def check_members(members: tuple[TeacherMember, ...]) -> None:
    """Names are unique, and combined members are made of plain ones of their own group.

    Raises:
        ValueError: They are not.
    """
    by_name = {one.name: one for one in members}
    if len(by_name) != len(members):
        raise ValueError("two members have the same name")
    for member in members:
        for name in member.of:
            part = by_name.get(name)
            if part is None or part.features in {"combined", "frames"} or part.head == "own":
                raise ValueError(f"{member.name} is made of {name}, which is no member with features of its own")
            if part.group != member.group:
                raise ValueError(f"{member.name} and {name} are of different groups: a judge shares nothing")


def feature_key(member: TeacherMember) -> FeatureKey:
    """What a member's features are made with; a combined member has none of its own."""
    return FeatureKey(
        backbone=member.backbone,
        size=member.size,
        rate_hz=member.rate_hz,
        max_frames=member.max_frames,
        kind=member.features,
        model=member.model,
        views=member.views,
        short_side=member.short_side,
    )


def feature_keys(members: tuple[TeacherMember, ...]) -> tuple[FeatureKey, ...]:
    """All that has to be computed for these members, each once."""
    return tuple(dict.fromkeys(feature_key(one) for one in members if one.features != "combined"))


__all__ = [
    "FeatureKey",
    "FeatureKind",
    "HeadKind",
    "TeacherMember",
    "TeacherSpec",
    "View",
    "check_members",
    "feature_key",
    "feature_keys",
]
