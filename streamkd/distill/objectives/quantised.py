"""Quantisation-aware distillation: the student learns while int8 is simulated.

Simulated quantisation: Jacob et al., "Quantization and Training of Neural Networks" (CVPR 2018), with the
straight-through gradient (Bengio et al., 2013). With a float teacher: Mishra, Marr, "Apprentice" (ICLR 2018).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from streamkd.distill.objectives.response import response_kd


class _Round(torch.autograd.Function):
    """Rounds; the gradient passes as if it had not."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def fake_quantise(x: Tensor, low: Tensor, high: Tensor, bits: int = 8) -> Tensor:
    """`x` on a grid of `2^bits` values between `low` and `high`; 0 is always on the grid.

    Args:
        x: Any shape; outside the range it is clipped, and gets no gradient there.
        low: Lower end, broadcastable; at most 0 after it is widened.
        high: Upper end.
        bits: 2 to 16.
    """
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    steps = 2**bits - 1
    scale = ((high - low) / steps).clamp(min=1e-12)
    zero = (-low / scale).round()
    grid: Tensor = _Round.apply(x / scale) + zero  # type: ignore[no-untyped-call]
    quantised: Tensor = (grid.clamp(0, steps) - zero) * scale
    return quantised


def apprentice(quantised: Tensor, full: Tensor, teacher: Tensor, *, temperature: float, share: float = 0.5) -> Tensor:
    """What the quantised student says follows the teacher, and the student without quantisation, per row.

    Args:
        quantised: `[M, C]` logits with int8 simulated.
        full: `[M, C]` logits of the same weights in float; no gradient goes there.
        teacher: `[M, C]` logits.
        temperature: T of both parts.
        share: Of the teacher, 0..1; the rest keeps int8 near float.
    """
    own = response_kd(quantised, full.detach(), temperature)
    return share * response_kd(quantised, teacher, temperature) + (1.0 - share) * own


def observed_range(x: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of each channel over the rows: `[M, F]` to `[F]`, `[F]`."""
    return torch.aminmax(x.detach(), dim=0)


__all__ = ["apprentice", "fake_quantise", "observed_range"]
