"""How much each teacher counts: weights on the simplex, learnt on clips that none of them was trained on. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_STEPS = 500
_CLOSE_ENOUGH = 1e-9


def simplex_weights(
    probs: NDArray[np.float64], labels: NDArray[np.int64], *, prior: float = 0.0
) -> NDArray[np.float64]:
    """Weights, none negative, that add up to one and give the mean probability the least log-loss.

    The problem is convex; these are the steps of expectation maximisation for the shares of a mixture (Dempster, Laird
    and Rubin, JRSS B 1977, section 4.3), which never leave the simplex.

    Args:
        probs: `[M, N, C]` of M teachers on N held-out clips.
        labels: `[N]` class indices.
        prior: Clips' worth of belief that all count alike: the Dirichlet prior's strength beyond a flat one.

    Returns:
        `[M]`.
    """
    likelihood = probs[:, np.arange(len(labels)), labels] + 1e-12  # [M, N]
    weights = np.full(len(probs), 1.0 / len(probs))
    for _ in range(_STEPS):
        blame = weights[:, None] * likelihood
        blame /= blame.sum(axis=0)
        counts = blame.sum(axis=1) + prior / len(probs)
        moved = counts / counts.sum()
        if np.abs(moved - weights).max() < _CLOSE_ENOUGH:
            break
        weights = moved
    return np.asarray(weights)


def held_out_mixture(
    probs: NDArray[np.float64], labels: NDArray[np.int64], folds: Sequence[int], *, prior: float = 0.0
) -> NDArray[np.float64]:
    """Mean probabilities `[N, C]` where each fold's weights are learnt on the other folds: an honest figure's input."""
    fold = np.asarray(folds)
    mixed = np.zeros(probs.shape[1:])
    for k in sorted(set(folds)):
        rest = fold != k
        weights = simplex_weights(probs[:, rest], labels[rest], prior=prior)
        mixed[~rest] = np.einsum("m,mnc->nc", weights, probs[:, ~rest])
    return mixed


__all__ = ["held_out_mixture", "simplex_weights"]
