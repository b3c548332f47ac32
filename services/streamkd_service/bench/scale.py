"""`streamkd bench scale`: the Controller's own placement on a thousand nodes, without the nodes.

Cameras have different costs and nodes different capacities. Every decision is the same call as in the service
(`runtime/assignment.py`, by way of `Desired`); what is measured is how long it takes and how many cameras it moves.
Time is that of the thread, so that other work on the machine does not count. At the end some nodes turn slow, and what
late workers are relieved of is watched for an hour of simulated time (`scale_late.py`).
"""

from __future__ import annotations

import random
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from streamkd.config import CameraConfig
from streamkd.store.records import CameraOrigin, CameraRecord
from streamkd_service.bench.report import machine, markdown_table, percentile
from streamkd_service.bench.scale_late import Relieved, turn_slow
from streamkd_service.runtime.assignment import SLACK, imbalance
from streamkd_service.runtime.desired import Desired
from streamkd_service.runtime.relief import Relief

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Work of one camera, in ms of CPU a second, and how many of a hundred have it: sub-streams, usual ones, HD, 4K.
_MIX = ((8.0, 30), (34.0, 50), (110.0, 15), (400.0, 5))
_CORES = (4.0, 8.0, 8.0, 16.0, 32.0)
_SEED = 7
DECISION_GOAL_MS, MOVED_GOAL_NODES = 1000.0, 2.0
_SLOW_ONE_IN, _WATCHED_MINUTES = 50, 60.0


