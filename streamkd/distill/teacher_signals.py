"""From a recipe's teacher to the signals that objectives read: cross-fitted, a bundle, or stored labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

import streamkd
from streamkd.distill.label_cache import cached_labels
from streamkd.distill.labels import LABELS_NAME, read_labels
from streamkd.distill.signals import TeacherSignals
from streamkd.distill.teach import PRESETS, train_teacher
from streamkd.errors import InputError, TrainingError
from streamkd.models.teachers import TeacherClip, open_teacher
from streamkd.models.teachers.cache import TensorCache
from streamkd.models.teachers.ensemble import EnsembleTeacher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streamkd.distill.recipe import TeacherOptions
    from streamkd.evaluate.dataset import ClipRecord, FrameCache
    from streamkd.models.teachers import Teacher, TeacherOutput
    from streamkd.models.teachers.heads import HiddenHead

LOCAL, SHIPPED = "local", "shipped"
MODALITIES = ("flow", "audio", "pose")
COMPONENTS = 64  # wide features are reduced to so many principal components: a regressor onto 5,000 learns noise


@dataclass(frozen=True, slots=True)
class TrainingPart:
    """The labelled clips that a local teacher may learn from."""

    records: tuple[ClipRecord, ...]
    folds: tuple[int, ...]
    classes: tuple[str, ...]
    background: str


def gather_signals(
    options: TeacherOptions,
    part: TrainingPart,
    asked: Sequence[ClipRecord],
    frames: FrameCache,
    cache: Path,
    work: Path,
    *,
    progress: Callable[[str, float], None],
    warn: Callable[[str], None],
) -> TeacherSignals:
    """What the recipe's teacher says about clips.

    Args:
        options: Which teacher.
        part: What a local teacher is trained on; never answers by heads that saw a clip's source.
        asked: Clips in the order wanted.
        frames: Decoded frames.
        cache: Folder of cached features and labels.
        work: Folder that a local teacher goes to.
        progress: Told what is being done and which share of it is done.
        warn: Told what makes figures flatter than they are.

    Raises:
        InputError: There is no such teacher, its classes don't match, or its labels lack a clip.
        TrainingError: A clip can't be read by the teacher.
    """
    if options.source != LOCAL and (Path(options.source) / LABELS_NAME).is_file():
        return _from_file(Path(options.source), options.classes, asked, part.classes)
    tensors = TensorCache(cache / "teacher")
    if options.source == LOCAL:
        _train_local(options, part, frames, work / "teacher", tensors, progress)
    place = {LOCAL: work / "teacher", SHIPPED: Path(streamkd.__file__).parent / "assets" / "teacher"}
    teacher = open_teacher(place.get(options.source, Path(options.source)), () if options.classes else part.classes)
    clips = [TeacherClip(one.path, one.sha256, one.source, one.start_s, one.end_s) for one in asked]
    if _saw(teacher, clips):
        warn(
            f"Teacher {teacher.name} was trained on {_saw(teacher, clips)} of these clips, without heads that had not "
            "seen them: figures on such clips flatter."
        )
    labelled = cached_labels(teacher, clips, tensors, progress=progress, warn=warn)
    if labelled.unreadable:
        clip, reason = labelled.unreadable[0]
        raise TrainingError(f"The teacher can't read {clip.path.name}: {reason}", hint="Leave the clip out.")
    columns = _columns(teacher.classes, part.classes, options.classes, teacher.name)
    # A local teacher has learnt from the training clips alone; any other may have seen what is measured.
    handed = teacher if options.source == LOCAL or not _knows(teacher, clips) else None
    return replace(_signals(teacher, labelled.output, columns), motion=_motion(handed, columns))


def _train_local(
    options: TeacherOptions,
    part: TrainingPart,
    frames: FrameCache,
    folder: Path,
    tensors: TensorCache,
    progress: Callable[[str, float], None],
) -> None:
    unknown = sorted(set(options.members) - set(PRESETS))
    if unknown:
        raise InputError(f"teacher.members: there is no member {unknown[0]!r}.", hint=f"Known: {', '.join(PRESETS)}.")
    train_teacher(
        part.records,
        part.folds,
        frames,
        folder,
        name="local",
        classes=part.classes,
        background=part.background,
        progress=lambda what, share: progress(f"teacher, {what}", share),
        members=[PRESETS[name] for name in options.members],
        cache=tensors,
    )


def _saw(teacher: Teacher, clips: Sequence[TeacherClip]) -> int:
    saw = getattr(teacher, "saw", None)
    return 0 if saw is None else sum(bool(saw(clip)) for clip in clips)


def _knows(teacher: Teacher, clips: Sequence[TeacherClip]) -> bool:
    """Whether any of its heads was trained on one of these clips or on their sources."""
    unseen = getattr(teacher, "unseen_fold", lambda _clip: None)
    return _saw(teacher, clips) > 0 or any(unseen(clip) is not None for clip in clips)


def _motion(teacher: Teacher | None, columns: Tensor) -> HiddenHead | None:
    """Its reading of motion, if it has one and names the student's classes in the same order."""
    if not isinstance(teacher, EnsembleTeacher) or not torch.equal(columns, torch.eye(len(columns))):
        return None
    return teacher.motion()


