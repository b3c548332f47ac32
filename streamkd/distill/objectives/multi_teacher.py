"""Several teachers at once: how much each of them counts.

Mean: You et al., "Learning from Multiple Teacher Networks" (KDD 2017). Learnt on validation data: stacking with a
simplex, Breiman, "Stacked Regressions" (1996). By entropy: Kwon et al., "Adaptive Knowledge Distillation Based on
Entropy" (ICASSP 2020). By confidence: Zhang, Chen, Wang, "Confidence-Aware Multi-Teacher Knowledge Distillation"
(ICASSP 2022).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TINY = 1e-12


def ensemble_logits(members: Tensor, weights: Tensor) -> Tensor:
    """Logarithm of the weighted mean of the members' probabilities.

    Args:
        members: `[K, M, C]` logits.
        weights: `[K]`, or `[K, M]` for weights of each row; they sum to 1 over the members.

    Returns:
        `[M, C]` log-probabilities.
    """
    log_weights = (weights if weights.dim() == 2 else weights[:, None]).clamp(min=TINY).log()
    return torch.logsumexp(torch.log_softmax(members, dim=-1) + log_weights[..., None], dim=0)


def learn_weights(members: Tensor, labels: Tensor, *, ridge: float = 0.01, rounds: int = 200) -> Tensor:
    """Weights `[K]` with the least negative log-likelihood on validation clips, by exponentiated gradient.

    Args:
        members: `[K, N, C]` logits on clips that the members were not trained on.
        labels: `[N]` int64.
        ridge: Pull towards equal weights (times the divergence from them); few clips can't tell teachers apart.
        rounds: Steps.

    Raises:
        ValueError: There is no clip.
    """
    if not labels.numel():
        raise ValueError("weights can't be learnt without labelled clips")
    count = len(members)
    said = torch.softmax(members.detach(), dim=-1)[:, torch.arange(len(labels)), labels]  # [K, N]
    log_weights = torch.full((count,), -math.log(count), dtype=members.dtype)
    for _ in range(rounds):
        weights = log_weights.softmax(dim=0)
        gradient = -(said / (weights @ said).clamp(min=TINY)).mean(dim=1)
        gradient = gradient + ridge * (weights.clamp(min=TINY) * count).log()
        log_weights = (log_weights - 0.5 * gradient).log_softmax(dim=0)
    return log_weights.softmax(dim=0)


def entropy_weights(members: Tensor) -> Tensor:
    """A teacher that is sure of a clip counts more there: softmax over teachers of the negative entropy.

    Args:
        members: `[K, M, C]` logits.

    Returns:
        `[K, M]`.
    """
    log_p = torch.log_softmax(members, dim=-1)
    return torch.softmax((log_p.exp() * log_p).sum(dim=-1), dim=0)


def confidence_weights(members: Tensor, labels: Tensor) -> Tensor:
    """A teacher that is wrong about a labelled clip counts less: `(1 - softmax_k(CE_k)) / (K - 1)`.

    Args:
        members: `[K, M, C]` logits.
        labels: `[M]` int64.

    Returns:
        `[K, M]`; ones for a lone teacher.
    """
    count, rows = members.shape[:2]
    if count == 1:
        return members.new_ones(1, rows)
    cross_entropy = -torch.log_softmax(members, dim=-1)[:, torch.arange(rows), labels]
    return (1.0 - torch.softmax(cross_entropy, dim=0)) / (count - 1)


__all__ = ["confidence_weights", "ensemble_logits", "entropy_weights", "learn_weights"]
