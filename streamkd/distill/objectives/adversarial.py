"""Adversaries: a discriminator that tells student from teacher features, and inputs made to mislead the student.

Feature discriminator: Xu, Hsu, Huang, "Training Shallow and Thin Networks with Conditional Adversarial Networks"
(ICLR workshop 2018), after Goodfellow et al. (2014); both sides in one pass by gradient reversal, Ganin et al. (JMLR
2016). Attacked inputs: Goldblum et al., "Adversarially Robust Distillation" (AAAI 2020), with FGSM (Goodfellow et
al., 2015) or PGD (Madry et al., ICLR 2018).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

if TYPE_CHECKING:
    from collections.abc import Callable


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


def reverse_gradient(x: Tensor, strength: float = 1.0) -> Tensor:
    """`x` itself, whose gradient is multiplied by `-strength`."""
    reversed_: Tensor = _Reverse.apply(x, strength)  # type: ignore[no-untyped-call]
    return reversed_


class Discriminator(nn.Module):
    """Says whether a feature is the teacher's: logit `[M]` of `[M, F]`."""

    def __init__(self, features: int, hidden: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1))

    def forward(self, features: Tensor) -> Tensor:
        """`[M, F]` to `[M]`."""
        out: Tensor = self.layers(features)
        return out[:, 0]


def discriminator_loss(teacher: Tensor, student: Tensor) -> Tensor:
    """`-log D(teacher) - log(1 - D(student))` of logits `[M]` and `[M]`, per row."""
    return F.softplus(-teacher) + F.softplus(student)


def pgd(
    x: Tensor, loss: Callable[[Tensor], Tensor], size: float, *, steps: int = 3, step: float | None = None
) -> Tensor:
    """The input that misleads most: steps along the sign of the gradient, within `x - size .. x + size`, from `x`.

    One step is FGSM, several are PGD.

    Args:
        x: Any shape; not changed.
        loss: Of an input, summed over rows.
        size: Largest change of an element.
        steps: How many.
        step: Length of each; if not given, `size` of a single one, else 2.5 size / steps (Madry et al.).
    """
    if step is None:
        step = size if steps == 1 else 2.5 * size / steps
    attacked = x.detach()
    for _ in range(steps):
        probe = attacked.clone().requires_grad_(True)  # noqa: FBT003
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(loss(probe), probe)
        attacked = (attacked + step * gradient.sign()).clamp(x.detach() - size, x.detach() + size)
    return attacked.detach()


__all__ = ["Discriminator", "discriminator_loss", "pgd", "reverse_gradient"]
