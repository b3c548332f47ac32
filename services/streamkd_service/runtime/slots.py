"""Workers on the nodes of a cluster: every node has the same number of them, and their names outlive the nodes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Slots:
    """Names of workers (`worker-0`, `worker-1`, …), each on a node.

    A name whose node has gone is given to the next node that joins: names are labels of metrics, so there are never
    more than there were workers at a time.

    Args:
        per_node: Workers of each node.
    """

    def __init__(self, per_node: int) -> None:
        self._per_node = per_node
        self._nodes: dict[str, str] = {}  # worker → node

    @property
    def nodes(self) -> dict[str, str]:
        """Worker id to node id."""
        return dict(self._nodes)

    def update(self, alive: Mapping[str, float]) -> None:
        """Follow the cluster.

        Args:
            alive: Node id to its processors.
        """
        self._nodes = {worker: node for worker, node in self._nodes.items() if node in alive}
        for node in alive:
            missing = self._per_node - sum(other == node for other in self._nodes.values())
            for _ in range(missing):
                self._nodes[self._free()] = node

    def capacities(self, alive: Mapping[str, float]) -> dict[str, float]:
        """Worker id to its share of its node's processors."""
        return {worker: max(alive[node], 0.1) / self._per_node for worker, node in self._nodes.items()}

    def _free(self) -> str:
        return next(name for index in itertools.count() if (name := f"worker-{index}") not in self._nodes)


__all__ = ["Slots"]
