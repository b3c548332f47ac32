"""What the read side's benchmark reads: a history of events, and workers that are played, not run."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import insert

from streamkd.store.database import Database
from streamkd.store.schema import EventRow
from streamkd.types import CameraState, CameraStatus, EventKind, EventUpdate
from streamkd_service.runtime.histograms import LATENCY_BOUNDS_MS
from streamkd_service.runtime.ports import CameraTotals, HistogramTotals, WorkerReport, WorkerTotals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LABELS = ("fight", "fight", "fight", "fight", "fight", "fight", "fall", "fall", "fall", "unusual_motion")
RARE_LABEL, RARE_EVERY = "weapon", 20_000
HISTORY_DAYS = 29.0
_CHUNK = 5_000
_SEED = 20260101


def camera_name(index: int) -> str:
    return f"camera-{index:04d}"


def fill_events(
    url: str,
    rows: int,
    cameras: int,
    *,
    now: datetime | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> None:
    """Put `rows` closed events of the last 29 days into an empty database, in order of time."""
    database = Database(url)
    try:
        for start in range(0, rows, _CHUNK):
            with database.write() as session:
                session.execute(insert(EventRow), list(_history(start, min(start + _CHUNK, rows), rows, cameras, now)))
            progress(min(1.0, (start + _CHUNK) / rows))
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")  # PostgreSQL's own does so a minute later
    finally:
        database.close()


def _history(start: int, end: int, rows: int, cameras: int, now: datetime | None) -> Iterator[dict[str, object]]:
    rng = random.Random(_SEED + start)  # noqa: S311 - no secret
    newest = now or datetime.now(UTC)
    for index in range(start, end):
        at = newest - timedelta(days=HISTORY_DAYS * (rows - index) / rows)
        label = RARE_LABEL if index % RARE_EVERY == RARE_EVERY // 2 else rng.choice(LABELS)
        yield {
            "id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            "camera_id": camera_name(rng.randrange(cameras)),
            "kind": (EventKind.ANOMALY if label == "unusual_motion" else EventKind.ACTION).value,
            "label": label,
            "start_utc": at,
            "end_utc": at + timedelta(seconds=rng.uniform(1, 30)),
            "start_pts_s": 1.0,
            "end_pts_s": 9.0,
            "score": rng.betavariate(6, 2),
            "model_version": "shipped",
            "epoch": "history",
            "revision": 2,
            "worker_revision": 2,
            "interrupted": False,
            "verdict": None,
            "note": "",
            "snapshot": None,
            "clip": None,
        }


class PlayedWorker:
    """What one worker of many cameras would report; its events are over when they are told.

    Args:
        worker_id: Its name.
        cameras: Ids of its cameras.
        events_per_s: Of all its cameras together.
        picture: Snapshot of every event.
    """

    def __init__(self, worker_id: str, cameras: tuple[str, ...], events_per_s: float, picture: bytes) -> None:
        self.worker_id = worker_id
        self.events = 0
        self._epoch = uuid.uuid4().hex
        self._cameras = cameras
        self._events_per_s = events_per_s
        self._picture = picture
        self._began_s: float | None = None
        self._revision = -1

    def assigned(self, revision: int) -> None:
        self._revision = revision

    def report(self, now_s: float, now_utc: datetime, model_version: str) -> WorkerReport:
        """The next report; an event's start is the moment at which it is told."""
        if self._began_s is None:
            self._began_s = now_s
        lasted_s = now_s - self._began_s
        due = int(lasted_s * self._events_per_s)
        updates = tuple(self._event(number, now_utc, model_version) for number in range(self.events, due))
        self.events = due
        frames = int(lasted_s * 5)
        return WorkerReport(
            worker_id=self.worker_id,
            epoch=self._epoch,
            sent_at_s=now_s,
            assignment_revision=self._revision,
            model_version=model_version,
            updates=updates,
            statuses=tuple(self._status(camera_id, lasted_s) for camera_id in self._cameras),
            totals=self._totals(frames, lasted_s),
            node="bench",
        )

    def _event(self, number: int, now_utc: datetime, model_version: str) -> EventUpdate:
        return EventUpdate(
            id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self._epoch}/{number}")),
            revision=1,
            camera_id=self._cameras[number % len(self._cameras)],
            kind=EventKind.ACTION,
            label="fight",
            start_utc=now_utc,
            end_utc=now_utc,
            start_pts_s=1.0,
            end_pts_s=2.0,
            score=0.9,
            model_version=model_version,
            epoch=self._epoch,
            snapshot_jpeg=self._picture,
        )

    def _status(self, camera_id: str, lasted_s: float) -> CameraStatus:
        return CameraStatus(
            camera_id=camera_id,
            state=CameraState.ONLINE,
            fps_received=15.0,
            fps_analysed=5.0,
            width=640,
            height=480,
            codec="h264",
            frame_age_s=lasted_s % 0.2,
            latency_ms=20.0 + lasted_s % 1,
            action="fight",
            action_score=0.1,
            anomaly_score=0.2,
            model_version="shipped",
        )

    def _totals(self, frames: int, lasted_s: float) -> WorkerTotals:
        drops = {"superseded": frames // 100, "stale": 0, "corrupt": 0}
        cameras = tuple(
            CameraTotals(name, received=3 * frames, decoded=3 * frames, analysed=frames, dropped=drops)
            for name in self._cameras
        )
        seen = HistogramTotals(LATENCY_BOUNDS_MS, (frames,) * len(LATENCY_BOUNDS_MS), 20.0 * frames)
        return WorkerTotals(self.worker_id, self._epoch, cameras, seen, seen, seen, seen, 300_000_000, lasted_s)


__all__ = ["RARE_LABEL", "PlayedWorker", "camera_name", "fill_events"]
