"""Retention: events by age, their files by size, in steps small enough for the one thread that also commits events.

Rows go first, files second. A crash in between leaves files that no event points to; the last part sweeps those. The
other order would leave events that promise a picture which is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import delete, select, update

from streamkd.errors import StoreError
from streamkd.store.database import Database
from streamkd.store.media import MediaFile, delete_media, list_media
from streamkd.store.records import PruneReport
from streamkd.store.schema import HAS_MEDIA, EventRow

# A file is written before its event is committed; a younger one may just be waiting for that.
_ORPHAN_AGE_S = 600.0
_CHUNK = 500  # well below the number of parameters that either database takes


class RetentionStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    def prune(
        self, now: datetime, retention_days: float, media_dir: Path, quota_mb: int, *, limit: int = 500
    ) -> PruneReport:
        """One step of retention, by age as long as there is something, then by size; call again while it says `more`.

        Args:
            now: The time that ages are measured from.
            retention_days: See `prune_events`.
            media_dir: Where pictures and clips lie.
            quota_mb: See `sweep_media`.
            limit: At most this many events are deleted or lose their files in one step.

        Raises:
            StoreError: The database can't be written, or a file can't be deleted.
        """
        old = self.prune_events(now, retention_days, media_dir, limit=limit)
        if old.more:
            return old
        swept = self.sweep_media(now, media_dir, quota_mb, list(list_media(media_dir)), limit=limit)
        return PruneReport(
            events=old.events,
            snapshots=old.snapshots + swept.snapshots,
            clips=old.clips + swept.clips,
            orphans=swept.orphans,
            bytes_freed=old.bytes_freed + swept.bytes_freed,
            more=swept.more,
        )

    def prune_events(self, now: datetime, retention_days: float, media_dir: Path, *, limit: int = 500) -> PruneReport:
        """Delete at most `limit` events that closed more than `retention_days` ago, with their files; open ones stay.

        Raises:
            StoreError: The database can't be written, or a file can't be deleted.
        """
        with _files_deleted(media_dir):
            old, more = self._delete_events(now - timedelta(days=retention_days), limit)
            return PruneReport(
                events=len(old),
                snapshots=sum(snapshot is not None for snapshot, _ in old),
                clips=sum(clip is not None for _, clip in old),
                bytes_freed=_delete(media_dir, old),
                more=more,
            )

    def sweep_media(
        self, now: datetime, media_dir: Path, quota_mb: int, files: Sequence[MediaFile], *, limit: int = 500
    ) -> PruneReport:
        """Delete files that no event points to, and above the quota those of the oldest events; these events stay.

        Args:
            now: The time that ages are measured from.
            media_dir: Where pictures and clips lie.
            quota_mb: MiB that all files together may take.
            files: What `list_media` has just found; listing takes long and needs no database.
            limit: At most this many events lose their files in one step.

        Raises:
            StoreError: The database can't be written, or a file can't be deleted.
        """
        with _files_deleted(media_dir):
            orphans = self._orphans(files, now)
            freed = sum(delete_media(media_dir, name) for name in orphans)
            excess = sum(file.size for file in files if file.relative not in orphans) - quota_mb * 2**20
            gone, more = self._forget_media(excess, files, limit)
            return PruneReport(
                snapshots=sum(snapshot is not None for snapshot, _ in gone),
                clips=sum(clip is not None for _, clip in gone),
                orphans=len(orphans),
                bytes_freed=freed + _delete(media_dir, gone),
                more=more,
            )

    def _delete_events(self, before: datetime, limit: int) -> tuple[list[_Files], bool]:
        """Returns the files of the deleted events, and whether there are more events."""
        oldest = select(EventRow.id, EventRow.snapshot, EventRow.clip).where(EventRow.end_utc < before)
        with self._db.write() as session:
            found = session.execute(oldest.order_by(EventRow.end_utc).limit(limit + 1)).all()
            for ids in _chunks(row.id for row in found[:limit]):
                session.execute(delete(EventRow).where(EventRow.id.in_(ids)))
        return [(row.snapshot, row.clip) for row in found[:limit]], len(found) > limit

    def _orphans(self, files: Sequence[MediaFile], now: datetime) -> set[str]:
        """Files that no event points to, and what was left half written."""
        old = [file for file in files if now.timestamp() - file.modified_s > _ORPHAN_AGE_S]
        wanted: set[str | None] = set()
        for ids in _chunks(file.event_id for file in old if file.event_id is not None):
            with self._db.read() as session:
                for row in session.execute(select(EventRow.snapshot, EventRow.clip).where(EventRow.id.in_(ids))):
                    wanted |= {row.snapshot, row.clip}
        return {file.relative for file in old if file.event_id is None or file.relative not in wanted}

    def _forget_media(self, excess: int, files: Sequence[MediaFile], limit: int) -> tuple[list[_Files], bool]:
        """Take the files off the oldest events until `excess` bytes are saved; returns them, and whether to go on."""
        if excess <= 0:
            return [], False
        sizes = {file.relative: file.size for file in files}
        oldest = select(EventRow.id, EventRow.snapshot, EventRow.clip).where(HAS_MEDIA)
        gone: dict[str, _Files] = {}
        with self._db.write() as session:
            for row in session.execute(oldest.order_by(EventRow.start_utc, EventRow.id).limit(limit)):
                if excess <= 0:
                    break
                gone[row.id] = (row.snapshot, row.clip)
                excess -= sum(sizes.get(name, 0) for name in gone[row.id] if name is not None)
            for ids in _chunks(gone):
                session.execute(update(EventRow).where(EventRow.id.in_(ids)).values(snapshot=None, clip=None))
        return list(gone.values()), excess > 0 and len(gone) == limit


_Files = tuple[str | None, str | None]  # picture and clip of an event, as paths below the media folder


@contextmanager
def _files_deleted(media_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"Retention can't delete files in {media_dir}: {error.strerror}.",
            hint="Make the folder and what is in it writable for this user.",
        ) from error


def _delete(media_dir: Path, files: Iterable[_Files]) -> int:
    return sum(delete_media(media_dir, name) for pair in files for name in pair if name is not None)


def _chunks(ids: Iterable[str]) -> Iterable[list[str]]:
    every = list(ids)
    return [every[start : start + _CHUNK] for start in range(0, len(every), _CHUNK)]


__all__ = ["RetentionStore"]
