"""What each camera costs its worker, from what was really done for it: pictures decoded, and pictures analysed."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamkd.types import CameraStatus
    from streamkd_service.runtime.ports import CameraTotals, WorkerReport

# CPU of one picture on the machine of docs/results/performance.md; only their ratio counts.
_DECODE_MS = 1.7  # of 640 x 480; decoding goes with the pixels
_ANALYSE_MS = 1.7  # of a fixed input, whatever the camera sends
_REFERENCE_PIXELS = 640 * 480
_EVERY_S = 10.0
_HALF_LIFE_S = 60.0
_LEAST = 0.1  # a camera that gives nothing now still has to be watched


@dataclass(slots=True)
class _Seen:
    epoch: str
    at_s: float
    decoded: int
    analysed: int


class CameraCosts:
    """Milliseconds of CPU a second per camera, averaged over minutes; one that has shown nothing costs what most do."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._costs: dict[str, float] = {}
        self._done: dict[str, float] = {}
        self._taken_s: dict[str, float] = {}  # by worker

    def take(self, report: WorkerReport, now_s: float) -> None:
        """Learn from a report; at most every ten seconds of each worker."""
        if now_s - self._taken_s.get(report.worker_id, -math.inf) < _EVERY_S:
            return
        self._taken_s[report.worker_id] = now_s
        statuses = {status.camera_id: status for status in report.statuses}
        slowed = report.totals.slowed_cameras > 0
        for totals in report.totals.cameras:
            status = statuses.get(totals.camera_id)
            if status is not None:
                self._learn(totals, status, report.epoch, now_s, slowed=slowed)

    def of(self, camera_ids: list[str]) -> dict[str, float]:
        """Costs of these cameras, and of no other is anything remembered."""
        self._costs = {name: self._costs[name] for name in camera_ids if name in self._costs}
        self._done = {name: self._done[name] for name in camera_ids if name in self._done}
        self._seen = {name: self._seen[name] for name in camera_ids if name in self._seen}
        usual = statistics.median(self._costs.values()) if self._costs else 1.0
        return {name: self._costs.get(name, usual) for name in camera_ids}

    def done(self, camera_ids: list[str]) -> dict[str, float]:
        """What was really done for these cameras when last looked at; less than they cost under overload."""
        return {name: self._done[name] for name in camera_ids if name in self._done}

    def _learn(self, totals: CameraTotals, status: CameraStatus, epoch: str, now_s: float, *, slowed: bool) -> None:
        seen = self._seen.get(totals.camera_id)
        self._seen[totals.camera_id] = _Seen(epoch, now_s, totals.decoded, totals.analysed)
        if seen is None or seen.epoch != epoch or now_s <= seen.at_s or not status.width:
            return
        lasted_s = now_s - seen.at_s
        decode_ms = _DECODE_MS * status.width * status.height / _REFERENCE_PIXELS
        cost = (
            (totals.decoded - seen.decoded) * decode_ms + (totals.analysed - seen.analysed) * _ANALYSE_MS
        ) / lasted_s
        if cost <= 0:
            return  # it is away: when it is back it will cost what it did
        self._done[totals.camera_id] = cost
        if slowed and cost < self._costs.get(totals.camera_id, math.inf):
            return  # what overload left of it, not what it costs
        before = self._costs.get(totals.camera_id, cost)
        keep = 0.5 ** (lasted_s / _HALF_LIFE_S)
        self._costs[totals.camera_id] = max(_LEAST, keep * before + (1 - keep) * cost)


__all__ = ["CameraCosts"]
