"""Events: written once per revision, whatever is delivered twice; read newest first."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path

import structlog
from sqlalchemy import Select, func, literal, select, tuple_
from sqlalchemy.orm import Session

from streamkd.errors import InputError, NotFoundError
from streamkd.store.changes import Draft, record_changes
from streamkd.store.database import Database
from streamkd.store.media import snapshot_name, write_snapshot
from streamkd.store.records import Change, EventPage, EventQuery, EventRecord
from streamkd.store.schema import EventRow, UtcDateTime
from streamkd.store.serialize import event_json
from streamkd.types import EventKind, EventUpdate, Verdict

MAX_LIMIT = 500
_DISK_THREADS = 8
_log = structlog.get_logger(__name__)


class EventStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    def apply_updates(self, updates: Sequence[EventUpdate], media_dir: Path) -> list[Change]:
        """Make updates durable in one transaction; when this returns they survive kill -9 and a power cut.

        An update whose revision is not above the stored one is ignored. Snapshots are on disk before the commit:
        a crash in between leaves a file that retention sweeps, never an event that points to nothing.

        Returns:
            One change for each update that was applied.
        """
        if not updates:
            return []
        pictures = _store_snapshots(updates, media_dir)  # before the transaction: other writers need not wait for it
        with self._db.write() as session:
            wanted = {update.id for update in updates}
            rows = {row.id: row for row in session.scalars(select(EventRow).where(EventRow.id.in_(wanted)))}
            drafts: list[Draft] = []
            for update in updates:
                row = rows.get(update.id)
                if row is not None and update.revision <= row.worker_revision:
                    continue
                action = "created" if row is None else "updated"
                if row is None:
                    row = rows[update.id] = EventRow(id=update.id, revision=0, note="", interrupted=False)
                    session.add(row)
                _overwrite(row, update)
                row.snapshot = pictures.get(update.id, row.snapshot)
                drafts.append(("event", action, event_json(record_of(row))))  # type: ignore[arg-type]
            return record_changes(session, self._db.clock, drafts) if drafts else []

    def close_interrupted(
        self, camera_ids: Collection[str] | None = None, *, epoch_not: Collection[str] = (), at: datetime
    ) -> list[Change]:
        """Close open events that nobody will close any more, because their worker is gone.

        Args:
            camera_ids: Only events of these cameras; None: of all.
            epoch_not: Worker incarnations that live: their events stay open.
            at: The end that is written down.
        """
        query = select(EventRow).where(EventRow.end_utc.is_(None))
        if camera_ids is not None:
            query = query.where(EventRow.camera_id.in_(camera_ids))
        if epoch_not:
            query = query.where(EventRow.epoch.not_in(epoch_not))
        with self._db.write() as session:
            drafts: list[Draft] = []
            for row in session.scalars(query.order_by(EventRow.start_utc, EventRow.id)):
                row.end_utc = max(at, row.start_utc)
                row.interrupted = True
                row.revision += 1
                drafts.append(("event", "updated", event_json(record_of(row))))
            return record_changes(session, self._db.clock, drafts) if drafts else []

    def set_verdict(self, event_id: str, verdict: Verdict | None, note: str | None = None) -> EventRecord:
        """Keep a person's word on an event (None takes it back); a note of None leaves the note as it is.

        Raises:
            NotFoundError: There is no such event.
        """
        with self._db.write() as session:
            row = stored_event(session, event_id)
            note = row.note if note is None else note
            if (row.verdict, row.note) != (verdict, note):
                row.verdict, row.note = verdict, note
                row.revision += 1
                record_changes(session, self._db.clock, [("event", "updated", event_json(record_of(row)))])
            return record_of(row)

    def get_event(self, event_id: str) -> EventRecord:
        """One event.

        Raises:
            NotFoundError: There is no such event.
        """
        with self._db.read() as session:
            return record_of(stored_event(session, event_id))

    def list_events(self, query: EventQuery) -> EventPage:
        """A page of events, newest first; new events do not shift later pages.

        Raises:
            InputError: The cursor is not one of ours, or the limit is out of range.
        """
        if not 1 <= query.limit <= MAX_LIMIT:
            raise InputError(f"limit is {query.limit}.", hint=f"Choose 1 to {MAX_LIMIT}.")
        with self._db.read() as session:
            found = [record_of(row) for row in session.scalars(page_statement(query))]
        page = tuple(found[: query.limit])
        return EventPage(page, encode_cursor(page[-1]) if len(found) > query.limit else None)

    def count_open(self, camera_id: str | None = None) -> int:
        """How many events are open."""
        query = select(func.count()).select_from(EventRow).where(EventRow.end_utc.is_(None))
        with self._db.read() as session:
            return session.scalar(query if camera_id is None else query.where(EventRow.camera_id == camera_id)) or 0

    def count_by_camera(self, kind: EventKind, model_version: str, since: datetime) -> dict[str, int]:
        """How many events of a kind began since then with a model; cameras without one are left out."""
        query = (
            select(EventRow.camera_id, func.count())
            .where(EventRow.kind == kind, EventRow.model_version == model_version, EventRow.start_utc >= since)
            .group_by(EventRow.camera_id)
        )
        with self._db.read() as session:
            return {str(camera_id): int(count) for camera_id, count in session.execute(query)}

    def snapshot_path(self, event_id: str, media_dir: Path) -> Path:
        """Where the event's picture lies.

        Raises:
            NotFoundError: There is no such event, or it has no picture (any more).
        """
        with self._db.read() as session:
            name = stored_event(session, event_id).snapshot
        hint = "It had none, or retention has deleted it (store.media_quota_mb)."
        return stored_file(media_dir, name, f"Event {event_id} has no snapshot.", hint)


def encode_cursor(record: EventRecord) -> str:
    """Where the next page begins."""
    place = json.dumps([record.start_utc.isoformat(), record.id], separators=(",", ":"))
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[datetime, str]:
    """The inverse of `encode_cursor`.

    Raises:
        InputError: It was not made by it.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        start, event_id = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        start_utc = datetime.fromisoformat(start)
    except (ValueError, TypeError, binascii.Error, RecursionError):
        start_utc, event_id = None, None
    if start_utc is None or start_utc.tzinfo is None or not isinstance(event_id, str):
        raise InputError(
            f"cursor {cursor[:80]!r} is not one that this service gave.",
            hint="Use next_cursor of the page before, unchanged.",
        )
    return start_utc, event_id


