"""Workers on the nodes of a cluster: as many on each as its cameras and processors ask for; names outlive nodes."""

from __future__ import annotations

import itertools
from collections import Counter
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet


CAMERAS_A_WORKER = 12  # fewer make batches small; of many more, one process's threads wait for each other


def workers_for(cameras: float, processors: float) -> int:
    """How many worker processes suit so many cameras: at least one, at most one a processor."""
    return max(1, min(int(processors), ceil(cameras / CAMERAS_A_WORKER)))


def worker_ids(count: int) -> tuple[str, ...]:
    """The names of so many workers on one node."""
    return tuple(f"worker-{index}" for index in range(count))


class Place(NamedTuple):
    """Which of a node's workers one is: `number`, from 0, of so many `workers`."""

    number: int
    workers: int

    def processors(self, allowed: AbstractSet[int]) -> AbstractSet[int]:
        """Those that the worker stays on: one of its own where there is one for each worker, else any."""
        return {sorted(allowed)[self.number]} if self.workers == len(allowed) else allowed


class Pins:
    """Which place each worker's incarnation has confirmed: one that Ray starts again begins with its actor's first."""

    def __init__(self) -> None:
        self._confirmed: dict[str, tuple[str, Place]] = {}  # worker → its epoch, its place

    def due(self, places: Mapping[str, Place], epochs: Mapping[str, str]) -> dict[str, Place]:
        """Worker id to place, of those that have to be told.

        Args:
            places: Worker id to its place now.
            epochs: Worker id to its present incarnation, of those that have been heard of.
        """
        wanted = {worker: (epochs[worker], place) for worker, place in places.items() if worker in epochs}
        return {worker: known[1] for worker, known in wanted.items() if self._confirmed.get(worker) != known}

    def confirm(self, worker_id: str, epoch: str, place: Place) -> None:
        """This incarnation has answered that it knows its place."""
        self._confirmed[worker_id] = (epoch, place)


class Slots:
    """Names of workers (`worker-0`, `worker-1`, …), each on a node.

    A name whose node has gone is given to the next node that joins: names are labels of metrics, so there are never
    more than there were workers at a time.

    Args:
        per_node: Workers of each node; None: see `workers_for`.
    """

    def __init__(self, per_node: int | None) -> None:
        self._per_node = per_node
        self._nodes: dict[str, str] = {}  # worker → node

    @property
    def nodes(self) -> dict[str, str]:
        """Worker id to node id."""
        return dict(self._nodes)

    @property
    def is_fixed(self) -> bool:
        """Whether the number of cameras makes no difference."""
        return self._per_node is not None

    def update(self, alive: Mapping[str, float], cameras: int = 0) -> None:
        """Follow the cluster, and the number of cameras: workers are added for more, none is given up for fewer.

        Args:
            alive: Node id to its processors.
            cameras: Of all nodes together.
        """
        self._nodes = {worker: node for worker, node in self._nodes.items() if node in alive}
        for node, processors in alive.items():
            wanted = self._per_node or workers_for(cameras / len(alive), processors)
            for _ in range(wanted - self._on(node)):
                self._nodes[self._free()] = node

    def places(self) -> dict[str, Place]:
        """Worker id to its place on its node."""
        counts, before = Counter(self._nodes.values()), Counter[str]()
        places = {}
        for worker, node in self._nodes.items():
            places[worker] = Place(before[node], counts[node])
            before[node] += 1
        return places

    def capacities(self, alive: Mapping[str, float]) -> dict[str, float]:
        """Worker id to its share of its node's processors."""
        return {worker: max(alive[node], 0.1) / self._on(node) for worker, node in self._nodes.items()}

    def _on(self, node: str) -> int:
        return sum(other == node for other in self._nodes.values())

    def _free(self) -> str:
        return next(name for index in itertools.count() if (name := f"worker-{index}") not in self._nodes)


__all__ = ["CAMERAS_A_WORKER", "Pins", "Place", "Slots", "worker_ids", "workers_for"]
