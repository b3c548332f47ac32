"""What a recipe teaches, clip by clip, made once before training: labels, combined teachers, assistants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from streamkd.distill.objectives.adaptive import conditional_targets
from streamkd.distill.objectives.few_shot import pick_shots
from streamkd.distill.objectives.multi_teacher import (
    confidence_weights,
    ensemble_logits,
    entropy_weights,
    learn_weights,
)
from streamkd.distill.objectives.progressive import Assistant, progressive_targets
from streamkd.distill.objectives.response import response_kd
from streamkd.distill.signals import Sizes, TeacherSignals
from streamkd.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamkd.distill.features import FeatureSet
    from streamkd.distill.recipe import Progressive, Recipe, TeacherOptions


@dataclass(frozen=True, slots=True)
class Lesson:
    """Per clip, ready to be looked up.

    Attributes:
        labels: `[N]` int64, -1 where there is none.
        targets: `[N, C]` softened one-hot; zeros where there is no label.
        chain: `[K, N, C]` logits, from the nearest assistant to the teacher; None without a teacher.
        teacher: The rest of what the teacher gives.
    """

    labels: Tensor
    targets: Tensor
    chain: Tensor | None
    teacher: TeacherSignals

    def said(self, done: float) -> Tensor | None:
        """The teacher's logits `[N, C]` at one moment of the training."""
        return None if self.chain is None else progressive_targets(self.chain, done)

    def sizes(self, hidden: int) -> Sizes:
        """Widths for the adaptors."""
        teacher = self.teacher
        return Sizes(
            classes=self.targets.shape[-1],
            hidden=hidden,
            teacher_features=0 if teacher.features is None else teacher.features.shape[-1],
            frame_features=0 if teacher.frame_features is None else teacher.frame_features[0].shape[-1],
            modalities={name: value.shape[-1] for name, value in teacher.modalities.items()},
        )

    @property
    def given(self) -> frozenset[str]:
        """Which signals there are."""
        there = {
            "teacher": self.chain is not None or self.teacher.frame_logits is not None,
            "teacher_features": self.teacher.features is not None,
            "frame_features": self.teacher.frame_features is not None,
            "modalities": bool(self.teacher.modalities),
        }
        return frozenset(name for name, here in there.items() if here)


def prepare_lesson(
    recipe: Recipe,
    features: FeatureSet,
    labels: Sequence[int],
    teacher: TeacherSignals | None,
    *,
    classes: int,
    seed: int,
    names: Sequence[str] = (),
) -> Lesson:
    """Combine the teachers, keep as many labels as the recipe allows, train its assistants.

    Args:
        recipe: What to do.
        features: What the head sees of the N clips.
        labels: Class index per clip, -1 for a clip that nobody has labelled.
        teacher: Its answers, or None.
        classes: C.
        seed: Of the choice of shots and the assistants.
        names: Of the clips, for messages.

    Raises:
        TrainingError: The teacher's answers don't fit the clips, or are no numbers.
    """
    teacher = teacher or TeacherSignals()
    kept = list(labels)
    if recipe.shots is not None:
        shots = set(pick_shots(kept, recipe.shots, torch.Generator().manual_seed(seed)))
        kept = [label if index in shots else -1 for index, label in enumerate(kept)]
    label = torch.tensor(kept, dtype=torch.int64)
    hard = F.one_hot(label.clamp(min=0), classes).float()
    smoothing = recipe.train.smoothing
    targets = (hard * (1.0 - smoothing) + smoothing / classes) * (label >= 0)[:, None]
    said = combine(teacher, label, recipe.teacher)
    if said is not None:
        _check(said, len(label), classes, names)
        if recipe.teacher.conditional:
            believed = (conditional_targets(said, label.clamp(min=0), smoothing) + 1e-6).log()
            said = torch.where((label >= 0)[:, None], believed, said)
    chain = None if said is None else said[None]
    if chain is not None and recipe.progressive is not None:
        chain = torch.cat([_assistants(features, chain[0], recipe.progressive, seed), chain])
    return Lesson(label, targets, chain, _standardised(teacher))


