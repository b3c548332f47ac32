"""The torch steps of a refresh, as plain functions that a separate process calls by name.

`label_clips` is the "teach" step, `distil` the "distil" and "quantise" steps. Neither knows Ray, cameras or a registry.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from streamkd.bundle import Bundle, file_sha256, read_bundle
from streamkd.distill.bundles import BundleParts, lineage, load_student, write_bundle
from streamkd.distill.features import FeatureSet, augment, draw_variant, front_features
from streamkd.distill.labels import ClipLabels, MemberLabels, read_labels, write_labels
from streamkd.distill.objectives.response import response_kd
from streamkd.distill.train import FitConfig, clip_logits, fit
from streamkd.errors import InputError, TrainingError, UnsupportedMediaError
from streamkd.evaluate.calibrate import scored_frames
from streamkd.media.clips import decode_clip
from streamkd.models.teachers import feature_key, load_teacher, softmax_numpy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from streamkd.models.student import Student
    from streamkd.types import UInt8Array

MIN_CLIPS = 4
CALIBRATION_FRAMES = 100
REPLAY_PARENT = 0.3  # share of the loss that keeps the student near its parent


@dataclass(frozen=True, slots=True)
class DistilConfig:
    """How a student is refreshed."""

    temperature: float = 2.0
    teacher_share: float = 1.0 - REPLAY_PARENT
    variants: int = 2
    lr_trunk: float = 5e-5
    lr_head: float = 3e-4
    # The self-test must do harm, not merely little good: high rates, no pull towards the parent.
    poisoned_lr: float = 1.5e-3
    poisoned_epochs: int = 6


def label_clips(
    teacher_dir: Path, clips: Sequence[Path], out: Path, progress: Callable[[str, float], None], *, threads: int = 1
) -> None:
    """Let every member of a teacher label clips; writes `labels.json` into the folder `out`.

    A clip that can't be decoded is left out of the result.

    Args:
        teacher_dir: A teacher bundle.
        clips: Video files.
        out: Folder of the result (see `streamkd.distill.labels`).
        progress: Told what is being done and which share of it is done.
        threads: CPU threads.

    Raises:
        InputError: No clip could be decoded.
        BundleError: The teacher bundle is damaged.
    """
    torch.set_num_threads(threads)
    teacher = load_teacher(teacher_dir)
    keys = list(dict.fromkeys(feature_key(member) for member in teacher.spec.members))
    kept: list[Path] = []
    rows: dict[int, list[Tensor]] = {index: [] for index in range(len(keys))}
    for number, clip in enumerate(clips):
        try:
            found = [teacher.frame_features(decode_clip(clip, key.rate_hz, key.size).frames, key) for key in keys]
        except UnsupportedMediaError:
            found = []
        if found:
            kept.append(clip)
            for index, row in enumerate(found):
                rows[index].append(row)
        progress("labelling clips", (number + 1) / len(clips))
    if not kept:
        raise InputError(f"None of {len(clips)} clips can be decoded, so there is nothing to label.")
    answers = teacher.from_features({key: torch.stack(rows[index]) for index, key in enumerate(keys)})
    members = tuple(
        MemberLabels(
            name=member.name,
            group=member.group,
            probs=tuple(tuple(row) for row in softmax_numpy(answers.member_logits[member.name]).tolist()),
        )
        for member in teacher.spec.members
    )
    hashes = tuple(file_sha256(clip) for clip in kept)
    names = tuple(clip.name for clip in kept)
    write_labels(out, ClipLabels(teacher.spec.name, teacher.spec.classes, names, hashes, members))


def distil(
    parent_bundle: Path,
    clips: Sequence[Path],
    labels: Path,
    out_bundle: Path,
    *,
    version: str,
    seed: int,
    epochs: int,
    temperature: float | None = None,
    shuffle_labels: bool = False,
    progress: Callable[[str, float], None],
    threads: int = 1,
    config: DistilConfig | None = None,
) -> None:
    """Distil a new student from its parent and a teacher's soft labels, quantise it, write its bundle.

    Every frame after warm-up learns the clip's soft label from the teacher's "train" members by response distillation,
    and, with a smaller share, what the parent itself said, so that it does not forget.

    Args:
        parent_bundle: The live student.
        clips: Clips to learn from; those without a label or a decodable frame are left out.
        labels: Folder that `label_clips` wrote to.
        out_bundle: Folder of the new bundle.
        version: Name of the new bundle.
        seed: Of augmentation, order and dropout.
        epochs: Passes over the clips.
        temperature: Of the distillation loss, in place of the config's.
        shuffle_labels: The self-test of the gate: labels are handed to the wrong clips (the likeliest gets the least
            likely one's), and trained on hard. Such a candidate must be refused.
        progress: Told what is being done and which share of it is done.
        threads: CPU threads.
        config: Rates and weights.

    Raises:
        TrainingError: Fewer than four clips, or the loss is not a number any more.
        InputError: The labels can't be read or are about other classes.
    """
    torch.set_num_threads(threads)
    settings = config or DistilConfig()
    if temperature is not None:
        settings = replace(settings, temperature=temperature)
    parent = read_bundle(parent_bundle)
    said = read_labels(labels)
    chosen = _with_labels(clips, said)
    decoded = _decode(chosen, parent)
    if len(decoded) < MIN_CLIPS:
        raise TrainingError(
            f"Only {len(decoded)} of {len(clips)} clips have labels and frames; distillation needs {MIN_CLIPS}.",
            hint="Harvest more clips.",
        )
    student = load_student(parent)
    features = _features(student, decoded, settings.variants, seed, progress)
    teacher_logits = _teacher_logits(said, [clip.row for clip in decoded], parent)
    if shuffle_labels:
        teacher_logits = _to_wrong_clips(teacher_logits)
    warm = parent.spec.warmup_frames
    own = torch.stack([one[scored_frames(warm, len(one))].mean(dim=0) for one in clip_logits(student, features)])
    share = 1.0 if shuffle_labels else settings.teacher_share

    def objective(logits: Tensor, targets: Tensor) -> Tensor:
        to_teacher = response_kd(logits, targets[:, 0], settings.temperature)
        return share * to_teacher + (1.0 - share) * response_kd(logits, targets[:, 1], settings.temperature)

    rate = settings.poisoned_lr if shuffle_labels else None
    fit_config = FitConfig(
        epochs=max(epochs, settings.poisoned_epochs) if shuffle_labels else epochs,
        batch=4,
        head_only=False,
        decay_memory=0.05,
        decay_direct=0.05,
        lr_trunk=rate or settings.lr_trunk,
        lr_head=rate or settings.lr_head,
        ema=0.9,
        mixup=0.0,
    )
    targets = torch.stack([teacher_logits, own], dim=1)
    trained = fit(student, features, targets, objective, fit_config, seed=seed, progress=progress)
    progress("quantising", 0.0)
    parts = BundleParts(
        spec=parent.spec.model_copy(update={"version": version}),
        lineage=lineage(
            parent=parent.spec.version,
            teachers=(said.teacher,),
            recipe="shuffled labels (self-test)" if shuffle_labels else "response distillation",
            seed=seed,
            data_sha256=[*parent.lineage.data_sha256, *(clip.sha256 for clip in decoded)],
        ),
        metrics={"clips": len(decoded), "epochs": fit_config.epochs, "parent": parent.metrics},
    )
    write_bundle(out_bundle, trained, parts, [clip.plain for clip in decoded], samples=CALIBRATION_FRAMES)
    progress("quantising", 1.0)


@dataclass(frozen=True, slots=True)
class _Decoded:
    row: int  # in the labels
    sha256: str
    plain: UInt8Array  # [T, S, S, 3], as the live path sees it


def _with_labels(clips: Sequence[Path], said: ClipLabels) -> list[tuple[Path, int, str]]:
    rows = {digest: row for row, digest in enumerate(said.sha256)}
    hashed = [(clip, file_sha256(clip)) for clip in clips if clip.is_file()]
    return [(clip, rows[digest], digest) for clip, digest in hashed if digest in rows]


def _decode(chosen: Sequence[tuple[Path, int, str]], parent: Bundle) -> list[_Decoded]:
    decoded: list[_Decoded] = []
    for clip, row, digest in chosen:
        try:
            plain = decode_clip(clip, parent.spec.rate_hz, parent.spec.input_size).frames
        except UnsupportedMediaError:
            continue
        decoded.append(_Decoded(row, digest, plain))
    return decoded


def _features(
    student: Student, clips: Sequence[_Decoded], variants: int, seed: int, progress: Callable[[str, float], None]
) -> FeatureSet:
    plain: list[Tensor] = []
    augmented: list[list[Tensor]] = [[] for _ in range(variants)]
    for index, clip in enumerate(clips):
        rng = np.random.default_rng([seed, int(clip.sha256[:12], 16)])
        batches = [torch.from_numpy(clip.plain).permute(0, 3, 1, 2).float()]
        size = student.spec.input_size
        batches += [augment(clip.plain, draw_variant(rng), size, rng, oversample=1) for _ in range(variants)]
        parts = front_features(student, torch.cat(batches)).split_with_sizes([len(batch) for batch in batches])
        plain.append(parts[0].clone())
        for version, part in zip(augmented, parts[1:], strict=True):
            version.append(part.clone())
        progress("features", (index + 1) / len(clips))
    return FeatureSet(tuple(plain), tuple(tuple(version) for version in augmented))


def _teacher_logits(said: ClipLabels, rows: Sequence[int], parent: Bundle) -> Tensor:
    """`[N, C]` in the student's order of classes, scaled so that its calibrated answer is the teacher's probability."""
    if set(said.classes) != set(parent.spec.classes):
        known, wanted = ", ".join(said.classes), ", ".join(parent.spec.classes)
        raise InputError(
            f"Teacher {said.teacher} knows {known}; the student knows {wanted}.",
            hint="Use a teacher that was trained for the same classes.",
        )
    order = [said.classes.index(name) for name in parent.spec.classes]
    probs = said.probs("train")[np.asarray(rows)][:, order]
    return torch.from_numpy(np.log(probs + 1e-6)).float() * parent.spec.temperature


def _to_wrong_clips(logits: Tensor) -> Tensor:
    """The permutation that is wrong everywhere: ranks by the last class's margin are turned round."""
    order = torch.argsort(logits[:, -1] - logits[:, 0])
    wrong = torch.empty_like(logits)
    wrong[order] = logits[order.flip(0)]
    return wrong


__all__ = ["DistilConfig", "distil", "label_clips"]
