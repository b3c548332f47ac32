"""Cross-modal distillation: teachers that see optical flow or hear sound, a student that sees colour only.

Supervision transfer: Gupta, Hoffman, Malik, "Cross Modal Distillation" (CVPR 2016). Flow features into an RGB network
by regression: Crasto et al., "MARS" (CVPR 2019). Fusion by scaled dot-product attention: Vaswani et al. (2017).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping


def attention_fusion(query: Tensor, keys: Tensor, values: Tensor, present: Tensor | None = None) -> Tensor:
    """`softmax(q k_j / sqrt(D)) v_j`, summed over the modalities j.

    Args:
        query: `[M, D]`.
        keys: `[M, J, D]`.
        values: `[M, J, V]`.
        present: `[M, J]` bool, a modality that a clip lacks (no sound) counts nothing; a row without any gives zeros.

    Returns:
        `[M, V]`.
    """
    scores = (keys @ query[:, :, None])[..., 0] / query.shape[-1] ** 0.5
    if present is not None:
        scores = scores.masked_fill(~present, torch.finfo(scores.dtype).min)
    weights = torch.softmax(scores, dim=-1)
    if present is not None:
        weights = weights * present
    return (weights[:, None] @ values)[:, 0]


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """`1 - cos(a, b)`, per row: `[M, F]` and `[M, F]` to `[M]`; 1 where a row is all zeros."""
    return 1.0 - nn.functional.cosine_similarity(a, b, dim=-1)


class Fusion(nn.Module):
    """Teachers' features of several modalities, brought to one width and fused by attention.

    What it gives is trained on the labels through `classify`, never on how well the student follows: a target that may
    move towards its pupil ends at a constant.

    Args:
        widths: Features of each modality.
        width: Of the fused feature.
        classes: C.
    """

    def __init__(self, widths: Mapping[str, int], width: int, classes: int) -> None:
        super().__init__()
        self.modalities = tuple(sorted(widths))
        self.projections = nn.ModuleList([nn.Linear(widths[name], width) for name in self.modalities])
        self.keys = nn.Linear(width, width)
        self.query = nn.Linear(width, width)
        self.classify = nn.Linear(width, classes)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Modality to `[M, F_j]`, rows of NaN where a clip lacks it; gives `[M, width]`."""
        chosen = [features[name] for name in self.modalities]
        present = torch.stack([torch.isfinite(one).all(dim=-1) for one in chosen], dim=1)
        values = torch.stack(
            [layer(torch.nan_to_num(one)) for layer, one in zip(self.projections, chosen, strict=True)], dim=1
        )
        count = present.sum(dim=1, keepdim=True).clamp(min=1)
        query = self.query((values * present[..., None]).sum(dim=1) / count)
        return attention_fusion(query, self.keys(values), values, present)


__all__ = ["Fusion", "attention_fusion", "cosine_distance"]
