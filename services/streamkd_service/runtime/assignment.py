"""Which worker runs which camera: pure functions, so that placement can be reasoned about and tested alone.

A camera that moves is blind for some seconds: it connects again and warms up. So balance is kept within a slack, and
what has to move is as few cameras as can be.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right, insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SLACK = 0.2  # a worker may have this much more or less than its share
_TINY = 1e-9
_POWER = 8


@dataclass(slots=True)
class _Worker:
    name: str
    capacity: float
    load: float = 0.0
    cameras: list[tuple[float, str]] = field(default_factory=list)  # by cost; sorted once something is taken
    is_sorted: bool = False

    @property
    def level(self) -> float:
        return self.load / self.capacity


def place(
    costs: Mapping[str, float], capacities: Mapping[str, float], previous: Mapping[str, str], *, slack: float = SLACK
) -> dict[str, str]:
    """Spread cameras over workers by cost and capacity, and move as few as possible.

    A camera stays where it was unless its worker is gone, has more than `1 + slack` of its share, or is the fullest
    while another has less than `1 - slack`. What has no place goes to the worker with the lowest level, the most
    expensive first (longest processing time first: Graham, 1969, at most 4/3 of the best possible).

    Args:
        costs: Camera id to what it costs, above 0, in any unit.
        capacities: Worker id to what it can bear, above 0, in any unit; at least one worker.
        previous: Camera id to worker id as it is now; may name cameras and workers that no longer exist.
        slack: Imbalance that is left alone, 0 to 1; infinity: nothing moves that has a worker.

    Returns:
        Camera id to worker id for every camera.
    """
    workers = {name: _Worker(name, capacity) for name, capacity in sorted(capacities.items())}
    placement: dict[str, str] = {}
    homeless: list[tuple[float, str]] = []
    for name, cost in costs.items():
        worker = workers.get(previous.get(name, ""))
        if worker is None:
            homeless.append((-cost, name))
        else:
            _put(worker, cost, name, placement)
    levels = [(worker.level, worker.name) for worker in workers.values()]
    heapq.heapify(levels)
    for negative, name in sorted(homeless):
        worker = workers[levels[0][1]]
        _put(worker, -negative, name, placement)
        heapq.heapreplace(levels, (worker.level, worker.name))
    _settle(workers, sum(costs.values()) / sum(capacities.values()), slack, placement)
    return placement


def _put(worker: _Worker, cost: float, name: str, placement: dict[str, str]) -> None:
    insort(worker.cameras, (cost, name)) if worker.is_sorted else worker.cameras.append((cost, name))
    worker.load += cost
    placement[name] = worker.name


def _settle(workers: Mapping[str, _Worker], share: float, slack: float, placement: dict[str, str]) -> None:
    """Move cameras from the fullest worker to the emptiest until both are within the slack, or nothing helps.

    Every move lowers the sum of `capacity * level ** 8`, so this ends.
    """
    highs = _Levels(workers, sign=-1)
    lows = _Levels(workers, sign=1)
    stuck: list[_Worker] = []
    while True:
        top, bottom = highs.first(), lows.first()
        if top is None or bottom is None or top is bottom:
            return
        over, under = top.level > (1 + slack) * share + _TINY, bottom.level < (1 - slack) * share - _TINY
        if not over and not under:
            return
        index = _which(top, bottom)
        if index is None and over:  # what is too large for the emptiest may fit where there is most room
            bottom = max(workers.values(), key=lambda worker: share * worker.capacity - worker.load)
            index = None if bottom is top else _which(top, bottom)
        if index is None:  # nothing of this one helps; perhaps of the next
            stuck.append(top)
            highs.drop(top)
            continue
        cost, name = top.cameras.pop(index)
        top.load -= cost
        _put(bottom, cost, name, placement)
        for worker in (top, bottom, *stuck):
            highs.update(worker)
        lows.update(top)
        lows.update(bottom)
        stuck.clear()


def _which(top: _Worker, bottom: _Worker) -> int | None:
    """The camera to move: the largest that does not overshoot where both are level, else the smallest that helps."""
    if not top.is_sorted:
        top.cameras.sort()
        top.is_sorted = True
    ideal = (top.level - bottom.level) / (1 / top.capacity + 1 / bottom.capacity)
    index = bisect_right(top.cameras, (ideal, "\U0010ffff")) - 1
    for candidate in (index, index + 1):
        if 0 <= candidate < len(top.cameras) and _helps(top, bottom, top.cameras[candidate][0]):
            return candidate
    return None


def _helps(top: _Worker, bottom: _Worker, cost: float) -> bool:
    """Whether the move lowers what `_settle` lowers; the high power makes it care for the fullest first."""
    if (bottom.load + cost) / bottom.capacity >= top.level - _TINY:
        return False
    scale = top.level  # keeps the powers in range
    before = top.capacity + bottom.capacity * (bottom.level / scale) ** _POWER
    after = top.capacity * ((top.load - cost) / top.capacity / scale) ** _POWER
    after += bottom.capacity * ((bottom.load + cost) / bottom.capacity / scale) ** _POWER
    return after < before * (1 - _TINY)


class _Levels:
    """Workers by level, the highest (`sign` -1) or lowest (1) first; entries that are out of date are skipped."""

    def __init__(self, workers: Mapping[str, _Worker], *, sign: int) -> None:
        self._workers, self._sign = workers, sign
        self._heap = [(sign * worker.level, worker.name) for worker in workers.values()]
        heapq.heapify(self._heap)
        self._gone: set[str] = set()

    def first(self) -> _Worker | None:
        while self._heap:
            level, name = self._heap[0]
            worker = self._workers[name]
            if name not in self._gone and level == self._sign * worker.level:
                return worker
            heapq.heappop(self._heap)
        return None

    def drop(self, worker: _Worker) -> None:
        self._gone.add(worker.name)

    def update(self, worker: _Worker) -> None:
        self._gone.discard(worker.name)
        heapq.heappush(self._heap, (self._sign * worker.level, worker.name))


def imbalance(costs: Mapping[str, float], capacities: Mapping[str, float], placement: Mapping[str, str]) -> float:
    """How far the fullest worker is above its share: 0 is even, 1 is twice as much."""
    loads = dict.fromkeys(capacities, 0.0)
    for name, cost in costs.items():
        if placement.get(name) in loads:
            loads[placement[name]] += cost
    share = sum(costs.values()) / sum(capacities.values())
    return max(load / capacities[name] for name, load in loads.items()) / share - 1 if share > 0 else 0.0


__all__ = ["SLACK", "imbalance", "place"]
