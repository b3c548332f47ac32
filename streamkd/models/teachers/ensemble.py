"""The local ensemble: heads over features, cross-fitted, and the bundle that holds them.

A bundle is a folder: `teacher.json`, `heads.safetensors`, `MANIFEST.sha256`, and `models/` with the declarations of
models made elsewhere and their files. Nothing in it is ever unpickled.

Of every head there are as many as there are folds, each trained without one fold, and one that was trained on all. A
clip that was trained on, or whose source was, is answered by the heads that have not seen it; any other clip by those
that have seen everything.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import yaml
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from streamkd.bundle import check_manifest, file_sha256, write_manifest
from streamkd.errors import BundleError
from streamkd.models.backbone import HEAD_CHANNELS
from streamkd.models.clip_features import feature_slices
from streamkd.models.teachers.base import TeacherOutput, combine
from streamkd.models.teachers.declared import HubDeclaration, model_files, read_declaration
from streamkd.models.teachers.extract import EXTRACT_VERSION, Extractor
from streamkd.models.teachers.heads import HEADS, Head, HiddenHead
from streamkd.models.teachers.spec import FeatureKey, TeacherMember, TeacherSpec, feature_key, feature_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from streamkd.models.teachers.base import MemberInfo, TeacherClip

TEACHER_FILES = ("teacher.json", "heads.safetensors")
MODELS = "models"
FINAL = "final"


@dataclass(frozen=True, slots=True)
class Heads:
    """The heads of all members.

    Attributes:
        final: By member, trained on all clips.
        by_fold: By fold and member, trained without that fold; empty in a bundle of the first version.
    """

    final: dict[str, Head]
    by_fold: dict[int, dict[str, Head]]


class EnsembleTeacher:
    """An ensemble of heads, with what they look through loaded when first needed.

    Args:
        spec: Members and classes.
        heads: Theirs; members with head "own" have none.
        extractor: Where features come from.
        version: Digest of the bundle.
    """

    def __init__(self, spec: TeacherSpec, heads: Heads, extractor: Extractor, version: str = "") -> None:
        self.spec = spec
        self._heads, self._extract = heads, extractor
        self.version = version

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def classes(self) -> tuple[str, ...]:
        return self.spec.classes

    @property
    def members(self) -> tuple[MemberInfo, ...]:
        return tuple(one.info for one in self.spec.members)

    def unseen_fold(self, clip: TeacherClip) -> int | None:
        """The fold whose heads have not seen this clip or its source; None if all heads may answer."""
        fold = self.spec.clip_folds.get(clip.sha256)
        if fold is None and clip.source:
            fold = self.spec.source_folds.get(source_key(clip.source))
        return fold if fold in self._heads.by_fold else None

    def saw(self, clip: TeacherClip) -> bool:
        """Whether heads answer to this clip that were trained on it: a bundle without heads by fold."""
        return clip.sha256 in self.spec.data_sha256 and self.unseen_fold(clip) is None

    def motion(self) -> HiddenHead | None:
        """What its member over motion has learnt from all of its clips; None without such a member."""
        members = [one for one in self.spec.members if one.features == "motion" and one.group == "train"]
        heads = (self._heads.final.get(one.name) for one in members)
        return next((head for head in heads if isinstance(head, HiddenHead)), None)

    def variant(self, clip: TeacherClip) -> str:
        fold = self.unseen_fold(clip)
        return FINAL if fold is None else f"fold{fold}"

    def label(
        self, clips: Sequence[TeacherClip], progress: Callable[[str, float], None] | None = None
    ) -> TeacherOutput:
        """See `Teacher.label`."""
        keys = feature_keys(self.spec.members)
        rows: list[dict[FeatureKey, Tensor]] = []
        boxes: list[Tensor] = []
        finder = next((key for key in keys if key.kind == "pose"), None)
        for index, clip in enumerate(clips):
            rows.append({key: self._extract(clip, key) for key in keys})
            if finder is not None:
                boxes.append(self._extract.boxes(clip, finder))
            if progress is not None:
                progress("labelling", (index + 1) / len(clips))
        if not rows:
            nothing = torch.zeros(0, len(self.classes))
            return TeacherOutput(nothing, {one.name: nothing for one in self.members}, nothing[:, 0])
        features = {key: torch.stack([row[key] for row in rows]) for key in keys}
        output = self.from_features(features, [self.unseen_fold(clip) for clip in clips])
        return TeacherOutput(
            output.logits, output.member_logits, output.uncertainty, output.features, tuple(boxes) if boxes else None
        )

    def from_features(
        self, features: Mapping[FeatureKey, Tensor], folds: Sequence[int | None] | None = None
    ) -> TeacherOutput:
        """The answers to N clips whose features are known.

        Args:
            features: By key `[N, V, ...]`.
            folds: Per clip, which heads answer; None for those that were trained on everything.
        """
        count = len(next(iter(features.values())))
        chosen = list(folds) if folds is not None else [None] * count
        logits: dict[str, Tensor] = {}
        for member in self.spec.members:
            x = member_features(member, self.spec.members, features)
            answers = torch.zeros(count, len(self.classes))
            for fold in dict.fromkeys(chosen):
                rows = torch.tensor([one == fold for one in chosen])
                heads = self._heads.final if fold is None else self._heads.by_fold[fold]
                answers[rows] = view_logits(member, heads.get(member.name), x[rows], len(self.classes))
            logits[member.name] = answers / member.temperature
        pooled, entropy = combine(self.members, logits)
        return TeacherOutput(pooled, logits, entropy, {key.text: value[:, 0] for key, value in features.items()})


def member_features(
    member: TeacherMember, members: Sequence[TeacherMember], features: Mapping[FeatureKey, Tensor]
) -> Tensor:
    """What a member's head gets of features by key: `[N, V, F]`, or `[N, V, T, D]` of frames."""
    if member.features == "combined":
        by_name = {one.name: one for one in members}
        parts = [member_features(by_name[name], members, features) for name in member.of]
        views = max(part.shape[1] for part in parts)  # sound has no mirror image: it is the same in every view
        same = [part if part.shape[1] == views else part[:, :1].expand(-1, views, -1) for part in parts]
        return torch.cat(same, dim=2)
    raw = features[feature_key(member)]
    if member.features == "frames":
        return raw if "mean" in member.parts else raw[..., HEAD_CHANNELS:]
    if member.features != "backbone":
        return raw
    return torch.cat([raw[..., part] for part in feature_slices(member.backbone, member.parts)], dim=-1)


