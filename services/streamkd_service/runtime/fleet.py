"""What the Controller knows of its workers: who they are, what they said last, what they run. No I/O here."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from streamkd.types import CameraState, CameraStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamkd.config import CameraConfig
    from streamkd_service.runtime.ports import WorkerReport, WorkerTotals

SILENT_AFTER_S = 3.0  # ten reports missed
LOST_AFTER_S = 20.0  # a worker that crashes is back earlier; its cameras would only move twice
_TOTALS_KEPT_S = 300.0  # long enough for every scrape to see the last figures of a dead incarnation
_RETIRED_KEPT = 64


@dataclass(slots=True)
class WorkerFacts:
    """One worker, by the reports of its present incarnation."""

    worker_id: str
    epoch: str = ""
    node: str = ""
    reported_s: float | None = None
    restarts: int = 0
    assignment_revision: int = -1
    model_version: str = ""
    statuses: dict[str, CameraStatus] = field(default_factory=dict)
    retired: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def age_s(self, now_s: float) -> float | None:
        return None if self.reported_s is None else now_s - self.reported_s

    def alive(self, now_s: float) -> bool:
        age_s = self.age_s(now_s)
        return age_s is not None and age_s <= SILENT_AFTER_S


class Fleet:
    """Takes reports in; a report of an incarnation that was replaced is refused.

    The first epoch heard of a worker counts; a new one replaces it and retires it for good. So a process that was cut
    off and comes back late can't write over what its successor says.
    """

    def __init__(self, worker_ids: Iterable[str]) -> None:
        self.workers = {worker_id: WorkerFacts(worker_id) for worker_id in worker_ids}
        self._away: dict[str, WorkerFacts] = {}  # workers whose node has gone; their incarnations stay retired
        self._totals: dict[tuple[str, str], tuple[float, WorkerTotals]] = {}

    def set_workers(self, worker_ids: Iterable[str]) -> bool:
        """Have exactly these workers: others are retired, new ones have yet to report; returns whether any changed."""
        wanted = set(worker_ids)
        gone = [worker_id for worker_id in self.workers if worker_id not in wanted]
        for worker_id in gone:
            worker = self.workers.pop(worker_id)
            if worker.epoch:
                worker.retired[worker.epoch] = None
            self._away[worker_id] = WorkerFacts(worker_id, restarts=worker.restarts, retired=worker.retired)
        new = sorted(wanted.difference(self.workers))
        for worker_id in new:
            self.workers[worker_id] = self._away.pop(worker_id) if worker_id in self._away else WorkerFacts(worker_id)
        return bool(gone or new)

    def lost(self, now_s: float, *, waits: bool) -> set[str]:
        """Workers that have not reported for a while: their cameras are better off elsewhere.

        Args:
            now_s: Monotonic clock.
            waits: Whether one that has never reported may still be on its way; else it gets no cameras yet.
        """
        ages = {worker_id: worker.age_s(now_s) for worker_id, worker in self.workers.items()}
        return {name for name, age_s in ages.items() if (not waits if age_s is None else age_s > LOST_AFTER_S)}

    def accepts(self, report: WorkerReport) -> bool:
        worker = self.workers.get(report.worker_id)
        return worker is not None and report.epoch not in worker.retired

    def is_new_incarnation(self, report: WorkerReport) -> bool:
        return self.workers[report.worker_id].epoch != report.epoch

    def take(self, report: WorkerReport, now_s: float) -> None:
        """Remember what an accepted report says."""
        worker = self.workers[report.worker_id]
        if worker.epoch != report.epoch:
            if worker.epoch:
                worker.retired[worker.epoch] = None
                worker.restarts += 1
                while len(worker.retired) > _RETIRED_KEPT:
                    worker.retired.popitem(last=False)
            worker.epoch = report.epoch
        worker.reported_s = now_s
        worker.node = report.node
        worker.assignment_revision = report.assignment_revision
        worker.model_version = report.model_version
        worker.statuses = {status.camera_id: status for status in report.statuses}
        self._totals[report.worker_id, report.epoch] = (now_s, report.totals)
        for key in [key for key, (at_s, _) in self._totals.items() if now_s - at_s > _TOTALS_KEPT_S]:
            del self._totals[key]

    def totals(self) -> list[WorkerTotals]:
        """The latest figures of every incarnation heard of in the last minutes, oldest incarnation first."""
        return [totals for _, totals in self._totals.values()]

    def totals_of(self, worker_id: str) -> WorkerTotals | None:
        """The latest figures of a worker's present incarnation."""
        found = self._totals.get((worker_id, self.workers[worker_id].epoch))
        return None if found is None else found[1]

    def status(self, config: CameraConfig, worker_id: str | None, now_s: float) -> CameraStatus:
        """A camera's status, as far as it is known now: silence of its worker is never shown as health."""
        if not config.enabled:
            return CameraStatus(config.id, CameraState.DISABLED)
        worker = self.workers.get(worker_id or "")
        told = None if worker is None else worker.statuses.get(config.id)
        if worker is None or told is None:
            return CameraStatus(config.id, CameraState.CONNECTING)
        if worker.alive(now_s):
            return told
        age_s = worker.age_s(now_s) or 0.0
        return replace(
            told,
            state=CameraState.STALLED,
            detail=f"Its worker has not reported for {age_s:.0f} s.",
            fps_received=0.0,
            fps_analysed=0.0,
            latency_ms=None,
            frame_age_s=None if told.frame_age_s is None else told.frame_age_s + age_s,
        )


__all__ = ["LOST_AFTER_S", "SILENT_AFTER_S", "Fleet", "WorkerFacts"]