def page_statement(query: EventQuery) -> Select[EventRow]:
    """A page and one event more, newest first; every filter has an index that gives this order."""
    return _filtered(query).order_by(EventRow.start_utc.desc(), EventRow.id.desc()).limit(query.limit + 1)


def _filtered(query: EventQuery) -> Select[EventRow]:
    chosen = select(EventRow)
    for column, value in (
        (EventRow.camera_id, query.camera_id),
        (EventRow.kind, query.kind),
        (EventRow.label, query.label),
    ):
        if value is not None:
            chosen = chosen.where(column == value)
    if query.after is not None:
        chosen = chosen.where(EventRow.start_utc >= query.after)
    if query.before is not None:
        chosen = chosen.where(EventRow.start_utc < query.before)
    if query.min_score is not None:
        chosen = chosen.where(EventRow.score >= query.min_score)
    if query.open is not None:
        chosen = chosen.where(EventRow.end_utc.is_(None) if query.open else EventRow.end_utc.is_not(None))
    if query.cursor is not None:
        start_utc, event_id = decode_cursor(query.cursor)
        place = tuple_(literal(start_utc, UtcDateTime()), literal(event_id))
        chosen = chosen.where(tuple_(EventRow.start_utc, EventRow.id) < place)
    return chosen


def _overwrite(row: EventRow, update: EventUpdate) -> None:
    row.camera_id = update.camera_id
    row.kind = update.kind
    row.label = update.label
    row.start_utc = update.start_utc
    row.end_utc = update.end_utc
    row.start_pts_s = update.start_pts_s
    row.end_pts_s = update.end_pts_s
    # NaN can't be stored, and one such update would be refused, delivered again and refused for ever.
    row.score = update.score if math.isfinite(update.score) else 0.0
    row.model_version = update.model_version
    row.epoch = update.epoch
    row.worker_revision = update.revision
    row.revision = max(row.revision + 1, update.revision)
    row.interrupted = False  # its worker is alive after all


def _store_snapshots(updates: Sequence[EventUpdate], media_dir: Path) -> dict[str, str]:
    """Write the updates' pictures; returns their paths below the media folder by event.

    Several at a time: each waits for the disk, and a disk that is asked for several syncs at once does them together.
    """
    pictured = [update for update in updates if update.snapshot_jpeg]
    if not pictured:
        return {}
    with ThreadPoolExecutor(min(_DISK_THREADS, len(pictured)), thread_name_prefix="snapshots") as pool:
        names = list(pool.map(partial(_store_snapshot, media_dir), pictured))
    return {update.id: name for update, name in zip(pictured, names, strict=True) if name is not None}


def _store_snapshot(media_dir: Path, update: EventUpdate) -> str | None:
    assert update.snapshot_jpeg is not None
    try:
        name = snapshot_name(update.id, update.start_utc)
        write_snapshot(media_dir, name, update.snapshot_jpeg)
    except (OSError, ValueError) as error:
        # An event without its picture is better than no event.
        _log.warning("a snapshot could not be stored", event_id=update.id, reason=str(error))
        return None
    return name


def record_of(row: EventRow) -> EventRecord:
    """What the store hands out of a row."""
    return EventRecord(
        id=row.id,
        camera_id=row.camera_id,
        kind=EventKind(row.kind),
        label=row.label,
        start_utc=row.start_utc,
        end_utc=row.end_utc,
        score=row.score,
        model_version=row.model_version,
        revision=row.revision,
        verdict=None if row.verdict is None else Verdict(row.verdict),
        note=row.note,
        has_snapshot=row.snapshot is not None,
        interrupted=row.interrupted,
        has_clip=row.clip is not None,
    )


def stored_event(session: Session, event_id: str) -> EventRow:
    """The event's row.

    Raises:
        NotFoundError: There is no such event.
    """
    row = session.get(EventRow, event_id)
    if row is None:
        raise NotFoundError(f"There is no event {event_id!r}.", hint="It may be older than store.retention_days.")
    return row


def stored_file(media_dir: Path, name: str | None, missing: str, hint: str) -> Path:
    """Where a file of an event lies.

    Raises:
        NotFoundError: It has none, or the file is no longer there.
    """
    if name is None or not (media_dir / name).is_file():
        raise NotFoundError(missing, hint=hint)
    return media_dir / name


__all__ = [
    "MAX_LIMIT",
    "EventStore",
    "decode_cursor",
    "encode_cursor",
    "page_statement",
    "record_of",
    "stored_event",
    "stored_file",
]
