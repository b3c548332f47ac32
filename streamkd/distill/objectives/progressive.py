"""Progressive distillation: from the teacher over assistants of falling size to the student.

Mirzadeh et al., "Improved Knowledge Distillation via Teacher Assistant" (AAAI 2020). The hand-over back from the
nearest assistant to the teacher while training goes on follows the curriculum of Jin et al., "Knowledge Distillation
via Route Constrained Optimization" (ICCV 2019), which starts from easy targets and ends at the hard ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Assistant(nn.Module):
    """A network between teacher and student in size: one hidden layer over a clip's features.

    Args:
        features: Width of the input.
        hidden: Width of the hidden layer: what makes it larger or smaller.
        classes: C.
    """

    def __init__(self, features: int, hidden: int, classes: int, *, dropout: float = 0.3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes)
        )

    def forward(self, features: Tensor) -> Tensor:
        """`[M, F]` to logits `[M, C]`."""
        out: Tensor = self.layers(features)
        return out


def stage(done: float, stages: int) -> tuple[int, float]:
    """Which of `stages` steps is under way at `done` (0..1) and how far it is: `(index, 0..1)`."""
    position = min(max(done, 0.0), 1.0) * stages
    index = min(int(position), stages - 1)
    return index, position - index


def progressive_targets(chain: Tensor, done: float) -> Tensor:
    """The target at one moment: from the easiest link of the chain to the hardest, in a straight line between links.

    Args:
        chain: `[K, M, C]` log-probabilities or logits; first the assistant next to the student, last the teacher.
        done: Share of the training that is done, 0..1.

    Returns:
        `[M, C]`.
    """
    if len(chain) == 1:
        return chain[0]
    index, share = stage(done, len(chain) - 1)
    return torch.lerp(chain[index], chain[index + 1], share)


__all__ = ["Assistant", "progressive_targets", "stage"]
