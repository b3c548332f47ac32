"""The student's reading of motion, begun as a teacher's.

Both sum the flow of a clip up in the same twenty numbers (`streamkd/models/motion.py`). The teacher's flow is the
better one: dense, refined in several steps, of more frames, in its own window. So what small networks learn from those
numbers carries further than what the student learns from its own, coarser ones; and the weights fit, once both are
standardised over the same clips.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from streamkd.distill.features import FeatureSet
from streamkd.distill.objectives.initialise import change_units
from streamkd.distill.train import raw_features
from streamkd.errors import TrainingError

if TYPE_CHECKING:
    from streamkd.models.student import Student
    from streamkd.models.teachers.heads import HiddenHead

_ADDED_DEVIATION = 1e-3
_LEAST_DEVIATION = 0.1  # of what varies by 1 from frame to frame


@torch.no_grad()
def inherit_motion(student: Student, features: FeatureSet, head: HiddenHead | None) -> None:
    """Write the first of the head's networks into the student's reading of motion; forecasts begin as what is now.

    Args:
        student: Changed in place; its standardiser is set.
        features: Of the clips that the head was fitted on, or such as these: what the student's head sees, or maps.
        head: Of the member over motion.

    Raises:
        TrainingError: There is none, or it reads other numbers or knows other classes.
    """
    if head is None:
        raise TrainingError(
            "init.motion: this teacher has no reading of motion that may be handed over.",
            hint="Let the recipe's teacher be local, with motion among teacher.members; or name one with that member "
            "that was trained on none of these clips and has the same classes in the same order.",
        )
    first, last = _layers(student)
    classes = len(student.spec.classes)
    have, want = (*head.hidden_weight.shape[1:], len(head.bias[0])), (*first.weight.shape, classes)
    if have != want:
        raise TrainingError(
            f"init.motion: the teacher reads {have[1]} numbers with {have[0]} units for {have[2]} classes, the student "
            f"{want[1]} with {want[0]} for {want[2]}.",
            hint="Train the teacher with this version, on clips of the same classes.",
        )
    means = motion_means(student, features)
    # As the head's own; but numbers in which the clips hardly differ must not become loud, for nothing would mend that.
    deviation = (means.std(dim=0) + _ADDED_DEVIATION).clamp(min=_LEAST_DEVIATION)
    weight, bias = change_units(head.hidden_weight[0], head.hidden_bias[0], means.mean(dim=0), deviation)
    first.weight.copy_(weight)
    first.bias.copy_(bias)
    outputs = len(last.bias) // classes  # what is now, and what is later
    last.weight.copy_(head.weight[0].repeat(outputs, 1))
    last.bias.copy_(head.bias[0].repeat(outputs))


def _layers(student: Student) -> tuple[nn.Linear, nn.Linear]:
    if student.motion is None:
        raise TrainingError("init.motion: this student measures no motion.", hint="Begin with a new one.")
    first, last = (layer for layer in student.moving if isinstance(layer, nn.Linear))
    return first, last


def motion_means(student: Student, features: FeatureSet) -> torch.Tensor:
    """Of each clip, the mean over its frames of what the reading of motion is shown: `[N, 20]`.

    The first frame has no flow and does not count.

    Args:
        student: Its standardiser is set.
        features: What its head sees, or maps.
    """
    if features.plain[0].dim() != 2:
        features = raw_features(student, FeatureSet(features.plain, ()), lambda _what, _share: None)
    shown = [student.standardise((one[1:] if len(one) > 1 else one).float()) for one in features.plain]
    return torch.stack([one[:, student.changes :].mean(dim=0) for one in shown])


__all__ = ["inherit_motion", "motion_means"]
