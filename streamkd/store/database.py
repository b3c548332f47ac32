"""Connections: SQLite by default, PostgreSQL by URL; every failure becomes a `StoreError` that says what to try."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, make_url, select, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session

from streamkd.clock import Clock, SystemClock
from streamkd.config import MASK, redact_url
from streamkd.errors import StoreError
from streamkd.store.schema import SCHEMA_REVISION

_BUSY_TIMEOUT_MS = 10_000
_CONNECT_TIMEOUT_S = 5
_WRITER_LOCK = 7_322_017_001  # any number that is ours: PostgreSQL's advisory locks are named by one
_SERVICE_LOCK = 7_322_017_002
_WRITE = {"streamkd_write": True}


class Database:
    """One engine, and the two kinds of transaction that the store knows.

    Args:
        url: SQLAlchemy URL; `postgresql://` and `postgres://` mean psycopg 3.
        read_only: Refuse every write, in the database itself.
        clock: Gives the times of changes.

    Raises:
        StoreError: The URL is wrong, or the driver is missing. Nothing is connected yet.
    """

    def __init__(self, url: str, *, read_only: bool = False, clock: Clock | None = None) -> None:
        self.url = parse_url(url)
        self.kind = self.url.get_backend_name()
        self.clock = clock or SystemClock()
        self.read_only = read_only
        self.engine = _engine(self.url, read_only=read_only)
        options: dict[str, Any] = {}
        if self.kind == "postgresql":
            # One snapshot for all statements of a read, as SQLite gives it.
            options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        self._reader = self.engine.execution_options(**options)
        self._writer = self.engine.execution_options(**_WRITE)

    @property
    def name(self) -> str:
        """The database for messages: without user and password."""
        return (self.url.database or "") if self.kind == "sqlite" else redact_url(_with_password(self.url))

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A short transaction that sees one state of the database."""
        with self.translated("read"), Session(self._reader, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that is durable when the block ends; writers wait for each other.

        Waiting at the beginning keeps `changes.seq` in commit order whatever else writes, and spares SQLite's
        deadlock of two readers that both want to become the writer.
        """
        if self.read_only:
            raise StoreError(f"The database {self.name} was opened for reading only.", hint="Write by the Controller.")
        with self.translated("write"), Session(self._writer, expire_on_commit=False) as session, session.begin():
            if self.kind == "postgresql":
                session.execute(select(func.pg_advisory_xact_lock(_WRITER_LOCK)))
            yield session

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A writing transaction on a bare connection, for migrations."""
        with self.translated("open"), self._writer.begin() as connection:
            if self.kind == "postgresql":
                connection.execute(select(func.pg_advisory_xact_lock(_WRITER_LOCK)))
            yield connection

    @contextmanager
    def translated(self, doing: str) -> Iterator[None]:
        """Errors of the database as `StoreError`, in one line without secrets."""
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise _translate(error, self, doing) from error

    def revision(self) -> str | None:
        """The schema's version; None for a database that has none yet."""
        with self.translated("open"), self._reader.begin() as connection:
            return read_revision(connection)

    def check_exists(self) -> None:
        """Refuse an SQLite file that is not there: connecting would create an empty one, readable by all.

        Raises:
            StoreError: There is no such file.
        """
        if self.kind == "sqlite" and not Path(str(self.url.database)).is_file():
            raise StoreError(f"There is no database {self.name}.", hint="Run: streamkd db upgrade.")

    def check_revision(self) -> None:
        """Refuse a schema that is not this version's.

        Raises:
            StoreError: The schema is missing, older or newer.
        """
        found = self.revision()
        if found == SCHEMA_REVISION:
            return
        if found is None or found < SCHEMA_REVISION:
            was = "has no tables yet" if found is None else f"has schema {found}, this version needs {SCHEMA_REVISION}"
            raise StoreError(f"The database {self.name} {was}.", hint="Run: streamkd db upgrade.")
        raise newer_schema(self.name, found)

    def close(self) -> None:
        """Give all connections back; the object can't be used afterwards."""
        self.engine.dispose()


@contextmanager
def sole_use(url: str) -> Iterator[bool]:
    """Hold a PostgreSQL database for one service; gives False where another service holds it.

    The lock belongs to a connection that is kept open meanwhile, so a service that dies leaves it behind free.

    Raises:
        StoreError: The database can't be reached.
    """
    database = Database(url)
    try:
        with (
            database.translated("open"),
            database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        ):
            held = bool(connection.scalar(select(func.pg_try_advisory_lock(_SERVICE_LOCK))))
            try:
                yield held
            finally:
                if held:  # else it is free only when the server has noticed that the connection is gone
                    with suppress(SQLAlchemyError):
                        connection.execute(select(func.pg_advisory_unlock(_SERVICE_LOCK)))
    finally:
        database.close()


def newer_schema(name: str, found: str) -> StoreError:
    """The error for a database that a later version of streamkd has upgraded."""
    return StoreError(
        f"The database {name} has schema {found}, made by a newer streamkd; this version knows up to "
        f"{SCHEMA_REVISION}.",
        hint="Install that newer version, or set store.url to another database.",
    )


def read_revision(connection: Connection) -> str | None:
    """The schema's version as Alembic wrote it."""
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def parse_url(url: str) -> URL:
    """Check and normalise a database URL.

    Raises:
        StoreError: It is no URL, or of a database that is not supported, or in memory.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError(  # without its cause, which quotes the URL
            f"store.url {redact_url(url)!r} is not a database URL.",
            hint="Write sqlite:///path/streamkd.db or postgresql://user:password@host/name.",
        ) from None
    backend = parsed.drivername.partition("+")[0]
    if backend in {"postgres", "postgresql"}:
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise StoreError(
            f"store.url names the database {backend!r}, which is not supported.", hint="Use sqlite or postgresql."
        )
    if parsed.database in {None, "", ":memory:"} or str(parsed.database).startswith("file:"):
        raise StoreError(
            "store.url names an SQLite database in memory; several processes share the database.",
            hint="Write sqlite:///path/streamkd.db.",
        )
    return parsed.set(drivername="sqlite")  # whatever driver it names: ours needs no other


def create_sqlite_file(url: URL) -> None:
    """Create an empty database that only its owner may read: it holds cameras' passwords.

    Raises:
        StoreError: The folder or file can't be written.
    """
    path = Path(str(url.database))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StoreError(
            f"The database {path} can't be opened: {error.strerror}.",
            hint="Make the folder writable for this user, or set store.url to another path.",
        ) from error


def _engine(url: URL, *, read_only: bool) -> Engine:
    # Parameters are camera URLs with passwords: never in an error's text.
    options: dict[str, Any] = {"hide_parameters": True}
    if url.get_backend_name() == "postgresql":
        # The server may restart under us.
        options |= {"pool_pre_ping": True, "connect_args": {"connect_timeout": _CONNECT_TIMEOUT_S}}
    try:
        engine = create_engine(url, **options)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise StoreError(
            "PostgreSQL needs the driver psycopg, which is not installed.",
            hint="Run: pip install 'streamkd[postgres]'.",
        ) from error
    if url.get_backend_name() == "sqlite":
        _configure_sqlite(engine, read_only=read_only)
    return engine


def _configure_sqlite(engine: Engine, *, read_only: bool) -> None:
    @event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves; the driver would only do so before a write
        connection.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA foreign_keys=ON")
        if read_only:
            connection.execute("PRAGMA query_only=ON")
            return
        _enter_wal(connection)
        # FULL: NORMAL survives kill -9, but in WAL mode the last commits are lost with the machine's power, and an
        # acknowledged event is promised to be kept. The price is one fsync a transaction, a few a second.
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("streamkd_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _enter_wal(connection: sqlite3.Connection) -> None:
    """Readers and the writer don't block each other in WAL mode; the file remembers it."""
    deadline_s = time.monotonic() + _BUSY_TIMEOUT_MS / 1000
    while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:  # another process is at it, and SQLite does not wait here by itself
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.01)


