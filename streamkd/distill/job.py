"""The torch steps of a refresh, as plain functions that a separate process calls by name.

`label_clips` is the "teach" step, `distil` the "distil" and "quantise" steps. Neither knows Ray, cameras or a registry.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
import structlog
import torch
from torch import Tensor

from streamkd.bundle import Bundle, file_sha256, read_bundle
from streamkd.distill.bundles import BundleParts, lineage, load_student, write_bundle
from streamkd.distill.features import FeatureSet, augment, draw_variant, front_features
from streamkd.distill.label_cache import cached_labels
from streamkd.distill.labels import ClipLabels, MemberLabels, read_labels, write_labels
from streamkd.distill.objectives.response import response_kd
from streamkd.distill.train import FitConfig, clip_logits, fit, raw_features
from streamkd.engine.gaze import gaze_clip
from streamkd.errors import InputError, TrainingError, UnsupportedMediaError
from streamkd.evaluate.calibrate import scored_frames
from streamkd.evaluate.dataset import default_cache
from streamkd.media.clips import decode_clip
from streamkd.models.teachers import TeacherClip, open_teacher, softmax_numpy
from streamkd.models.teachers.cache import TensorCache

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from streamkd.distill.label_cache import CachedLabels
    from streamkd.models.student import Student
    from streamkd.models.teachers import Teacher
    from streamkd.types import UInt8Array

_log = structlog.get_logger(__name__)

MIN_CLIPS = 4
CALIBRATION_FRAMES = 300


@dataclass(frozen=True, slots=True)
class DistilConfig:
    """How a student is refreshed."""

    temperature: float = 2.0
    variants: int = 2
    # The trunk stays as it is: it knows more than a site's few clips can teach, and the candidate differs from its
    # parent in what it makes of the features, not in how they round in int8.
    head_only: bool = True
    lr_trunk: float = 5e-5
    lr_head: float = 3e-4
    # The weights of the candidate lie between the parent's (1) and the trained ones (0): "Robust fine-tuning of
    # zero-shot models" (Wortsman et al., CVPR 2022) keeps most of what is learnt on the new footage at one half, and
    # most of what was known elsewhere; a parent that is wrong needs 0 to be healed.
    parent_weight: float = 0.0
    # The self-test must do harm, not merely little good: high rates, no pull towards the parent.
    poisoned_lr: float = 1.5e-3
    poisoned_epochs: int = 6


def label_clips(
    teacher_dir: Path,
    clips: Sequence[Path],
    out: Path,
    progress: Callable[[str, float], None],
    *,
    threads: int = 1,
    cache: Path | None = None,
) -> None:
    """Let every member of a teacher label clips; writes `labels.json` into the folder `out`.

    A clip that can't be decoded is left out of the result. What was labelled before is taken from the cache, so an
    interrupted run goes on where it was.

    Args:
        teacher_dir: A teacher bundle, or the declaration of a model made elsewhere.
        clips: Video files.
        out: Folder of the result (see `streamkd.distill.labels`).
        progress: Told what is being done and which share of it is done.
        threads: CPU threads.
        cache: Where answers are kept, shared by all runs; below the user's cache folder unless given.

    Raises:
        InputError: No clip could be decoded.
        BundleError: The teacher bundle is damaged.
        UnavailableError: The labels can't be written.
    """
    torch.set_num_threads(threads)
    teacher = open_teacher(teacher_dir, threads=threads)
    kept = TensorCache(cache or default_cache() / "labels")
    kept.prune()
    there = [TeacherClip.of(clip) for clip in clips if clip.is_file()]

    def warn(line: str) -> None:
        _log.warning("label_cache_unwritable", detail=line)

    found = cached_labels(teacher, there, kept, progress=progress, warn=warn)
    if not found.clips:
        raise InputError(f"None of {len(clips)} clips can be decoded, so there is nothing to label.")
    write_labels(out, as_clip_labels(teacher, found))


def as_clip_labels(teacher: Teacher, found: CachedLabels) -> ClipLabels:
    """The part of a teacher's answers that goes into `labels.json`."""
    members = tuple(
        MemberLabels(
            name=member.name,
            group=member.group,
            probs=tuple(tuple(row) for row in softmax_numpy(found.output.member_logits[member.name]).tolist()),
            weight=member.weight,
        )
        for member in teacher.members
    )
    names = tuple(clip.path.name for clip in found.clips)
    return ClipLabels(teacher.name, teacher.classes, names, tuple(clip.sha256 for clip in found.clips), members)


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
    replay: Sequence[Path] = (),
    progress: Callable[[str, float], None],
    threads: int = 1,
    config: DistilConfig | None = None,
) -> None:
    """Distil a new student from its parent and a teacher's soft labels, quantise it, write its bundle.

    Every frame after warm-up learns a soft label of its clip by response distillation: between what the parent itself
    said and what the teacher's "train" members say, the nearer to these the more they differ from the parent compared
    with how much they differ among themselves (`trusted_targets`). What the teacher does not know better stays.

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
        replay: Clips of other places, without labels: on these the student goes on saying what its parent says
            ("Learning without Forgetting", Li and Hoiem, ECCV 2016). Not used by the self-test.
        progress: Told what is being done and which share of it is done.
        threads: CPU threads.
        config: Rates and weights.

    Raises:
        TrainingError: Fewer than four clips, or the loss is not a number any more.
        InputError: The labels can't be read or are about other classes.
    """
    torch.set_num_threads(threads)
    settings = _settings(config, temperature)
    parent, said = read_bundle(parent_bundle), read_labels(labels)
    site = _site(clips, said, parent)
    rehearsed = [] if shuffle_labels else _decode([(clip, -1, file_sha256(clip)) for clip in replay], parent)
    student = load_student(parent)
    features = _features(student, [*site, *rehearsed], settings.variants, seed, progress)
    targets = _targets(clip_logits(student, features), site, said, parent, poisoned=shuffle_labels)
    recipe = _recipe(settings, epochs, poisoned=shuffle_labels)
    trained = _trained(student, features, targets, recipe, settings, seed=seed, progress=progress).state_dict()
    if not shuffle_labels:  # the self-test must do harm
        trained = interpolate(trained, load_student(parent).state_dict(), settings.parent_weight)
    student.load_state_dict(trained)
    parts = _parts(parent, said, site, version=version, seed=seed, epochs=recipe.epochs, poisoned=shuffle_labels)
    progress("quantising", 0.0)
    write_bundle(out_bundle, student, parts, _shown(site, rehearsed), samples=CALIBRATION_FRAMES)
    progress("quantising", 1.0)


