"""Confidence bounds of a mean over few independent units, the one statistic that the gate rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class MeanBounds:
    """A mean over `n` units and its one-sided bounds, each at the asked-for level.

    Attributes:
        mean: Of the units' values; every unit counts alike.
        low: The mean is above this with the asked-for confidence; `-inf` for fewer than two units.
        high: The mean is below this with the asked-for confidence; `inf` for fewer than two units.
        n: Units.
    """

    mean: float
    low: float
    high: float
    n: int


def unit_means(values: NDArray[np.float64], units: Sequence[str]) -> NDArray[np.float64]:
    """Mean value of each unit, in the order of their first appearance: `[N]` and N names to `[U]`."""
    order: dict[str, int] = {}
    index = np.array([order.setdefault(unit, len(order)) for unit in units], dtype=np.int64)
    return np.bincount(index, weights=values) / np.bincount(index)


def mean_bounds(
    values: NDArray[np.float64], level: float, rng: np.random.Generator, *, rounds: int = 4000
) -> MeanBounds:
    """One-sided bounds of the mean of independent units.

    With the few units that a site has, the plain percentile bootstrap is too narrow. So the percentile is expanded as
    Hesterberg proposes ("What Teachers Should Know About the Bootstrap", The American Statistician 69:4, 2015,
    section 5.2): `Phi(-sqrt(n / (n - 1)) * t(level, n - 1))` in place of `1 - level`. Where that lies beyond what
    `rounds` draws can resolve, or the draws are lumpy, the classical t bound is safer: the wider of the two counts.

    Args:
        values: `[n]`, one per unit; paired differences.
        level: Confidence of each bound, 0.5..1.
        rng: Where the draws come from.
        rounds: Number of bootstrap draws.
    """
    from scipy import stats  # noqa: PLC0415 - takes half a second and 50 MB that a Controller need not spend

    n = len(values)
    if n == 0:
        return MeanBounds(0.0, -np.inf, np.inf, 0)
    mean = float(values.mean())
    if n == 1:
        return MeanBounds(mean, -np.inf, np.inf, 1)
    quantile = float(stats.t.ppf(level, n - 1))
    half = float(quantile * values.std(ddof=1) / np.sqrt(n))
    tail = float(stats.norm.cdf(-np.sqrt(n / (n - 1)) * quantile))
    drawn = values[rng.integers(0, n, (rounds, n))].mean(axis=1)
    low, high = np.quantile(drawn, [tail, 1.0 - tail])
    return MeanBounds(mean, min(float(low), mean - half), max(float(high), mean + half), n)


__all__ = ["MeanBounds", "mean_bounds", "unit_means"]