@dataclass(frozen=True, slots=True)
class ScaleOptions:
    nodes: int = 1000
    cameras: int = 50_000
    rounds: int = 20  # deaths, joins, additions

    def quick(self) -> ScaleOptions:
        """A tenth of everything."""
        return ScaleOptions(nodes=self.nodes // 10, cameras=self.cameras // 10, rounds=5)


@dataclass(frozen=True, slots=True)
class Decision:
    """One kind of change: how long its decision took (CPU of its thread), and the share of all cameras that moved."""

    p50_ms: float
    max_ms: float
    moved_share: float  # mean
    moved_share_max: float
    needless_share: float  # moved although their node was there (deaths and additions)
    imbalance: float  # of the fullest worker above its share, after the last


@dataclass(frozen=True, slots=True)
class ScaleResult:
    """What was seen; the fields of `--json`."""

    nodes: int
    cameras: int
    first_ms: float
    first_imbalance: float
    node_dies: Decision
    node_joins: Decision
    camera_added: Decision
    costs_drift: Decision
    nodes_turn_slow: Relieved

    @property
    def slowest_ms(self) -> float:
        """Of all decisions."""
        kinds = (self.node_dies, self.node_joins, self.camera_added, self.costs_drift)
        return max(self.first_ms, self.nodes_turn_slow.decision_max_ms, *(kind.max_ms for kind in kinds))

    @property
    def ok(self) -> bool:
        """Decisions below a second; a death moves about the share of its node; every late worker is relieved."""
        late = self.nodes_turn_slow
        moved = self.node_dies.moved_share <= MOVED_GOAL_NODES / self.nodes
        return self.slowest_ms <= DECISION_GOAL_MS and moved and late.relieved == late.nodes and not late.moved_twice


class _Simulation:
    """Cameras and nodes with costs and capacities, and the Controller's `Desired`."""

    def __init__(self, options: ScaleOptions) -> None:
        self.rng = random.Random(_SEED)  # noqa: S311 - no secret
        costs, shares = zip(*_MIX, strict=True)
        drawn = self.rng.choices(costs, shares, k=options.cameras)
        self.costs = {f"camera-{index}": cost * self.rng.uniform(0.7, 1.3) for index, cost in enumerate(drawn)}
        self._first = dict(self.costs)
        self.capacities = {f"worker-{index}": self.rng.choice(_CORES) for index in range(options.nodes)}
        self.desired = Desired((), 0, self._of)
        self.desired.use(dict(self.capacities))
        self._next = options.cameras

    def _of(self, names: list[str]) -> Mapping[str, float]:
        return {name: self.costs[name] for name in names}

    def record(self, name: str) -> CameraRecord:
        return CameraRecord(CameraConfig(id=name, url=SecretStr("rtsp://host/x")), CameraOrigin.API)

    def die(self) -> Callable[[], object]:
        gone = self.rng.choice(sorted(self.capacities))
        del self.capacities[gone]
        return self._use

    def join(self) -> Callable[[], object]:
        self._next += 1
        self.capacities[f"worker-{self._next}"] = self.rng.choice(_CORES)
        return self._use

    def add(self) -> Callable[[], object]:
        self._next += 1
        name = f"camera-{self._next}"
        self.costs[name] = self.rng.choice([cost for cost, _ in _MIX])
        record = self.record(name)
        return lambda: self.desired.put(record)

    def drift(self) -> Callable[[], object]:
        """A camera in a hundred begins to cost up to four times as much."""
        for name in self.rng.sample(sorted(self._first), len(self._first) // 100):
            self.costs[name] = self._first[name] * self.rng.uniform(1.0, 4.0)
        return self.desired.rebalance

    def _use(self) -> bool:
        return self.desired.use(dict(self.capacities))

    @property
    def imbalance(self) -> float:
        return imbalance(self.costs, self.capacities, self.desired.placement)


def bench_scale(options: ScaleOptions, say: Callable[[str], None] = lambda _: None) -> ScaleResult:
    """Place, let nodes die and join, add cameras, let costs drift."""
    say(f"placing {options.cameras:,} cameras on {options.nodes:,} nodes")
    simulation = _Simulation(options)
    records = [simulation.record(name) for name in simulation.costs]
    began_s = time.thread_time()
    simulation.desired.put(*records)
    first_ms = (time.thread_time() - began_s) * 1e3
    first_imbalance = simulation.imbalance
    kinds = {}
    for kind in ("die", "join", "add", "drift"):
        say(f"{options.rounds} times: {kind}")
        kinds[kind] = _measure(simulation, kind, min(options.rounds, max(1, options.nodes // 2)))
    slow = simulation.rng.sample(sorted(simulation.capacities), max(1, options.nodes // _SLOW_ONE_IN))
    placement = simulation.desired.placement
    late = turn_slow(simulation.costs, simulation.capacities, placement, slow, _WATCHED_MINUTES, Relief(), say)
    return ScaleResult(
        nodes=options.nodes,
        cameras=options.cameras,
        first_ms=first_ms,
        first_imbalance=first_imbalance,
        node_dies=kinds["die"],
        node_joins=kinds["join"],
        camera_added=kinds["add"],
        costs_drift=kinds["drift"],
        nodes_turn_slow=late,
    )


def _measure(simulation: _Simulation, kind: str, rounds: int) -> Decision:
    times_ms, moved, needless = [], [], []
    for _ in range(rounds):
        decide: Callable[[], object] = getattr(simulation, kind)()
        before = simulation.desired.placement
        began_s = time.thread_time()
        decide()
        times_ms.append((time.thread_time() - began_s) * 1e3)
        after = simulation.desired.placement
        elsewhere = [name for name, worker in before.items() if after[name] != worker]
        moved.append(len(elsewhere) / len(before))
        there = [name for name in elsewhere if before[name] in simulation.capacities]
        needless.append(len(there) / len(before) if kind in {"die", "add"} else 0.0)
    return Decision(
        p50_ms=percentile(times_ms, 0.5),
        max_ms=max(times_ms),
        moved_share=sum(moved) / rounds,
        moved_share_max=max(moved),
        needless_share=sum(needless) / rounds,
        imbalance=simulation.imbalance,
    )


def table(result: ScaleResult) -> list[tuple[str, str, str, str]]:
    """Rows of (what, seen, goal, met)."""
    dies, late, slowest = result.node_dies, result.nodes_turn_slow, result.slowest_ms
    share, goal = dies.moved_share * 100, MOVED_GOAL_NODES / result.nodes * 100
    return [
        (
            "slowest decision, CPU",
            f"{slowest:.0f} ms",
            f"≤ {DECISION_GOAL_MS:.0f} ms",
            "yes" if slowest <= DECISION_GOAL_MS else "**no**",
        ),
        (
            "cameras moved by a node's death, mean",
            f"{share:.3f} %",
            f"about {100 / result.nodes:.3f} %, ≤ {goal:.3f} %",
            "yes" if share <= goal else "**no**",
        ),
        (
            "late workers relieved",
            f"{late.relieved} of {late.nodes}",
            "all",
            "yes" if late.relieved == late.nodes else "**no**",
        ),
        (
            "cameras that moved more than once meanwhile",
            str(late.moved_twice),
            "0",
            "**no**" if late.moved_twice else "yes",
        ),
    ]


def section(result: ScaleResult, command: str) -> str:
    """The section of docs/results/performance.md."""
    kinds = {
        "a node dies": result.node_dies,
        "a node joins": result.node_joins,
        "a camera is added": result.camera_added,
        "a camera in a hundred costs up to four times as much": result.costs_drift,
    }
    rows = [
        (
            what,
            f"{seen.p50_ms:.0f}",
            f"{seen.max_ms:.0f}",
            f"{seen.moved_share * 100:.3f} %",
            f"{seen.moved_share_max * 100:.3f} %",
            f"{seen.needless_share * 100:.3f} %",
            f"{seen.imbalance * 100:.0f} %",
        )
        for what, seen in kinds.items()
    ]
    how = (
        f"`{command}` on {machine()}. A simulation: {result.cameras:,} cameras of four kinds (8 to 400 ms of CPU a "
        f"second, ± 30 %) on {result.nodes:,} nodes of 4 to 32 cores, placed by the Controller's own code, slack "
        f"{SLACK * 100:.0f} %. The first placement took {result.first_ms:.0f} ms of CPU; its fullest node was "
        f"{result.first_imbalance * 100:.1f} % above its share."
    )
    head = [
        "",
        "CPU ms, p50",
        "most",
        "moved",
        "moved at most",
        "of these from living nodes",
        "fullest above its share",
    ]
    parts = ["## Placement at scale", how, markdown_table(["", "seen", "goal", "met"], table(result))]
    late = result.nodes_turn_slow
    relief = (
        f"{late.nodes} nodes turned slow at once: 60 % was left of what they could do, which was a quarter more than "
        f"they had to. Their workers were late for {late.seconds_p50:.0f} s (median) and {late.seconds_max:.0f} s "
        f"(most) of {_WATCHED_MINUTES:.0f} simulated minutes. {late.moved} cameras moved, "
        f"{late.moved_cost_ratio:.2f} times the least by cost; {late.others_late} other workers were late at any "
        f"time. Slowest decision: {late.decision_max_ms:.0f} ms of CPU."
    )
    return "\n\n".join([*parts, markdown_table(head, rows), relief])


def as_json(result: ScaleResult) -> dict[str, Any]:
    """For `--json`."""
    return asdict(result) | {"ok": int(result.ok)}


__all__ = ["Decision", "ScaleOptions", "ScaleResult", "as_json", "bench_scale", "section", "table"]
