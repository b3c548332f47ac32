"""The part of `streamkd bench scale` in which nodes turn slow: whether late workers are relieved, and nothing flaps.

A node can really bear less than it says. The loop is closed: what a worker has to do and what its node can bear make
it late or not, and that is all that the Controller's code (`runtime/relief.py`) is told.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamkd_service.bench.report import percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streamkd_service.runtime.relief import Relief

_TICK_S = 5.0
_HEADROOM = 1.25  # what a healthy node can do, over what is asked of it
_KEEPS = 0.6  # of that, what is left to a node that has turned slow
_LATE_PRESSURE, _BUSY_PRESSURE, _CALM_PRESSURE, _BUSY = 0.9, 0.6, 0.3, 0.95


@dataclass(frozen=True, slots=True)
class Relieved:
    """What became of nodes that turned slow.

    Attributes:
        nodes: How many did.
        relieved: How many of them were no longer late at the end.
        seconds_p50: From turning slow to the last time that they were late; of the simulated clock.
        seconds_max: The same, the longest.
        moved: Cameras that moved.
        moved_cost_ratio: What moved over the least that had to, by cost.
        moved_twice: Cameras that moved more than once: what flaps.
        others_late: Other workers that were late at any time.
        decision_max_ms: CPU time of the slowest decision.
    """

    nodes: int
    relieved: int
    seconds_p50: float
    seconds_max: float
    moved: int
    moved_cost_ratio: float
    moved_twice: int
    others_late: int
    decision_max_ms: float


@dataclass(slots=True)
class _Run:
    costs: Mapping[str, float]
    placement: dict[str, str]
    bears: dict[str, float]
    relief: Relief
    last_late_s: dict[str, float] = field(default_factory=dict)
    moves: Counter[str] = field(default_factory=Counter)
    decisions_ms: list[float] = field(default_factory=list)

    def loads(self) -> dict[str, float]:
        found = dict.fromkeys(self.bears, 0.0)
        for camera_id, worker_id in self.placement.items():
            found[worker_id] += self.costs[camera_id]
        return found

    def tick(self, loads: Mapping[str, float], capacities: Mapping[str, float], now_s: float) -> bool:
        """One look at every worker; returns whether cameras moved."""
        for worker_id, bears in self.bears.items():
            ratio = loads[worker_id] / bears
            if ratio > 1:
                self.last_late_s[worker_id] = now_s
            pressure = _LATE_PRESSURE if ratio > 1 else _BUSY_PRESSURE if ratio > _BUSY else _CALM_PRESSURE
            self.relief.observe(worker_id, pressure=pressure, slowed=ratio > 1, now_s=now_s)
        if not self.relief.needed(now_s):
            return False
        began_s = time.thread_time()
        # Overload takes from every camera of a worker alike.
        kept = {worker_id: min(1.0, bears / max(loads[worker_id], 1e-9)) for worker_id, bears in self.bears.items()}
        done = {camera_id: self.costs[camera_id] * kept[worker_id] for camera_id, worker_id in self.placement.items()}
        move = self.relief.decide(self.costs, done, capacities, self.placement, now_s)
        self.decisions_ms.append((time.thread_time() - began_s) * 1e3)
        if move is None:
            return False
        self.moves.update(list(move.placement))
        self.placement |= move.placement
        return True


def turn_slow(
    costs: Mapping[str, float],
    capacities: Mapping[str, float],
    placement: Mapping[str, str],
    slow: Sequence[str],
    minutes: float,
    relief: Relief,
    say: Callable[[str], None] = lambda _: None,
) -> Relieved:
    """Let some nodes turn slow at once, and watch for some time.

    Args:
        costs: Camera to what it costs.
        capacities: Worker to what it says that it can bear.
        placement: Camera to worker at the beginning; within what every node can bear.
        slow: The workers whose nodes turn slow.
        minutes: Of the simulated clock.
        relief: Decides; has heard of no worker yet.
        say: Progress.
    """
    say(f"{len(slow)} nodes turn slow")
    run = _Run(costs, dict(placement), {}, relief)
    share = sum(costs.values()) / sum(capacities.values())
    run.bears = {worker_id: _HEADROOM * share * capacity for worker_id, capacity in capacities.items()}
    loads = run.loads()
    run.bears = {worker_id: max(bears, _HEADROOM * loads[worker_id]) for worker_id, bears in run.bears.items()}
    for worker_id in slow:
        run.bears[worker_id] *= _KEEPS
    least = sum(max(0.0, loads[worker_id] - run.bears[worker_id]) for worker_id in slow)
    for tick in range(round(minutes * 60 / _TICK_S)):
        if run.tick(loads, capacities, tick * _TICK_S):
            loads = run.loads()
    lasted_s = [run.last_late_s.get(worker_id, 0.0) for worker_id in slow]
    return Relieved(
        nodes=len(slow),
        relieved=sum(loads[worker_id] <= run.bears[worker_id] for worker_id in slow),
        seconds_p50=percentile(lasted_s, 0.5),
        seconds_max=max(lasted_s),
        moved=sum(run.moves.values()),
        moved_cost_ratio=sum(costs[name] * times for name, times in run.moves.items()) / max(least, 1e-9),
        moved_twice=sum(times > 1 for times in run.moves.values()),
        others_late=len(set(run.last_late_s) - set(slow)),
        decision_max_ms=max(run.decisions_ms, default=0.0),
    )


__all__ = ["Relieved", "turn_slow"]
