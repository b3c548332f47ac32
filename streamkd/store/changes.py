"""The live stream's memory: what was committed, numbered in commit order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from streamkd.clock import Clock
from streamkd.store.database import Database
from streamkd.store.records import Change
from streamkd.store.schema import ChangeRow, MetaRow
from streamkd.store.serialize import json_ready

Topic = Literal["event", "camera", "model", "refresh"]
Action = Literal["created", "updated", "deleted"]
Draft = tuple[Topic, Action, dict[str, Any]]
_TRIMMED = "changes.trimmed_to"


def record_changes(session: Session, clock: Clock, drafts: Iterable[Draft]) -> list[Change]:
    """Number changes within the transaction that makes them."""
    at_utc = clock.utc()
    rows = [
        ChangeRow(topic=topic, action=action, at_utc=at_utc, data=json_ready(data)) for topic, action, data in drafts
    ]
    session.add_all(rows)
    session.flush()
    return [_change(row) for row in rows]


class ChangeStore:
    """Reading, trimming, and changes that belong to no row of their own (a camera's state)."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add_changes(self, drafts: Sequence[Draft]) -> list[Change]:
        """Publish what is not stored elsewhere, such as a camera's new state: (topic, action, JSON-ready data)."""
        for topic, action, _ in drafts:
            if topic not in get_args(Topic) or action not in get_args(Action):
                raise ValueError(f"unknown change {topic!r}, {action!r}")
        if not drafts:
            return []
        with self._db.write() as session:
            return record_changes(session, self._db.clock, drafts)

    def changes_after(self, seq: int, limit: int = 500) -> tuple[bool, int, tuple[Change, ...]]:
        """Changes newer than `seq`, oldest first.

        Returns:
            Whether `seq` is not of this stream any more (older than what is kept, or newer than the newest: another
            database), the newest seq, and up to `limit` changes; none with a reset.
        """
        with self._db.read() as session:
            trimmed_to = _trimmed_to(session)
            latest = max(session.scalar(select(func.max(ChangeRow.seq))) or 0, trimmed_to)
            if seq < trimmed_to or seq > latest:
                return True, latest, ()
            rows = session.scalars(
                select(ChangeRow).where(ChangeRow.seq > seq).order_by(ChangeRow.seq).limit(limit)
            ).all()
            return False, latest, tuple(_change(row) for row in rows)

    def trim_changes(self, keep: int, *, limit: int = 5000) -> tuple[int, bool]:
        """Forget the oldest changes above the newest `keep`, at most `limit` of them.

        Returns:
            How many were forgotten, and whether there are more.
        """
        with self._db.write() as session:
            last = session.scalar(select(ChangeRow.seq).order_by(ChangeRow.seq.desc()).offset(keep).limit(1))
            if last is None:
                return 0, False
            oldest = select(ChangeRow.seq).order_by(ChangeRow.seq).offset(limit - 1).limit(1)
            upto = min(last, session.scalar(oldest) or last)
            gone = session.execute(delete(ChangeRow).where(ChangeRow.seq <= upto))
            session.merge(MetaRow(name=_TRIMMED, value=str(upto)))
            return int(getattr(gone, "rowcount", 0)), upto < last


def _trimmed_to(session: Session) -> int:
    row = session.get(MetaRow, _TRIMMED)
    return 0 if row is None else int(row.value)


def _change(row: ChangeRow) -> Change:
    return Change(row.seq, row.topic, row.at_utc, row.data, row.action)  # type: ignore[arg-type]


__all__ = ["Action", "ChangeStore", "Draft", "Topic", "record_changes"]
