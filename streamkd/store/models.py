"""Model versions, which of them serves, and which one served before."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from streamkd.errors import ConflictError, NotFoundError
from streamkd.store.changes import Draft, record_changes
from streamkd.store.database import Database
from streamkd.store.records import ModelRecord
from streamkd.store.schema import ActivationRow, ModelRow
from streamkd.store.serialize import deleted_json, json_ready, model_json

ROLLBACK = "rollback"


class ModelStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    def models(self) -> list[ModelRecord]:
        """All known versions, newest first."""
        with self._db.read() as session:
            live = _live_version(session)
            rows = session.scalars(select(ModelRow).order_by(ModelRow.created_utc.desc(), ModelRow.version.desc()))
            return [_record(row, live) for row in rows]

    def get_model(self, version: str) -> ModelRecord:
        """One version.

        Raises:
            NotFoundError: It is not known.
        """
        with self._db.read() as session:
            return _record(_row(session, version), _live_version(session))

    def add_model(self, record: ModelRecord) -> ModelRecord:
        """Make a version known; adding it again refreshes its path and metrics. `live` is ignored: see `activate`."""
        with self._db.write() as session:
            known = session.get(ModelRow, record.version)
            row = session.merge(
                ModelRow(
                    version=record.version,
                    path=record.path,
                    parent=record.parent,
                    created_utc=record.created_utc if known is None else known.created_utc,
                    metrics=json_ready(record.metrics),
                )
            )
            found = _record(row, _live_version(session))
            if known is None:
                record_changes(session, self._db.clock, [("model", "created", model_json(found))])
            return found

    def live_model(self) -> ModelRecord | None:
        """The version that serves; None before the first activation."""
        with self._db.read() as session:
            live = _live_version(session)
            return None if live is None else _record(_row(session, live), live)

    def previous_model(self) -> ModelRecord | None:
        """The version that a rollback brings back; None if there is none."""
        with self._db.read() as session:
            served = _served(session)
            return _record(_row(session, served[1].version), served[0].version) if len(served) > 1 else None

    def activate(self, version: str, reason: str) -> ModelRecord:
        """Let a version serve.

        With the reason "rollback", a version that served before is brought back by undoing everything since: a second
        rollback then goes further back, not forth again to the version that was just taken out.

        Args:
            version: A known version.
            reason: Why, in a word or a line; kept in the history.

        Raises:
            NotFoundError: The version is not known.
        """
        with self._db.write() as session:
            row = _row(session, version)
            served = _served(session)
            live = served[0].version if served else None
            if live == version:
                return _record(row, live)
            depth = next((n for n, activation in enumerate(served) if activation.version == version), None)
            if reason == ROLLBACK and depth is not None:
                for activation in served[:depth]:
                    activation.undone_utc = self._db.clock.utc()
            else:
                session.add(ActivationRow(version=version, at_utc=self._db.clock.utc(), reason=reason))
            drafts: list[Draft] = [("model", "updated", model_json(_record(row, version)))]
            if live is not None:
                drafts.insert(0, ("model", "updated", model_json(_record(_row(session, live), version))))
            record_changes(session, self._db.clock, drafts)
            return _record(row, version)

    def rollback(self) -> ModelRecord:
        """Let the version before serve again.

        Raises:
            ConflictError: There is none.
        """
        previous = self.previous_model()
        if previous is None:
            raise ConflictError("There is no earlier model to roll back to.", hint="Promote a version by its name.")
        return self.activate(previous.version, ROLLBACK)

    def prune_models(self, keep: int) -> list[ModelRecord]:
        """Forget all but the newest `keep` versions; the live one and the one before it always stay.

        Returns:
            What was forgotten. Their folders are the caller's to delete: after this, so that no row ever points to a
            bundle that is gone.
        """
        with self._db.write() as session:
            served = _served(session)
            kept = {activation.version for activation in served[:2]}
            rows = session.scalars(select(ModelRow).order_by(ModelRow.created_utc.desc(), ModelRow.version.desc()))
            gone = [row for row in rows.all()[keep:] if row.version not in kept]
            records = [_record(row, None) for row in gone]
            for row in gone:
                session.delete(row)
            record_changes(session, self._db.clock, [("model", "deleted", _gone(row.version)) for row in gone])
            return records


def _gone(version: str) -> dict[str, object]:
    return deleted_json(version) | {"version": version}


def _served(session: Session) -> list[ActivationRow]:
    """Activations that count, newest first, without repetitions of the one before."""
    rows = session.scalars(
        select(ActivationRow).where(ActivationRow.undone_utc.is_(None)).order_by(ActivationRow.id.desc())
    ).all()
    return [row for n, row in enumerate(rows) if n == 0 or rows[n - 1].version != row.version]


def _live_version(session: Session) -> str | None:
    return session.scalar(
        select(ActivationRow.version)
        .where(ActivationRow.undone_utc.is_(None))
        .order_by(ActivationRow.id.desc())
        .limit(1)
    )


def _row(session: Session, version: str) -> ModelRow:
    row = session.get(ModelRow, version)
    if row is None:
        raise NotFoundError(f"There is no model {version!r}.", hint="GET /v1/models lists them.")
    return row


def _record(row: ModelRow, live: str | None) -> ModelRecord:
    return ModelRecord(row.version, row.path, row.parent, row.created_utc, row.version == live, row.metrics)


__all__ = ["ROLLBACK", "ModelStore"]
