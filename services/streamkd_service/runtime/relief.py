"""Which cameras leave a worker that is late. Pure decisions: what is known is told, and so is the time.

Placement (`assignment.py`) trusts what workers say they can bear. A worker can be late all the same: its node is slower
than it says, or has other work. Overload is met within seconds by lower rates (`overload.py`); when that lasts, and
another worker has room, cameras move, as few as are enough. What moves is blind for some seconds, so nothing may flap:

- late and calm have to last, and count against each other;
- whoever gave or took cameras is left alone until that shows;
- who was late gets no cameras of others for some minutes, and counts as weaker than it says for longer.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LATE_S, CALM_S = 45.0, 30.0  # how long one has to be that, less the time that it was not
HOLD_S = 120.0  # after a move: cameras connect and warm up, and rates come back step by step
TRUST_S = 600.0  # without being late, before one gets cameras of others again
_HIGH, _LOW = 0.8, 0.5  # pressure: above it is too much, below there is room
_LEAST_SHARE, _MOST_SHARE = 0.05, 0.3  # of a late worker's load, at a time
_ROOM_SHARE = 0.2  # of its own load that a calm worker takes on at a time
_WEAKEST, _RECOVERS = 0.1, 1.1


@dataclass(frozen=True, slots=True)
class Move:
    """What is to be done about late workers.

    Attributes:
        placement: Camera to its new worker; those that move and no others.
        strengths: Worker to the share of its capacity that it has shown, where that is less than 1.
    """

    placement: dict[str, str]
    strengths: dict[str, float]


@dataclass(slots=True)
class _Known:
    """One worker as it was heard of."""

    seen_s: float
    late_s: float = 0.0
    calm_s: float = 0.0
    held_until_s: float = -math.inf
    trusted_from_s: float = -math.inf
    strength: float = 1.0


@dataclass(slots=True)
class _Load:
    """A worker's cameras by cost, as the moves of one decision change them."""

    total: float = 0.0
    cameras: list[tuple[float, str]] = field(default_factory=list)


