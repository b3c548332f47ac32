"""Whether a model that was swapped in raises alarms too often: a decision over counts, camera by camera.

Two Poisson counts with the same rate, given their sum, are binomial: of `n0 + n1` events in `t0` and `t1` watched
seconds, `n1` fall after the swap with probability `t1 / (t0 + t1)` each. For a rate that may be `r` times the one
before, with `r t1 / (t0 + r t1)`. The tail of that binomial is an exact test, however few events there are and however
short the time before was (Przyborowski and Wilenski, "Homogeneity of results in testing samples from Poisson series",
Biometrika 1940).

A parent that was blind raised none, and any healed student would have too many. So a rate that an operator tolerates
anyway is never too much, whatever the parent's was. That there are more than such a rate explains is asked by the plain
Poisson tail. A model goes only if both tests say so: for "at most the larger of the two rates" that keeps the level of
each (intersection-union test, Berger, "Multiparameter Hypothesis Testing and Acceptance Sampling", Technometrics 1982).

Real events come in bursts, not one by one: the cool-down between two of a camera and label takes the worst of that
away, the ratio has to answer for the rest. Only more alarms count: fewer may be the very thing the refresh was for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LOOKS = (0.125, 0.25, 0.5, 1.0)  # shares of the watch after which the counts are looked at


@dataclass(frozen=True, slots=True)
class Alarms:
    """How many action events a camera had with one model, and for how long that model has watched it."""

    events: int
    watched_s: float


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """When alarms are too many.

    Attributes:
        ratio: A rate of up to so many times the one before is let pass.
        alarms_per_hour: So many on a camera are let pass, whatever was before; 0: that alone decides.
        confidence: That a model within `ratio` is kept, over all cameras and looks of a watch together.
    """

    ratio: float = 2.0
    alarms_per_hour: float = 12.0
    confidence: float = 0.99


def chance_of_as_many(before: Alarms, after: Alarms, ratio: float) -> float:
    """Probability of at least `after.events`, were the rate `ratio` times the one before; see the module. 0..1."""
    total = before.events + after.events
    if after.events == 0 or after.watched_s <= 0.0 or before.watched_s <= 0.0:
        return 1.0  # nothing has happened, or there is nothing to compare with
    odds = ratio * after.watched_s / before.watched_s
    log_in, log_out = math.log(odds) - math.log1p(odds), -math.log1p(odds)
    tail = math.fsum(
        math.exp(_log_choose(total, k) + k * log_in + (total - k) * log_out) for k in range(after.events, total + 1)
    )
    return min(1.0, tail)


def chance_at_rate(after: Alarms, per_hour: float) -> float:
    """Probability of at least `after.events` at a steady rate: the tail of a Poisson distribution. 0..1."""
    mean = per_hour * after.watched_s / 3600.0
    if after.events == 0 or mean <= 0.0:
        return 1.0 if after.events == 0 else 0.0
    fewer = math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(after.events))
    return max(0.0, 1.0 - fewer)


def too_many(before: Mapping[str, Alarms], after: Mapping[str, Alarms], limits: WatchLimits) -> str | None:
    """Why a model should be taken back, in a line for people; None: it need not be.

    Args:
        before: Per camera, with the model that served before.
        after: Per camera, with the one that serves now.
        limits: What is too much.
    """
    compared = sorted(before.keys() & after.keys())
    if not compared:
        return None
    level = (1.0 - limits.confidence) / (len(compared) * len(LOOKS))
    chances = {
        name: max(
            chance_of_as_many(before[name], after[name], limits.ratio),
            chance_at_rate(after[name], limits.alarms_per_hour),
        )
        for name in compared
    }
    worst = min(compared, key=chances.__getitem__)
    if chances[worst] >= level:
        return None
    return (
        f"camera {worst} raised {_said(after[worst])}, {_said(before[worst])} before; "
        f"chance of that at {limits.ratio:g} times the rate, or at {limits.alarms_per_hour:g} an hour if that is more: "
        f"{chances[worst]:.1g}"
    )


def _said(alarms: Alarms) -> str:
    return f"{alarms.events} action events in {alarms.watched_s / 60.0:.1f} min"


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


__all__ = ["LOOKS", "Alarms", "WatchLimits", "chance_at_rate", "chance_of_as_many", "too_many"]
