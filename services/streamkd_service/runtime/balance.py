"""Keeping the load on the workers even: looks at what is known of them, lets cameras move. No I/O here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from streamkd_service.runtime.relief import Relief

if TYPE_CHECKING:
    from streamkd_service.runtime.costs import CameraCosts
    from streamkd_service.runtime.desired import Desired
    from streamkd_service.runtime.fleet import Fleet

_EVEN_OUT_EVERY_S = 60.0
_log = structlog.get_logger(__name__)


class Balance:
    """Moves cameras away from workers that are late, and evens out what has become far too uneven.

    Args:
        fleet: What the workers said.
        desired: Where cameras shall run; it is what changes.
        costs: What cameras cost.
        now_s: Monotonic time.
    """

    def __init__(self, fleet: Fleet, desired: Desired, costs: CameraCosts, now_s: float) -> None:
        self._fleet, self._desired, self._costs = fleet, desired, costs
        self._relief = Relief()
        self._epochs: dict[str, str] = {}
        self._evened_s = now_s

    def tick(self, now_s: float) -> None:
        """Look; called about once a second."""
        self._observe(now_s)
        if self._relief.needed(now_s):
            self._relieve(now_s)
        if now_s - self._evened_s >= _EVEN_OUT_EVERY_S:
            self._evened_s = now_s
            self._desired.strengths = self._relief.strengths
            if self._desired.rebalance():
                _log.info("cameras moved to workers with less to do")

    def _observe(self, now_s: float) -> None:
        epochs = {name: worker.epoch for name, worker in self._fleet.workers.items() if worker.alive(now_s)}
        for name in [name for name, epoch in self._epochs.items() if epochs.get(name) != epoch]:
            self._relief.forget(name)
        self._epochs = epochs
        for name in epochs:
            totals = self._fleet.totals_of(name)
            if totals is not None:
                slowed = totals.slowed_cameras > 0
                self._relief.observe(name, pressure=totals.pressure, slowed=slowed, now_s=now_s)

    def _relieve(self, now_s: float) -> None:
        placement = self._desired.placement
        costs = self._costs.of(list(placement))
        done = self._costs.done(list(placement))
        move = self._relief.decide(costs, done, self._desired.capacities, placement, now_s)
        if move is None:
            return
        late = sorted({placement[camera_id] for camera_id in move.placement})
        _log.warning("cameras moved away from late workers", workers=late, cameras=len(move.placement))
        self._desired.move(move.placement, move.strengths)


__all__ = ["Balance"]
