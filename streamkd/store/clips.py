"""Event clips: their files arrive in pieces, and belong to an event once they are whole."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select

from streamkd.errors import StoreError
from streamkd.store.changes import record_changes
from streamkd.store.database import Database
from streamkd.store.events import record_of, stored_event, stored_file
from streamkd.store.media import clip_name, write_chunk
from streamkd.store.records import Change, JudgedClip
from streamkd.store.schema import EventRow
from streamkd.store.serialize import event_json
from streamkd.types import EventKind, Verdict


class ClipStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    def store_clip(self, event_id: str, offset: int, data: bytes, total: int, media_dir: Path) -> list[Change]:
        """Take a piece of an event's clip; pieces come in order, and one that is sent again does no harm.

        Args:
            event_id: The event; it has to be stored already.
            offset: Where the piece belongs in the file.
            data: The piece.
            total: Bytes of the whole file.
            media_dir: The media folder.

        Returns:
            The event's change with the last piece, else nothing.

        Raises:
            NotFoundError: There is no such event (yet, or any more).
            StoreError: The file or the database can't be written, or an earlier piece is missing.
        """
        with self._db.read() as session:
            row = stored_event(session, event_id)
            if row.clip is not None:
                return []
            start_utc = row.start_utc
        try:
            name = clip_name(event_id, start_utc)
            whole = write_chunk(media_dir, name, offset, data, total)
        except (OSError, ValueError) as error:
            raise StoreError(
                f"The clip of event {event_id} can't be written to {media_dir}: {error}.",
                hint="Free some space, and make the folder writable for this user.",
            ) from error
        return self._attach(event_id, name) if whole else []

    def _attach(self, event_id: str, name: str) -> list[Change]:
        with self._db.write() as session:
            row = stored_event(session, event_id)  # it may be gone: retention was quicker, and sweeps the file
            row.clip = name
            row.revision += 1
            return record_changes(session, self._db.clock, [("event", "updated", event_json(record_of(row)))])

    def judged_clips(self, media_dir: Path, limit: int) -> list[JudgedClip]:
        """Action events that a person has confirmed or rejected and that have a clip, newest first.

        Events that were cut off by the end of their worker are left out: their end is not known.
        """
        judged = (
            select(EventRow)
            .where(
                EventRow.kind == EventKind.ACTION,
                EventRow.verdict.is_not(None),
                EventRow.clip.is_not(None),
                EventRow.end_utc.is_not(None),
                EventRow.interrupted.is_(False),
            )
            .order_by(EventRow.start_utc.desc(), EventRow.id)
            .limit(limit)
        )
        with self._db.read() as session:
            found = [_judged(row, media_dir) for row in session.scalars(judged)]
        return [clip for clip in found if clip.path.is_file()]

    def clip_path(self, event_id: str, media_dir: Path) -> Path:
        """Where the event's clip lies.

        Raises:
            NotFoundError: There is no such event, or it has no clip (yet, or any more).
        """
        with self._db.read() as session:
            name = stored_event(session, event_id).clip
        hint = "It had none (events.clips), or retention has deleted it (store.media_quota_mb)."
        return stored_file(media_dir, name, f"Event {event_id} has no clip.", hint)


def _judged(row: EventRow, media_dir: Path) -> JudgedClip:
    assert row.end_utc is not None
    assert row.verdict is not None
    return JudgedClip(
        camera_id=row.camera_id,
        label=row.label,
        verdict=Verdict(row.verdict),
        start_utc=row.start_utc,
        duration_s=(row.end_utc - row.start_utc).total_seconds(),
        path=media_dir / str(row.clip),
    )


__all__ = ["ClipStore"]
