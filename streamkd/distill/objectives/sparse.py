"""Sparse labels: only the k likeliest classes of the teacher are kept.

Top-k distillation: Tan et al., "Multilingual NMT with Knowledge Distillation" (ICLR 2019); without the mass of the
rest the student becomes too sure of itself, so it is kept as one more class (Anshumann et al., "Sparse Logit
Sampling", ACL 2025, discuss both).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TINY = 1e-12


def to_topk(teacher: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`[M, C]` logits to the log-probabilities and indices of the k likeliest classes, `[M, k]` each."""
    values, indices = torch.log_softmax(teacher, dim=-1).topk(min(k, teacher.shape[-1]), dim=-1)
    return values, indices


def topk_kd(student: Tensor, values: Tensor, indices: Tensor) -> Tensor:
    """`KL(teacher || student)` over the kept classes and the rest together, per row; with k = C, response KD at T = 1.

    Args:
        student: `[M, C]` logits.
        values: `[M, k]` log-probabilities of the teacher.
        indices: `[M, k]` int64.

    Returns:
        `[M]`, each at least 0.
    """
    log_student = torch.log_softmax(student, dim=-1).gather(-1, indices)
    kept = (values.exp() * (values - log_student)).sum(dim=-1)
    if indices.shape[-1] == student.shape[-1]:
        return kept
    rest_teacher, rest_student = ((1.0 - x.exp().sum(dim=-1)).clamp(min=TINY) for x in (values, log_student))
    return kept + rest_teacher * (rest_teacher.log() - rest_student.log())


def densify(values: Tensor, indices: Tensor, classes: int) -> Tensor:
    """Log-probabilities `[M, C]` again, what is missing spread evenly: for losses that want every class."""
    left = classes - indices.shape[-1]
    rest = (1.0 - values.exp().sum(dim=-1, keepdim=True)).clamp(min=TINY)
    dense = (rest.log() - math.log(max(left, 1))).expand(-1, classes)
    return dense.scatter(-1, indices, values)


__all__ = ["densify", "to_topk", "topk_kd"]
