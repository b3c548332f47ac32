"""Decoupled distillation: the true class against the rest, and the rest among themselves, weighted apart.

Zhao, Cui, Song, Qiu, Liang, "Decoupled Knowledge Distillation" (CVPR 2022), equation 7.
"""

from __future__ import annotations

import torch
from torch import Tensor


def decoupled_kd(
    student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float, alpha: float = 1.0, beta: float = 8.0
) -> Tensor:
    """`T^2 (alpha * TCKD + beta * NCKD)`, per row; with two classes NCKD is 0, there is one "other" class.

    TCKD is the divergence between (p_label, 1 - p_label) of teacher and student, NCKD the divergence between their
    distributions over the other classes. `alpha = 1, beta = 1 - p_label` of the teacher would be plain distillation.

    Args:
        student: `[M, C]` logits.
        teacher: `[M, C]` logits.
        labels: `[M]` int64, the true class.
        temperature: T > 0.
        alpha: Weight of the true class's part.
        beta: Weight of the other classes' part.

    Returns:
        `[M]`, each at least 0.
    """
    true = torch.nn.functional.one_hot(labels, student.shape[-1]).bool()
    target = _divergence(_split(teacher / temperature, true), _split(student / temperature, true))
    other_teacher, other_student = (_others(logits / temperature, true) for logits in (teacher, student))
    others = _divergence(torch.log_softmax(other_teacher, dim=-1), torch.log_softmax(other_student, dim=-1))
    return temperature**2 * (alpha * target + beta * others)


def _split(logits: Tensor, true: Tensor) -> Tensor:
    """Log-probabilities `[M, 2]` of the true class and of all others together."""
    inside = logits[true].unsqueeze(-1)
    outside = torch.logsumexp(_others(logits, true), dim=-1, keepdim=True)
    return torch.log_softmax(torch.cat([inside, outside], dim=-1), dim=-1)


def _others(logits: Tensor, true: Tensor) -> Tensor:
    return logits[~true].reshape(len(logits), -1)


def _divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL over the last axis, from log-probabilities."""
    return (teacher.exp() * (teacher - student)).sum(dim=-1)


__all__ = ["decoupled_kd"]
