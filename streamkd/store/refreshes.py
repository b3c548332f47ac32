"""Refreshes: one at a time, each step written down so that people can watch it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from streamkd.errors import ConflictError, InputError, NotFoundError
from streamkd.store.changes import record_changes
from streamkd.store.database import Database
from streamkd.store.records import RefreshRecord, RefreshStatus, RefreshStep
from streamkd.store.schema import RefreshRow
from streamkd.store.serialize import json_ready, refresh_json

_MUTABLE = frozenset(field.name for field in fields(RefreshRecord)) - {"id", "started_utc"}
_JSON = frozenset({"gate", "steps_s"})


class RefreshStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    def create_refresh(self, record: RefreshRecord) -> RefreshRecord:
        """Begin a refresh.

        Raises:
            ConflictError: One is running, or there is one with this id.
        """
        with self._db.write() as session:
            running = session.scalars(_running()).first()
            if running is not None and record.status is RefreshStatus.RUNNING:
                raise ConflictError(
                    f"Refresh {running.id} is running.", hint="Wait until it has ended; GET /v1/refreshes shows it."
                )
            if session.get(RefreshRow, record.id) is not None:
                raise ConflictError(f"There is already a refresh {record.id!r}.", hint="Choose another id.")
            row = RefreshRow(
                **{field.name: _column(field.name, getattr(record, field.name)) for field in fields(record)}
            )
            session.add(row)
            record_changes(session, self._db.clock, [("refresh", "created", refresh_json(record))])
            return record

    def update_refresh(self, refresh_id: str, **changed: Any) -> RefreshRecord:
        """Write down progress: any fields of `RefreshRecord` except `id` and `started_utc`.

        A status other than `running` sets `ended_utc` by itself.

        Raises:
            NotFoundError: There is no such refresh.
        """
        unknown = changed.keys() - _MUTABLE
        if unknown:
            raise TypeError(f"a refresh has no changeable field {', '.join(sorted(unknown))}")
        with self._db.write() as session:
            row = _row(session, refresh_id)
            ends = changed.get("status", RefreshStatus.RUNNING) != RefreshStatus.RUNNING
            if ends and row.ended_utc is None:
                changed.setdefault("ended_utc", self._db.clock.utc())
            for name, value in changed.items():
                setattr(row, name, _column(name, value))
            record = _record(row)
            record_changes(session, self._db.clock, [("refresh", "updated", refresh_json(record))])
            return record

    def get_refresh(self, refresh_id: str) -> RefreshRecord:
        """One refresh.

        Raises:
            NotFoundError: There is no such refresh.
        """
        with self._db.read() as session:
            return _record(_row(session, refresh_id))

    def list_refreshes(self, limit: int = 50) -> list[RefreshRecord]:
        """Refreshes, newest first.

        Raises:
            InputError: The limit is below 1.
        """
        if limit < 1:
            raise InputError(f"limit is {limit}.", hint="Choose 1 or more.")
        newest = select(RefreshRow).order_by(RefreshRow.started_utc.desc(), RefreshRow.id.desc()).limit(limit)
        with self._db.read() as session:
            return [_record(row) for row in session.scalars(newest)]


def _running() -> Any:
    return select(RefreshRow).where(RefreshRow.status == RefreshStatus.RUNNING).order_by(RefreshRow.id)


def _row(session: Session, refresh_id: str) -> RefreshRow:
    row = session.get(RefreshRow, refresh_id)
    if row is None:
        raise NotFoundError(f"There is no refresh {refresh_id!r}.", hint="GET /v1/refreshes lists them.")
    return row


def _column(name: str, value: Any) -> Any:
    return json_ready(value) if name in _JSON else value


def _record(row: RefreshRow) -> RefreshRecord:
    values = {field.name: getattr(row, field.name) for field in fields(RefreshRecord)}
    return RefreshRecord(**values | {"status": RefreshStatus(row.status), "step": RefreshStep(row.step)})


__all__ = ["RefreshStore"]
