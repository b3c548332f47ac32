"""Adaptive weighting: how far the teacher is believed, clip by clip and as training goes on.

Confidence: entropy as a measure of how sure the teacher is, as in Kwon et al. (ICASSP 2020). Agreement with the
label: Meng et al., "Conditional Teacher-Student Learning" (ICASSP 2019). Annealing: Jafari et al., "Annealing
Knowledge Distillation" (EACL 2021).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def confidence(teacher: Tensor) -> Tensor:
    """`1 - entropy / ln C`, per row: 0 for a uniform answer, 1 for a certain one; `[M, C]` logits to `[M]`."""
    log_p = torch.log_softmax(teacher, dim=-1)
    return 1.0 + (log_p.exp() * log_p).sum(dim=-1) / math.log(teacher.shape[-1])


def agreement(teacher: Tensor, labels: Tensor) -> Tensor:
    """The teacher's probability of the true class: `[M, C]` logits and `[M]` int64 to `[M]`."""
    return torch.softmax(teacher, dim=-1)[torch.arange(len(labels)), labels]


def conditional_targets(teacher: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """The teacher's probabilities where its first choice is right, else the label: `[M, C]`.

    Args:
        teacher: `[M, C]` logits.
        labels: `[M]` int64.
        smoothing: Of the label: a hard one, compared at a temperature, would outweigh all that the teacher says.
    """
    right = teacher.argmax(dim=-1) == labels
    one_hot = torch.nn.functional.one_hot(labels, teacher.shape[-1]).to(teacher.dtype)
    label = one_hot * (1.0 - smoothing) + smoothing / teacher.shape[-1]
    return torch.where(right[:, None], torch.softmax(teacher, dim=-1), label)


def annealed_match(student: Tensor, teacher: Tensor, done: float, *, steps: int = 10) -> Tensor:
    """`|| z_S - phi z_T ||^2`, per row, while `phi = 1 - (T - 1) / steps` and T falls from `steps` to 1.

    Args:
        student: `[M, C]` logits.
        teacher: `[M, C]` logits.
        done: Share of the annealing that is done, 0..1.
        steps: The highest temperature, as many steps as the target takes to reach its full size.

    Returns:
        `[M]`.
    """
    temperature = max(1, steps - int(min(max(done, 0.0), 1.0) * steps))
    factor = 1.0 - (temperature - 1) / steps
    return (student - factor * teacher).square().sum(dim=-1)


__all__ = ["agreement", "annealed_match", "conditional_targets", "confidence"]
