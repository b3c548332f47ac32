"""What the read side's benchmark reads: a history of events, and workers that are played, not run."""

from __future__ import annotations

import sqlite3
import uuid
from datetime import UTC, datetime, timedelta

from sqlalchemy import event, text

from streamkd.store.database import Database
from streamkd.types import CameraState, CameraStatus, EventKind, EventUpdate
from streamkd_service.runtime.histograms import LATENCY_BOUNDS_MS
from streamkd_service.runtime.ports import CameraTotals, HistogramTotals, WorkerReport, WorkerTotals

RARE_LABEL, RARE_EVERY = "weapon", 20_000
HISTORY_DAYS = 29.0


def camera_name(index: int) -> str:
    return f"camera-{index:04d}"


def fill_events(url: str, rows: int, cameras: int, *, now: datetime | None = None) -> None:
    """Put `rows` closed events of the last 29 days into an empty database; the database makes them itself."""
    database = Database(url)
    if database.kind == "sqlite":  # nobody minds if a power cut takes this history

        @event.listens_for(database.engine, "connect")
        def _hurry(connection: sqlite3.Connection, _record: object) -> None:
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("PRAGMA cache_size=-500000")  # KiB: the ids are spread over the whole index

    statement = _SQLITE if database.kind == "sqlite" else _POSTGRES
    oldest = (now or datetime.now(UTC)) - timedelta(days=HISTORY_DAYS)
    values = {"rows": rows, "cameras": cameras, "step_s": HISTORY_DAYS * 86_400 / rows, "rare": RARE_EVERY}
    try:
        with database.write() as session:
            begin = oldest.timestamp() if database.kind == "sqlite" else oldest
            session.execute(text(statement), values | {"oldest": begin, "label": RARE_LABEL})
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")  # PostgreSQL's own does so a minute later
    finally:
        database.close()


_COLUMNS = """id, camera_id, kind, label, start_utc, end_utc, start_pts_s, end_pts_s, score, model_version, epoch,
revision, worker_revision, interrupted, note"""
# Of ten events six are fights, three falls, one is an anomaly; every 20,000th is of a rare class.
_SQLITE = f"""
WITH RECURSIVE numbers(n) AS (VALUES (0) UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :rows),
drawn AS (SELECT n, abs(random()) % 10 AS kind, abs(random()) % :cameras AS camera, abs(random()) / 9.3e18 AS u
  FROM numbers),
timed AS (SELECT *, :oldest + n * :step_s AS at FROM drawn)
INSERT INTO events ({_COLUMNS})
SELECT lower(hex(randomblob(16))), printf('camera-%04d', camera), iif(kind = 9, 'anomaly', 'action'),
  iif(n % :rare = :rare / 2, :label, iif(kind = 9, 'unusual_motion', iif(kind > 5, 'fall', 'fight'))),
  strftime('%Y-%m-%d %H\\:%M\\:%f', at, 'unixepoch') || '000',
  strftime('%Y-%m-%d %H\\:%M\\:%f', at + 1 + 29 * u, 'unixepoch') || '000',
  1, 9, sqrt(u), 'shipped', 'history', 2, 2, 0, ''
FROM timed
"""  # noqa: S608 - no value in it
_POSTGRES = f"""
WITH drawn AS (SELECT n, floor(random() * 10) AS kind, floor(random() * :cameras)\\:\\:int AS camera, random() AS u,
  cast(:oldest AS timestamptz) + n * :step_s * interval '1 second' AS at FROM generate_series(0, :rows - 1) AS n)
INSERT INTO events ({_COLUMNS})
SELECT gen_random_uuid()\\:\\:text, 'camera-' || lpad(camera\\:\\:text, 4, '0'),
  CASE WHEN kind = 9 THEN 'anomaly' ELSE 'action' END,
  CASE WHEN n % :rare = :rare / 2 THEN :label WHEN kind = 9 THEN 'unusual_motion' WHEN kind > 5 THEN 'fall'
    ELSE 'fight' END,
  at, at + (1 + 29 * u) * interval '1 second', 1, 9, sqrt(u), 'shipped', 'history', 2, 2, false, ''
FROM drawn
"""  # noqa: S608 - no value in it


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
        self.sent: dict[str, float] = {}  # every event that was reported, and when: Unix time, s
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
        self.sent |= {update.id: now_utc.timestamp() for update in updates}
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
