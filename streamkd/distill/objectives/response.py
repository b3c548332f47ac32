"""Response distillation: the student imitates what a teacher says.

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network" (2015).
"""

from __future__ import annotations

import torch
from torch import Tensor


def response_kd(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """`T^2 * KL(softmax(teacher / T) || softmax(student / T))`, per row.

    The factor keeps the gradient's size when T changes (section 2.1 of the paper).

    Args:
        student: `[M, C]` logits.
        teacher: `[M, C]` logits; of a soft label `p`, `log p` will do.
        temperature: T > 0.

    Returns:
        `[M]`, each at least 0.
    """
    log_student = torch.log_softmax(student / temperature, dim=-1)
    log_teacher = torch.log_softmax(teacher / temperature, dim=-1)
    return temperature**2 * (log_teacher.exp() * (log_teacher - log_student)).sum(dim=-1)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """`-sum_c target_c log softmax(logits)_c`, per row: `[M, C]` and `[M, C]` to `[M]`."""
    return -(targets * torch.log_softmax(logits, dim=-1)).sum(dim=-1)


def blended_kd(student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    """`alpha * response_kd + (1 - alpha) * cross entropy`, per row (equation 1 of most reports on KD).

    Args:
        student: `[M, C]` logits.
        teacher: `[M, C]` logits.
        labels: `[M, C]` one-hot or smoothed.
        temperature: T of the first term.
        alpha: Share of the first term, 0..1.
    """
    return alpha * response_kd(student, teacher, temperature) + (1.0 - alpha) * soft_cross_entropy(student, labels)


__all__ = ["blended_kd", "response_kd", "soft_cross_entropy"]
