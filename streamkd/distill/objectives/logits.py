"""Logit matching: the student's logits shall be the teacher's.

Ba and Caruana, "Do Deep Nets Really Need to be Deep?" (NeurIPS 2014), equation 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def logit_matching(student: Tensor, teacher: Tensor, weight: float = 1.0, *, centred: bool = True) -> Tensor:
    """`weight * || f_S - f_T ||^2`, per row.

    Args:
        student: `[M, C]` logits.
        teacher: `[M, C]` logits.
        weight: The factor, lambda.
        centred: Subtract each row's mean first; a softmax doesn't see a constant, so the match need not either.

    Returns:
        `[M]`.
    """
    difference = student - teacher
    if centred:
        difference = difference - difference.mean(dim=-1, keepdim=True)
    return weight * difference.square().sum(dim=-1)


__all__ = ["logit_matching"]
