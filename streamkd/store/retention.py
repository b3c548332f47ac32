"""Retention: events by age, snapshots by size, in steps small enough for the one thread that also commits events.

Rows go first, files second. A crash in between leaves files that no event points to; the last part sweeps those. The
other order would leave events that promise a picture which is gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import delete, select, update

from streamkd.errors import StoreError
from streamkd.store.database import Database
from streamkd.store.records import PruneReport
from streamkd.store.schema import EventRow
from streamkd.store.snapshots import SnapshotFile, delete_snapshot, list_snapshots

# A file is written before its event is committed; a younger one may just be waiting for that.
_ORPHAN_AGE_S = 600.0
_CHUNK = 500  # well below the number of parameters that either database takes


class RetentionStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    def prune(
        self, now: datetime, retention_days: float, media_dir: Path, quota_mb: int, *, limit: int = 500
    ) -> PruneReport:
        """One step of retention; call again while the report says `more`.

        Args:
            now: The time that ages are measured from.
            retention_days: Events that closed longer ago are deleted, with their snapshots. Open ones stay.
            media_dir: Where the snapshots lie.
            quota_mb: The oldest snapshots above this many MiB are deleted; their events stay.
            limit: At most this many events are deleted, and this many snapshots, in one step.

        Raises:
            StoreError: The database can't be written, or a file can't be deleted.
        """
        try:
            return self._prune(now, retention_days, media_dir, quota_mb, limit)
        except OSError as error:
            raise StoreError(
                f"Retention can't delete snapshots in {media_dir}: {error.strerror}.",
                hint="Make the folder and what is in it writable for this user.",
            ) from error

    def _prune(self, now: datetime, retention_days: float, media_dir: Path, quota_mb: int, limit: int) -> PruneReport:
        old, more_old = self._delete_events(now - timedelta(days=retention_days), limit)
        freed = sum(delete_snapshot(media_dir, name) for name in old.values() if name)
        files = list(list_snapshots(media_dir))
        orphans = self._orphans(files, now)
        freed += sum(delete_snapshot(media_dir, name) for name in orphans)
        excess = sum(file.size for file in files if file.relative not in orphans) - quota_mb * 2**20
        pictures, more_pictures = self._forget_snapshots(excess, files, limit)
        freed += sum(delete_snapshot(media_dir, name) for name in pictures)
        snapshots = len(pictures) + sum(1 for name in old.values() if name)
        return PruneReport(len(old), snapshots, len(orphans), freed, more_old or more_pictures)

    def _delete_events(self, before: datetime, limit: int) -> tuple[dict[str, str | None], bool]:
        """Returns the deleted events' ids with their snapshots, and whether there are more."""
        oldest = select(EventRow.id, EventRow.snapshot).where(EventRow.end_utc < before)
        with self._db.write() as session:
            found = session.execute(oldest.order_by(EventRow.end_utc).limit(limit + 1)).all()
            gone = {row.id: row.snapshot for row in found[:limit]}
            for ids in _chunks(gone):
                session.execute(delete(EventRow).where(EventRow.id.in_(ids)))
        return gone, len(found) > limit

    def _orphans(self, files: list[SnapshotFile], now: datetime) -> set[str]:
        """Files that no event points to, and what was left half written."""
        old = [file for file in files if now.timestamp() - file.modified_s > _ORPHAN_AGE_S]
        wanted: set[str | None] = set()
        with self._db.read() as session:
            for ids in _chunks(file.event_id for file in old if file.event_id is not None):
                wanted |= set(session.scalars(select(EventRow.snapshot).where(EventRow.id.in_(ids))))
        return {file.relative for file in old if file.event_id is None or file.relative not in wanted}

    def _forget_snapshots(self, excess: int, files: list[SnapshotFile], limit: int) -> tuple[list[str], bool]:
        """Take snapshots off the oldest events until `excess` bytes are saved; returns them, and whether to go on."""
        if excess <= 0:
            return [], False
        sizes = {file.relative: file.size for file in files}
        oldest = select(EventRow.id, EventRow.snapshot).where(EventRow.snapshot.is_not(None))
        gone: dict[str, str] = {}
        with self._db.write() as session:
            for row in session.execute(oldest.order_by(EventRow.start_utc, EventRow.id).limit(limit)):
                if excess <= 0:
                    break
                gone[row.id] = row.snapshot
                excess -= sizes.get(row.snapshot, 0)
            for ids in _chunks(gone):
                session.execute(update(EventRow).where(EventRow.id.in_(ids)).values(snapshot=None))
        return list(gone.values()), excess > 0 and len(gone) == limit


def _chunks(ids: Iterable[str]) -> Iterable[list[str]]:
    every = list(ids)
    return [every[start : start + _CHUNK] for start in range(0, len(every), _CHUNK)]


__all__ = ["RetentionStore"]
