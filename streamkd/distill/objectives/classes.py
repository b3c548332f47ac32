"""Class-level distillation: relations between classes and between clips instead of the probabilities themselves.

DIST: Huang, You, Wang, Qian, Xu, "Knowledge Distillation from A Stronger Teacher" (NeurIPS 2022). Class correlation:
Jin, Wang, Lin, "Multi-level Logit Distillation" (CVPR 2023).
"""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-8


def pearson_distance(a: Tensor, b: Tensor) -> Tensor:
    """`1 - correlation` along the last axis, per row; 1 where a row is constant, for it has no correlation."""
    a, b = (x - x.mean(dim=-1, keepdim=True) for x in (a, b))
    norms = (a.square().sum(dim=-1) * b.square().sum(dim=-1) + TINY**2).sqrt()
    return 1.0 - (a * b).sum(dim=-1) / norms


def dist(
    student: Tensor, teacher: Tensor, *, temperature: float = 1.0, inter: float = 1.0, intra: float = 1.0
) -> Tensor:
    """`T^2 (inter * between the classes of each row + intra * between the rows of each class)`.

    A batch of one has no relation between rows: only the first part is left.

    Args:
        student: `[B, C]` logits.
        teacher: `[B, C]` logits.
        temperature: T > 0.
        inter: Weight of the first part, the paper's beta.
        intra: Weight of the second part, the paper's gamma.

    Returns:
        A scalar.
    """
    p, q = torch.softmax(student / temperature, dim=-1), torch.softmax(teacher / temperature, dim=-1)
    total = inter * pearson_distance(p, q).mean()
    if len(p) > 1:
        total = total + intra * pearson_distance(p.T, q.T).mean()
    return temperature**2 * total


def class_correlation(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """`|| P_S^T P_S - P_T^T P_T ||_F^2 / (B C)`: which classes are confused with which, over a batch.

    Args:
        student: `[B, C]` logits.
        teacher: `[B, C]` logits.
        temperature: T > 0.

    Returns:
        A scalar.
    """
    p, q = torch.softmax(student / temperature, dim=-1), torch.softmax(teacher / temperature, dim=-1)
    return (p.T @ p - q.T @ q).square().sum() / p.numel()


__all__ = ["class_correlation", "dist", "pearson_distance"]
