"""Several tasks in one network, weighted by what the network makes of their noise.

Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses" (CVPR 2018).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def uncertainty_weighted(losses: Tensor, log_variances: Tensor, regression: Tensor) -> Tensor:
    """`sum_i k_i exp(-s_i) L_i + s_i / 2`, `k` a half for a regression and 1 for a classification.

    Args:
        losses: `[K]`, one per task.
        log_variances: `[K]`, `s_i`, learnt; the optimum is `s_i = ln(2 k_i L_i)`.
        regression: `[K]` bool.

    Returns:
        A scalar; may be negative.
    """
    factor = torch.where(regression, 0.5, 1.0).to(losses.dtype)
    return (factor * torch.exp(-log_variances) * losses + 0.5 * log_variances).sum()


class TaskWeights(nn.Module):
    """The learnt variances of named tasks.

    Args:
        tasks: Their names.
        regressions: Those that are regressions.
    """

    def __init__(self, tasks: Sequence[str], regressions: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.log_variances = nn.Parameter(torch.zeros(len(self.tasks)))
        self.register_buffer("regression", torch.tensor([task in regressions for task in self.tasks], dtype=torch.bool))

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The sum over the tasks that this step has."""
        present = [index for index, task in enumerate(self.tasks) if task in losses]
        if not present:
            return self.log_variances.new_zeros(())
        values = torch.stack([losses[self.tasks[index]] for index in present])
        kinds: Tensor = self.get_buffer("regression")
        return uncertainty_weighted(values, self.log_variances[present], kinds[present])


__all__ = ["TaskWeights", "uncertainty_weighted"]
