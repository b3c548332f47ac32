"""One clip or a few of each class: prototypes, and matching the teacher's statistics block by block.

Prototypes: Snell, Swersky, Zemel, "Prototypical Networks" (NeurIPS 2017). Statistics: block-wise alignment as in Li
et al., "Few Sample Knowledge Distillation" (CVPR 2020), on mean and deviation of each channel, the form that Yin et
al. ("DeepInversion", CVPR 2020) match.
"""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-6


def prototypes(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Mean feature of each class, `[C, F]`; NaN for a class without an example."""
    one_hot = torch.nn.functional.one_hot(labels, classes).to(features.dtype)
    count = one_hot.sum(dim=0)[:, None]
    return torch.where(count > 0, (one_hot.T @ features) / count.clamp(min=1.0), torch.nan)


def prototype_logits(features: Tensor, centres: Tensor) -> Tensor:
    """`-|| f - c_k ||^2 / F`: `[M, F]` and `[C, F]` to `[M, C]`; minus infinity for a class without an example.

    The paper has no `/ F`; with it, how sure one is doesn't depend on the width.
    """
    missing = torch.isnan(centres).any(dim=-1)
    distance = (features[:, None] - torch.nan_to_num(centres)[None]).square().mean(dim=-1)
    return (-distance).masked_fill(missing, -torch.inf)


def statistics_match(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared differences of each channel's mean and deviation over a batch, mean over channels.

    Args:
        student: `[M, F]`, one block's features.
        teacher: `[M', F]`, the same block's; M' may differ, the clips need not be the same.

    Returns:
        A scalar; of a batch of one, the means alone.
    """
    gap = (student.mean(dim=0) - teacher.mean(dim=0)).square()
    if len(student) > 1 and len(teacher) > 1:
        spread = [(x.var(dim=0, correction=0) + TINY).sqrt() for x in (student, teacher)]
        gap = gap + (spread[0] - spread[1]).square()
    return gap.mean()


def pick_shots(labels: list[int], shots: int, generator: torch.Generator) -> list[int]:
    """Indices of at most `shots` examples of each class, drawn at random, sorted."""
    chosen: list[int] = []
    for label in sorted({one for one in labels if one >= 0}):
        members = [index for index, one in enumerate(labels) if one == label]
        order = torch.randperm(len(members), generator=generator).tolist()
        chosen += [members[position] for position in order[:shots]]
    return sorted(chosen)


__all__ = ["pick_shots", "prototype_logits", "prototypes", "statistics_match"]
