"""What a step of distillation knows: the teacher's side for every clip, and both sides for the frames at hand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streamkd.models.teachers.heads import HiddenHead


@dataclass(frozen=True, slots=True)
class TeacherSignals:
    """What teachers say about N clips; every part may be missing.

    Attributes:
        logits: `[N, C]` of the teacher as a whole.
        members: `[K, N, C]` of its members; used in place of `logits` where the recipe combines them otherwise.
        features: `[N, F]`, what the teacher sees in a clip.
        modalities: Name (`flow`, `audio`, ...) to `[N, F_j]`; a row of NaN where a clip lacks it.
        frame_logits: Per clip `[T, C]`, the teacher's answer frame by frame.
        frame_features: Per clip `[T, F']`.
        motion: What a member reads from the flow of a clip; learnt on no clip that the student is measured on.
    """

    logits: Tensor | None = None
    members: Tensor | None = None
    features: Tensor | None = None
    modalities: Mapping[str, Tensor] = field(default_factory=dict)
    frame_logits: tuple[Tensor, ...] | None = None
    frame_features: tuple[Tensor, ...] | None = None
    motion: HiddenHead | None = None

    def subset(self, indices: list[int]) -> TeacherSignals:
        """The same for some clips, in this order."""
        at = torch.tensor(indices, dtype=torch.int64)
        return replace(
            self,
            logits=None if self.logits is None else self.logits[at],
            members=None if self.members is None else self.members[:, at],
            features=None if self.features is None else self.features[at],
            modalities={name: value[at] for name, value in self.modalities.items()},
            frame_logits=None if self.frame_logits is None else tuple(self.frame_logits[i] for i in indices),
            frame_features=None if self.frame_features is None else tuple(self.frame_features[i] for i in indices),
        )


@dataclass(frozen=True, slots=True)
class Sizes:
    """Widths that adaptors are built for; 0 where there is no such signal."""

    classes: int
    hidden: int
    teacher_features: int = 0
    frame_features: int = 0
    modalities: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Signals:
    """One batch of M frames, both sides. What a recipe's teacher doesn't give is None.

    Attributes:
        logits: `[M, C]` of the student.
        hidden: `[M, H]`, the student's last features.
        clip: `[M]` int64, index of the clip.
        stretch: `[M]` int64, equal for frames of one clip within one stream, in order.
        labels: `[M]` int64, -1 where nobody has labelled the clip.
        targets: `[M, C]`, one-hot and softened; zeros where there is no label.
        row: `[M]` int64, where the frames stand among all of the batch.
        again: Gives the logits `[B * T, C]` of another input of the batch's shape.
        front: The batch's input `[B, T, ...]`.
        spread: Deviation of the input's elements, for noise and attacks.
        temperature: T of this step.
        done: Share of the training that is done.
        teacher: `[M, C]` logits.
        teacher_features: `[M, F]`.
        frame_features: `[M, F']`.
        modalities: Name to `[M, F_j]`.
        guide: `[M, C]` logits of the averaged student on the clean input.
    """

    logits: Tensor
    hidden: Tensor
    clip: Tensor
    stretch: Tensor
    labels: Tensor
    targets: Tensor
    row: Tensor
    again: Callable[[Tensor], Tensor]
    front: Tensor
    spread: Tensor
    temperature: float = 1.0
    done: float = 0.0
    teacher: Tensor | None = None
    teacher_features: Tensor | None = None
    frame_features: Tensor | None = None
    modalities: Mapping[str, Tensor] = field(default_factory=dict)
    guide: Tensor | None = None

    def at(self, temperature: float) -> Signals:
        """The same at another temperature."""
        return replace(self, temperature=temperature)

    def where(self, mask: Tensor) -> Signals:
        """Only the frames of a mask `[M]`."""
        if bool(mask.all()):
            return self

        def cut(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[mask]

        return replace(
            self,
            logits=self.logits[mask],
            hidden=self.hidden[mask],
            clip=self.clip[mask],
            stretch=self.stretch[mask],
            labels=self.labels[mask],
            targets=self.targets[mask],
            row=self.row[mask],
            teacher=cut(self.teacher),
            teacher_features=cut(self.teacher_features),
            frame_features=cut(self.frame_features),
            modalities={name: value[mask] for name, value in self.modalities.items()},
            guide=cut(self.guide),
        )

    def by_stretch(self, value: Tensor) -> Tensor:
        """Means over the frames of each stretch: `[M, D]` to `[S, D]`."""
        _, index = torch.unique(self.stretch, return_inverse=True)
        count = int(index.max()) + 1 if len(index) else 0
        total = value.new_zeros(count, value.shape[-1]).index_add(0, index, value)
        return total / torch.bincount(index, minlength=count).to(value.dtype)[:, None]


__all__ = ["Signals", "Sizes", "TeacherSignals"]
