"""The one object through which the store is read and written."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from streamkd.clock import Clock
from streamkd.store.cameras import CameraStore
from streamkd.store.changes import ChangeStore
from streamkd.store.clips import ClipStore
from streamkd.store.database import Database
from streamkd.store.events import EventStore
from streamkd.store.models import ModelStore
from streamkd.store.refreshes import RefreshStore
from streamkd.store.retention import RetentionStore


class Repository(CameraStore, EventStore, ClipStore, ChangeStore, ModelStore, RefreshStore, RetentionStore):
    """Cameras, events, clips, changes, models, refreshes and retention; every call is one short transaction.

    Calls block and may come from any thread. What a call returns is a frozen record. Writes are durable when it
    returns; every write publishes its changes in the same transaction. Every call may raise `StoreError`.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)

    @property
    def kind(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._db.kind

    @property
    def name(self) -> str:
        """The database for messages: without user and password."""
        return self._db.name

    def close(self) -> None:
        """Give the connections back. SQLite then folds its write-ahead log into the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_repository(url: str, *, read_only: bool = False, clock: Clock | None = None) -> Repository:
    """Open a database that `upgrade` has prepared.

    Args:
        url: `sqlite:///path`, `postgresql://user:password@host/name`.
        read_only: For readers beside the one writer; the database itself refuses their writes.
        clock: Gives the times of changes.

    Raises:
        StoreError: It can't be reached, or its schema is not this version's; says what to do.
    """
    database = Database(url, read_only=read_only, clock=clock)
    try:
        database.check_exists()
        database.check_revision()
    except BaseException:
        database.close()
        raise
    return Repository(database)


__all__ = ["Repository", "open_repository"]