def combine(teacher: TeacherSignals, labels: Tensor, options: TeacherOptions) -> Tensor | None:
    """Logits `[N, C]` of all teachers together; what nobody has labelled counts the members alike or by entropy."""
    members = teacher.members
    if members is None or (options.combine == "mean" and teacher.logits is not None):
        return teacher.logits
    count = len(members)
    labelled = labels >= 0
    weights = members.new_full((count, len(labels)), 1.0 / count)
    if options.combine == "entropy":
        weights = entropy_weights(members)
    elif options.combine == "learnt" and bool(labelled.any()):
        weights = learn_weights(members[:, labelled], labels[labelled])
    elif options.combine == "confidence":
        weights = torch.where(labelled, confidence_weights(members, labels.clamp(min=0)), weights)
    return ensemble_logits(members, weights)


def _standardised(teacher: TeacherSignals) -> TeacherSignals:
    """Features with mean 0 and deviation 1 per column, so that an objective's weight means the same for any teacher."""
    frames = teacher.frame_features
    return TeacherSignals(
        features=None if teacher.features is None else _standard(teacher.features),
        modalities={name: _standard(value) for name, value in teacher.modalities.items()},
        frame_logits=teacher.frame_logits,
        frame_features=None if frames is None else tuple(one.float() for one in frames),
    )


def _standard(features: Tensor) -> Tensor:
    features = features.float()
    present = features[torch.isfinite(features).all(dim=-1)]
    if not len(present):
        return features
    return ((features - present.mean(dim=0)) / (present.std(dim=0, correction=0) + 1e-3)).clamp(-8, 8)


def _check(said: Tensor, clips: int, classes: int, names: Sequence[str]) -> None:
    if said.shape != (clips, classes):
        raise TrainingError(
            f"The teacher answers {said.shape[0]} clips and {said.shape[1]} classes; there are {clips} and {classes}.",
            hint="Label these clips with a teacher of these classes, or map its classes in the recipe.",
        )
    bad = (~torch.isfinite(said).all(dim=-1)).nonzero()[:, 0].tolist()
    if bad:
        which = ", ".join(names[i] if names else f"number {i}" for i in bad[:3])
        raise TrainingError(
            f"The teacher's answer to {len(bad)} clip(s) is not a number: {which}.", hint="Label them again."
        )


def _assistants(features: FeatureSet, teacher: Tensor, options: Progressive, seed: int) -> Tensor:
    """Logits `[K, N, C]` of assistants, the smallest first; each learns from the one before it."""
    clips = torch.stack([torch.cat([x.float().mean(dim=0), x.float().amax(dim=0)]) for x in map(_flat, features.plain)])
    clips = _standard(clips)
    chain: list[Tensor] = []
    target = teacher
    for number, width in enumerate(options.widths):
        torch.manual_seed(seed + number)
        assistant = Assistant(clips.shape[-1], width, teacher.shape[-1])
        optimizer = torch.optim.AdamW(assistant.parameters(), lr=1e-3, weight_decay=1.0)
        for _ in range(options.epochs):
            optimizer.zero_grad(set_to_none=True)
            loss = response_kd(assistant(clips), target, options.temperature).mean()
            torch.autograd.backward(loss)
            optimizer.step()
        with torch.no_grad():
            target = assistant.eval()(clips)
        chain.insert(0, target)
    return torch.stack(chain)


def _flat(clip: Tensor) -> Tensor:
    """`[T, F]` of head features or `[T, C, h, w]` of maps, whose mean is taken."""
    return clip if clip.dim() == 2 else clip.float().mean(dim=(2, 3))


__all__ = ["Lesson", "combine", "prepare_lesson"]