def _settings(config: DistilConfig | None, temperature: float | None) -> DistilConfig:
    settings = config or DistilConfig()
    return settings if temperature is None else replace(settings, temperature=temperature)


def _parts(
    parent: Bundle, said: ClipLabels, site: Sequence[_Decoded], *, version: str, seed: int, epochs: int, poisoned: bool
) -> BundleParts:
    """What the new bundle says of itself."""
    made = lineage(
        parent=parent.spec.version,
        teachers=(said.teacher,),
        recipe="shuffled labels (self-test)" if poisoned else "response distillation",
        seed=seed,
        data_sha256=[*parent.lineage.data_sha256, *(clip.sha256 for clip in site)],
    )
    metrics = {"clips": len(site), "epochs": epochs, "parent": parent.metrics}
    return BundleParts(parent.spec.model_copy(update={"version": version}), made, metrics)


def _shown(site: Sequence[_Decoded], rehearsed: Sequence[_Decoded]) -> list[UInt8Array]:
    """What int8 takes its ranges from: here and elsewhere, because those of dark footage would cut a bright day off."""
    return [clip.plain for pair in zip_longest(site, rehearsed) for clip in pair if clip is not None]


def _site(clips: Sequence[Path], said: ClipLabels, parent: Bundle) -> list[_Decoded]:
    """The clips that have a label and can be decoded.

    Raises:
        TrainingError: They are too few to learn from.
    """
    site = _decode(_with_labels(clips, said), parent)
    if len(site) < MIN_CLIPS:
        raise TrainingError(
            f"Only {len(site)} of {len(clips)} clips have labels and frames; distillation needs {MIN_CLIPS}.",
            hint="Harvest more clips.",
        )
    return site


def _targets(
    answers: Sequence[Tensor], site: Sequence[_Decoded], said: ClipLabels, parent: Bundle, *, poisoned: bool
) -> Tensor:
    """What each clip shall be answered with: `[N, C]`, the site's clips first, then those that are rehearsed.

    Args:
        answers: Logits `[T, C]` of the parent for every clip, in the same order.
        site: The clips with labels.
        said: The labels.
        parent: The live student's bundle.
        poisoned: Hand the labels to the wrong clips.
    """
    warm = parent.spec.warmup_frames
    own = torch.stack([one[scored_frames(warm, len(one))].mean(dim=0) for one in answers])
    here, elsewhere = own.split_with_sizes([len(site), len(own) - len(site)])
    members = _member_logits(said, [clip.row for clip in site], parent)
    weights = torch.tensor([member.weight for member in said.members if member.group == "train"])
    lesson = _to_wrong_clips(members.mean(dim=0)) if poisoned else trusted_targets(members, here, weights)
    return torch.cat([lesson, elsewhere])


