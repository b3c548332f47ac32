"""Feature matching: the student's hidden features shall carry what the teacher's do.

Hints: Romero et al., "FitNets" (ICLR 2015), equation 3. Attention transfer: Zagoruyko, Komodakis, "Paying More
Attention to Attention" (ICLR 2017), equation 2. Similarity-preserving: Tung, Mori (ICCV 2019).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class Regressor(nn.Module):
    """Maps the student's features onto the teacher's width, as hints need it: one linear layer."""

    def __init__(self, student_features: int, teacher_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(student_features, teacher_features)

    def forward(self, student: Tensor) -> Tensor:
        """`[M, F_S]` to `[M, F_T]`."""
        out: Tensor = self.linear(student)
        return out


def hint(regressed: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference, per row: `[M, F]` and `[M, F]` to `[M]`.

    The paper has half the sum; the mean keeps the weight's meaning when the width changes, and is what both public
    collections of distillation methods compute.
    """
    return (regressed - teacher).square().flatten(1).mean(dim=1)


def attention_map(maps: Tensor) -> Tensor:
    """`[B, C, ...]` to `[B, P]`: mean of squares over channels, each row scaled to length 1; P positions."""
    return F.normalize(maps.square().mean(dim=1).flatten(1), dim=1)


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the attention maps, per row.

    Args:
        student: `[B, C_S, ...]`; the axes after the channels are positions in space, time or both.
        teacher: `[B, C_T, ...]` with as many positions.

    Returns:
        `[B]`.
    """
    return (attention_map(student) - attention_map(teacher)).square().mean(dim=1)


def similarity_preserving(student: Tensor, teacher: Tensor, *, order: int = 2) -> Tensor:
    """Who resembles whom within a batch: `||G_S - G_T||_F^2 / B^2` of row-normalised Gram matrices.

    Args:
        student: `[B, ...]`.
        teacher: `[B, ...]`, of another width if need be.
        order: Of the norm that rows are divided by: 2 in the paper, 1 in torchdistill.

    Returns:
        A scalar.
    """
    grams = [F.normalize(x.flatten(1) @ x.flatten(1).T, p=order, dim=1) for x in (student, teacher)]
    return torch.mean((grams[0] - grams[1]).square())


__all__ = ["Regressor", "attention_map", "attention_transfer", "hint", "similarity_preserving"]