class Relief:
    """Watches how late workers are, and says what moves."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def observe(self, worker_id: str, *, pressure: float, slowed: bool, now_s: float) -> None:
        """What a worker that is alive says of itself; about once a second.

        Args:
            worker_id: Which.
            pressure: Its p95 latency of the last seconds as a share of the age at which frames are dropped.
            slowed: Whether some of its cameras have a lower rate because of overload.
            now_s: Monotonic time.
        """
        known = self._known.setdefault(worker_id, _Known(now_s))
        passed_s = max(0.0, now_s - known.seen_s)
        known.seen_s = now_s
        if now_s < known.held_until_s:
            return
        # Lower rates hide lateness; where they were a hiccup's, they are back before it counts.
        late = slowed or pressure > _HIGH
        calm = pressure <= _LOW and not slowed
        known.late_s = _counted(known.late_s, passed_s if late else -passed_s, 2 * LATE_S)
        known.calm_s = _counted(known.calm_s, passed_s if calm else -passed_s, 2 * CALM_S)
        if late and known.strength < 1.0:
            known.trusted_from_s = now_s + TRUST_S
        if known.strength < 1.0 and now_s >= known.trusted_from_s:
            known.strength = min(1.0, known.strength * _RECOVERS)
            known.trusted_from_s = now_s + TRUST_S

    def forget(self, worker_id: str) -> None:
        """A worker has gone, or begins anew."""
        self._known.pop(worker_id, None)

    @property
    def strengths(self) -> dict[str, float]:
        """See `Move`."""
        return {worker_id: known.strength for worker_id, known in self._known.items() if known.strength < 1.0}

    def needed(self, now_s: float) -> bool:
        """Whether some worker is late and another has room: `decide` costs more to ask."""
        return bool(self._late(now_s)) and bool(self._calm(now_s))

    def decide(
        self,
        costs: Mapping[str, float],
        done: Mapping[str, float],
        capacities: Mapping[str, float],
        placement: Mapping[str, str],
        now_s: float,
    ) -> Move | None:
        """What moves now.

        Args:
            costs: Camera to what it costs at its full rate.
            done: Camera to what is done for it now; cameras that are missing are done in full.
            capacities: Worker to what it says that it can bear.
            placement: Camera to worker as it is.
            now_s: Monotonic time.

        Returns:
            The moves, or None where nothing helps.
        """
        loads = {worker_id: _Load() for worker_id in capacities}
        missing = dict.fromkeys(capacities, 0.0)
        for camera_id, worker_id in placement.items():
            if worker_id in loads and camera_id in costs:
                loads[worker_id].total += costs[camera_id]
                loads[worker_id].cameras.append((costs[camera_id], camera_id))
                missing[worker_id] += max(0.0, costs[camera_id] - done.get(camera_id, costs[camera_id]))
        weighed = {name: capacity * self._strength(name) for name, capacity in capacities.items()}
        share = sum(load.total for load in loads.values()) / sum(weighed.values())
        room = {
            name: max(_ROOM_SHARE * loads[name].total, share * weighed[name] - loads[name].total)
            for name in self._calm(now_s)
            if name in loads
        }
        moves: dict[str, str] = {}
        for name in self._late(now_s):
            if name not in loads or not room:
                continue
            load = loads[name]
            load.cameras.sort()
            excess = min(max(missing[name], _LEAST_SHARE * load.total), _MOST_SHARE * load.total)
            found = _shed(load, excess, room)
            if found:
                moves |= found
                self._moved(name, load.total / (share * capacities[name]), set(found.values()), now_s)
        return Move(moves, self.strengths) if moves else None

    def _moved(self, late: str, strength: float, takers: set[str], now_s: float) -> None:
        known = self._known[late]
        known.strength = min(known.strength, max(_WEAKEST, strength))
        known.strength = min(known.strength, 1.0 - 1e-9)  # weaker than it says, if only by a hair: it was late
        known.trusted_from_s = now_s + TRUST_S
        for name in (late, *takers):
            self._known[name].held_until_s = now_s + HOLD_S
            self._known[name].late_s = self._known[name].calm_s = 0.0

    def _strength(self, worker_id: str) -> float:
        return self._known[worker_id].strength if worker_id in self._known else 1.0

    def _late(self, now_s: float) -> list[str]:
        """Those that were late for longest first."""
        late = [
            (-known.late_s, name)
            for name, known in self._known.items()
            if known.late_s >= LATE_S and now_s >= known.held_until_s
        ]
        return [name for _, name in sorted(late)]

    def _calm(self, now_s: float) -> list[str]:
        return [
            name
            for name, known in self._known.items()
            if known.calm_s >= CALM_S and now_s >= known.held_until_s and known.strength == 1.0
        ]


def _counted(before_s: float, change_s: float, most_s: float) -> float:
    return min(most_s, max(0.0, before_s + change_s))


def _shed(load: _Load, excess: float, room: dict[str, float]) -> dict[str, str]:
    """Move as few cameras as make up for `excess` to where there is room; changes `load` and `room`.

    Args:
        load: Of the late worker, cameras in order of cost.
        excess: The cost that has to go.
        room: Worker to what it takes on.
    """
    moves: dict[str, str] = {}
    open_room = sorted((free, name) for name, free in room.items())
    while excess > 0 and open_room and len(load.cameras) > 1:
        free, taker = open_room[-1]
        index = min(bisect_left(load.cameras, (excess, "")), len(load.cameras) - 1)  # the smallest that is enough
        if load.cameras[index][0] > free:
            index = bisect_left(load.cameras, (free, "")) - 1  # or the largest that fits
        if index < 0:
            break
        cost, camera_id = load.cameras.pop(index)
        moves[camera_id] = taker
        load.total -= cost
        excess -= cost
        room[taker] = free - cost
        open_room.pop()
        insort(open_room, (room[taker], taker))
    return moves


__all__ = ["CALM_S", "HOLD_S", "LATE_S", "TRUST_S", "Move", "Relief"]
