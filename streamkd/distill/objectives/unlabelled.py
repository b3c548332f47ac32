"""Unlabelled footage: learn from what the teacher, or the student's own average, is sure of.

Pseudo labels: Lee (ICML workshop 2013). Consistency under a threshold: Sohn et al., "FixMatch" (NeurIPS 2020),
equation 4. The averaged student as its own teacher: Tarvainen, Valpola, "Mean Teachers" (NeurIPS 2017).
"""

from __future__ import annotations

import torch
from torch import Tensor


def sure(logits: Tensor, threshold: float) -> Tensor:
    """Where the likeliest class has at least this probability: `[M, C]` to `[M]` bool."""
    return torch.softmax(logits, dim=-1).amax(dim=-1) >= threshold


def pseudo_label_loss(student: Tensor, guide: Tensor, threshold: float) -> Tensor:
    """Cross entropy with the guide's first choice where the guide is sure, else 0, per row.

    Args:
        student: `[M, C]` logits, of a disturbed input.
        guide: `[M, C]` logits, of a clean one; no gradient goes there.
        threshold: Probability from which on the guide counts, 0..1.

    Returns:
        `[M]`; its mean over all rows is FixMatch's, so few sure rows weigh little.
    """
    guide = guide.detach()
    nll = -torch.log_softmax(student, dim=-1).gather(-1, guide.argmax(dim=-1, keepdim=True))[:, 0]
    return nll * sure(guide, threshold)


def consistency(student: Tensor, guide: Tensor, threshold: float = 0.0) -> Tensor:
    """Squared difference of the probabilities where the guide is sure, else 0, per row: `[M]`."""
    guide = guide.detach()
    gap = torch.softmax(student, dim=-1) - torch.softmax(guide, dim=-1)
    return gap.square().sum(dim=-1) * sure(guide, threshold)


__all__ = ["consistency", "pseudo_label_loss", "sure"]