def view_logits(member: TeacherMember, head: Head | None, features: Tensor, n_classes: int) -> Tensor:
    """`[N, V, ...]` to logits `[N, C]`, the mean over the views."""
    if member.head == "own":
        return features[..., :n_classes].mean(dim=1)
    assert head is not None
    answers = head(features.flatten(0, 1))
    return answers.reshape(*features.shape[:2], -1).mean(dim=1)


def source_key(source: str) -> str:
    """What a bundle keeps of a source's name: 16 hex digits of its SHA-256; it may name a place or a person."""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def save_teacher(folder: Path, spec: TeacherSpec, heads: Heads, *, root: Path | None = None) -> TeacherSpec:
    """Write a teacher bundle; models that members look through are copied into it.

    Args:
        folder: Its place.
        spec: Paths of models are relative to `root`.
        heads: Of its members.
        root: See `spec`; the present folder unless given.

    Returns:
        The spec as stored, with the models' new paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{where}/{name}.{field}": value.contiguous()
        for where, group in ((FINAL, heads.final), *((f"fold{k}", one) for k, one in heads.by_fold.items()))
        for name, head in group.items()
        for field, value in head.tensors().items()
    }
    copied: dict[str, str] = {}
    files = list(TEACHER_FILES)
    for model in sorted({one.model for one in spec.members if one.model}):
        names = _copy_model(folder, model if root is None else str(root / model))
        copied[model] = names[0]
        files += names
    members = tuple(one.model_copy(update={"model": copied.get(one.model, "")}) for one in spec.members)
    spec = spec.model_copy(update={"members": members, "schema_version": 2})
    save_file(tensors, folder / "heads.safetensors")
    (folder / "teacher.json").write_text(json.dumps(spec.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
    write_manifest(folder, dict.fromkeys(files))
    return spec


def _copy_model(folder: Path, model: str) -> list[str]:
    """Copy a declaration and the files that it names; a hub model stays where it is. Names within the bundle."""
    declaration = Path(model)
    declared = read_declaration(declaration)
    target = folder / MODELS
    target.mkdir(exist_ok=True)
    said = declared.model_dump(mode="json")
    names: list[str] = []
    if not isinstance(declared, HubDeclaration):
        said["file"] = declared.file.name
        for file in model_files(declared):
            if file.resolve() != (target / file.name).resolve():
                shutil.copy2(file, target / file.name)
            names.append(f"{MODELS}/{file.name}")
    stem = f"{declaration.stem}.yaml"
    (target / stem).write_text(yaml.safe_dump(said, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return [f"{MODELS}/{stem}", *names]


def load_teacher(folder: Path, extractor: Extractor | None = None) -> EnsembleTeacher:
    """Read a teacher bundle and check it.

    Args:
        folder: The bundle.
        extractor: Where features come from; the clips' own files unless given.

    Raises:
        BundleError: It is incomplete, damaged or malformed.
    """
    check_manifest(folder, TEACHER_FILES)
    try:
        spec = TeacherSpec.model_validate_json((folder / "teacher.json").read_text(encoding="utf-8"))
        check_manifest(folder, {one.model for one in spec.members if one.model})
        heads = _read_heads(spec, load_file(folder / "heads.safetensors"))
    except (ValidationError, KeyError, RuntimeError, SafetensorError, OSError) as error:
        raise BundleError(
            f"Teacher bundle {folder} is malformed: {' '.join(str(error).split())}.", hint="Train it again."
        ) from error
    own = "".join(file_sha256(folder / name) for name in sorted(TEACHER_FILES))
    digest = hashlib.sha256((EXTRACT_VERSION + own).encode())
    for model in sorted({one.model for one in spec.members if one.model}):
        for file in (folder / model, *model_files(read_declaration(folder / model))):
            digest.update(file_sha256(file).encode())
    return EnsembleTeacher(spec, heads, extractor or Extractor(root=folder, classes=spec.classes), digest.hexdigest())


def _read_heads(spec: TeacherSpec, tensors: dict[str, Tensor]) -> Heads:
    groups: dict[str, dict[str, dict[str, Tensor]]] = {}
    for key, value in tensors.items():
        where, _, rest = key.rpartition("/") if "/" in key else (FINAL, "", key)
        name = next(
            one.name for one in sorted(spec.members, key=lambda m: -len(m.name)) if rest.startswith(f"{one.name}.")
        )
        groups.setdefault(where, {}).setdefault(name, {})[rest.removeprefix(f"{name}.")] = value
    built = {
        where: {one.name: HEADS[one.head].from_tensors(group[one.name]) for one in spec.members if one.head != "own"}
        for where, group in groups.items()
    }
    by_fold = {int(where.removeprefix("fold")): heads for where, heads in built.items() if where != FINAL}
    return Heads(built.get(FINAL, {}), by_fold)


__all__ = [
    "EnsembleTeacher",
    "Heads",
    "load_teacher",
    "member_features",
    "save_teacher",
    "source_key",
    "view_logits",
]