def _translate(error: Exception, database: Database, doing: str) -> StoreError:
    cause = str(getattr(error, "orig", None) or error)
    line = " ".join(cause.split("\n", 1)[0].split()).rstrip(".")
    if database.url.password:
        line = line.replace(str(database.url.password), MASK)
    lower = cause.lower()
    hints = {
        "password": "Check user and password in store.url.",
        "role": "Check user and password in store.url.",
        "does not exist": "Create it first (createdb), or check the name in store.url.",
        "refused": "Check that the database server runs and that host and port in store.url are right.",
        "timeout": "Check that the database server runs and that host and port in store.url are right.",
        "resolve": "Check the host in store.url.",
        "unable to open": "Make the folder writable for this user, or set store.url to another path.",
        "readonly": "Make the file and its folder writable for this user.",
        "read-only": "Make the file and its folder writable for this user.",
        "disk is full": "Free some space; nothing acknowledged is lost.",
        "locked": "Another program holds the database; stop it.",
        "not a database": "The file is something else; set store.url to another path.",
        "malformed": "Restore the file from a backup.",
    }
    hint = next((hints[key] for key in hints if key in lower), "See the database's own log.")
    return StoreError(f"The database {database.name} can't be {_PAST[doing]}: {line}.", hint=hint)


_PAST = {"read": "read", "write": "written", "open": "opened"}


def _with_password(url: URL) -> str:
    return url.render_as_string(hide_password=False)


__all__ = ["Database", "create_sqlite_file", "newer_schema", "parse_url", "read_revision", "sole_use"]