def _signals(teacher: Teacher, said: TeacherOutput, columns: Tensor) -> TeacherSignals:
    training = [one.name for one in teacher.members if one.group == "train"] or [one.name for one in teacher.members]
    pictures = [value for name, value in said.features.items() if _kind(name) not in {*MODALITIES, "frames", "motion"}]
    modalities = {
        kind: torch.cat(
            [reduced(_absent(value)) for name, value in said.features.items() if _kind(name) == kind], dim=1
        )
        for kind in MODALITIES
        if any(_kind(name) == kind for name in said.features)
    }
    by_frame = next((value for name, value in said.features.items() if _kind(name) == "frames"), None)
    return TeacherSignals(
        logits=_mapped(said.logits, columns),
        members=torch.stack([_mapped(said.member_logits[name], columns) for name in training]),
        features=reduced(torch.cat([one.flatten(1) for one in pictures], dim=1)) if pictures else None,
        modalities=modalities,
        frame_features=None if by_frame is None else tuple(one[torch.isfinite(one).all(dim=-1)] for one in by_frame),
    )


def _kind(name: str) -> str:
    return name.split(maxsplit=1)[0]


def _absent(features: Tensor) -> Tensor:
    """A clip without sound or people has zeros alone: nothing is known, which is another thing than silence."""
    flat = features.flatten(1)
    return torch.where((flat == 0).all(dim=1, keepdim=True), torch.nan, flat)


def reduced(features: Tensor, components: int = COMPONENTS) -> Tensor:
    """`[N, F]` to the first principal components `[N, min(components, N - 1, F)]`; rows of NaN stay rows of NaN."""
    present = torch.isfinite(features).all(dim=1)
    known = features[present].double()
    count = min(components, max(len(known) - 1, 1), features.shape[1])
    if features.shape[1] <= components:
        return features.float()
    standard = (known - known.mean(dim=0)) / (known.std(dim=0, correction=0) + 1e-3)
    _, _, directions = torch.linalg.svd(standard, full_matrices=False)
    # The sign of a component is arbitrary: its largest entry is positive, so that runs can be compared.
    directions = directions[:count]
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    out = torch.full((len(features), len(directions)), torch.nan)
    out[present] = (standard @ (directions * largest.sign()).T).float()
    return out


def _columns(theirs: Sequence[str], ours: Sequence[str], mapping: Mapping[str, str], teacher: str) -> Tensor:
    """`[len(theirs), len(ours)]` of 0 and 1; a class of the teacher that is mapped nowhere is left out."""
    named = {name: mapping.get(name, name) for name in theirs}
    missing = sorted(set(ours) - set(named.values()))
    unknown = sorted(set(mapping) - set(theirs))
    if missing or unknown:
        what = f"has no class {unknown[0]!r}" if unknown else f"has no class for {missing[0]!r}"
        raise InputError(
            f"Teacher {teacher} {what}; it knows {', '.join(theirs)}, the clips {', '.join(ours)}.",
            hint="Map its classes in the recipe, for instance: teacher: {classes: {fighting: fight}}.",
        )
    return torch.tensor([[float(named[one] == wanted) for wanted in ours] for one in theirs])


def _mapped(logits: Tensor, columns: Tensor) -> Tensor:
    if torch.equal(columns, torch.eye(len(columns))):
        return logits
    probs = logits.softmax(dim=-1) @ columns + 1e-9
    return (probs / probs.sum(dim=-1, keepdim=True)).log()


def _from_file(
    folder: Path, mapping: Mapping[str, str], asked: Sequence[ClipRecord], classes: Sequence[str]
) -> TeacherSignals:
    said = read_labels(folder)
    row = {digest: index for index, digest in enumerate(said.sha256)}
    lacking = [one.file for one in asked if one.sha256 not in row]
    if lacking:
        raise InputError(
            f"{folder} has no label for {len(lacking)} of {len(asked)} clips, such as {lacking[0]}.",
            hint="Label these clips as well.",
        )
    columns = _columns(said.classes, classes, mapping, said.teacher)
    probs = said.member_probs("train")[:, [row[one.sha256] for one in asked]]
    members = torch.from_numpy(np.log(probs + 1e-6)).float()
    mean = torch.from_numpy(np.log(probs.mean(axis=0) + 1e-6)).float()
    return TeacherSignals(logits=_mapped(mean, columns), members=_mapped(members, columns))


__all__ = ["COMPONENTS", "LOCAL", "SHIPPED", "TrainingPart", "gather_signals", "reduced"]