def _recipe(settings: DistilConfig, epochs: int, *, poisoned: bool) -> FitConfig:
    rate = settings.poisoned_lr if poisoned else None
    return FitConfig(
        epochs=max(epochs, settings.poisoned_epochs) if poisoned else epochs,
        batch=4,
        head_only=settings.head_only and not poisoned,
        decay_memory=0.05,
        decay_direct=0.05,
        decay_moving=0.05,
        lr_trunk=rate or settings.lr_trunk,
        lr_head=rate or settings.lr_head,
        ema=0.9,
        mixup=0.0,
    )


def _trained(
    student: Student,
    features: FeatureSet,
    targets: Tensor,
    recipe: FitConfig,
    settings: DistilConfig,
    *,
    seed: int,
    progress: Callable[[str, float], None],
) -> Student:
    """The student, taught to answer with `targets` `[N, C]`."""

    def objective(logits: Tensor, wanted: Tensor) -> Tensor:
        return response_kd(logits, wanted, settings.temperature)

    seen = raw_features(student, features, progress) if recipe.head_only else features
    return fit(student, seen, targets, objective, recipe, seed=seed, progress=progress)


def interpolate(trained: Mapping[str, Tensor], parent: Mapping[str, Tensor], parent_weight: float) -> dict[str, Tensor]:
    """Tensors between two students of one architecture: `parent_weight` of the parent, the rest of the trained one."""
    return {
        name: torch.lerp(value, parent[name], parent_weight) if value.is_floating_point() else value
        for name, value in trained.items()
    }


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
            spec = parent.spec
            views = decode_clip(clip, spec.rate_hz, spec.view_size, keep_aspect=spec.keeps_aspect).frames
            plain = gaze_clip(views, spec)
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


def trusted_targets(members: Tensor, own: Tensor, weights: Tensor | None = None) -> Tensor:
    """What to teach: the parent's answer, moved towards the teacher's as far as the teacher can be trusted.

    Per clip `own + w (teacher - own)` with `w = d² / (d² + s²)`: `d²` is the squared distance of the members' mean from
    the parent, `s²` the members' variance pooled over the clips. That is the shrinkage of an observation with noise
    `s²` towards a prior guess (the positive-part estimators of Efron and Morris, JASA 1973, shrink like this): where
    student and teacher differ by no more than two teachers do, there is little to learn but noise.

    Args:
        members: Logits `[M, N, C]` of M ≥ 1 teacher members; of one alone, nothing is known of its noise: w = 1.
        weights: `[M]`, shares in the mean and in the variance (unbiased for weights that are known); all alike unless
            given.
        own: Logits `[N, C]` of the parent.

    Returns:
        Logits `[N, C]`, centred over the classes.
    """
    members = members - members.mean(dim=-1, keepdim=True)  # a shift common to all classes says nothing
    own = own - own.mean(dim=-1, keepdim=True)
    share = torch.ones(len(members)) if weights is None or not weights.sum() > 0 else weights
    share = (share / share.sum())[:, None, None]
    mean = (share * members).sum(dim=0)
    apart = mean - own
    freedom = 1.0 - float(share.square().sum())  # (M - 1) / M where all weigh the same
    noise = (share * (members - mean).square()).sum(dim=0).mean() / freedom if freedom > 1e-6 else mean.new_zeros(())
    distance = apart.square().mean(dim=-1, keepdim=True)
    return own + distance / (distance + noise + 1e-12) * apart


def _member_logits(said: ClipLabels, rows: Sequence[int], parent: Bundle) -> Tensor:
    """`[M, N, C]` of the "train" members, in the student's order of classes.

    Scaled so that the student's calibrated answer to such logits is the member's probability.
    """
    if set(said.classes) != set(parent.spec.classes):
        known, wanted = ", ".join(said.classes), ", ".join(parent.spec.classes)
        raise InputError(
            f"Teacher {said.teacher} knows {known}; the student knows {wanted}.",
            hint="Use a teacher that was trained for the same classes.",
        )
    order = [said.classes.index(name) for name in parent.spec.classes]
    probs = said.member_probs("train")[:, rows][..., order]
    return torch.from_numpy(np.log(probs + 1e-6)).float() * parent.spec.temperature


def _to_wrong_clips(logits: Tensor) -> Tensor:
    """The permutation that is wrong everywhere: ranks by the last class's margin are turned round."""
    order = torch.argsort(logits[:, -1] - logits[:, 0])
    wrong = torch.empty_like(logits)
    wrong[order] = logits[order.flip(0)]
    return wrong


__all__ = ["DistilConfig", "as_clip_labels", "distil", "label_clips"]
