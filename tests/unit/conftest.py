"""Databases for tests of the store: each test runs on SQLite, and on PostgreSQL where Debian's binaries are."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from streamkd.clock import FakeClock
from streamkd.store import Repository, open_repository, upgrade
from streamkd.store.schema import SCHEMA_REVISION, Base
from tests.postgres import PostgresServer, binaries, postgres_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    if binaries() is None:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    pytest.importorskip("psycopg", reason="psycopg is not installed (pip install 'streamkd[postgres]')")
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_prepared(postgres: PostgresServer) -> str:
    """One database for all tests: a new one a test would be eight megabytes each."""
    url = postgres.create("prepared")
    upgrade(url)
    return url


@pytest.fixture
def postgres_url(postgres: PostgresServer, postgres_prepared: str) -> str:
    """A PostgreSQL database of this version's schema, empty."""
    tables = ", ".join(Base.metadata.tables)
    revision = f"UPDATE alembic_version SET version_num = '{SCHEMA_REVISION}'"
    postgres.run("prepared", f"TRUNCATE {tables} RESTART IDENTITY CASCADE", revision)
    return postgres_prepared


@pytest.fixture(scope="session")
def postgres_bare(postgres: PostgresServer) -> str:
    return postgres.create("bare")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of this version's schema, empty, for this test alone."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "streamkd.db")
        return f"sqlite:///{tmp_path / 'streamkd.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without any table; for SQLite, not even a file."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new' / 'streamkd.db'}"
    url: str = request.getfixturevalue("postgres_bare")
    request.getfixturevalue("postgres").run("bare", "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    return url


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(utc=datetime(2026, 1, 1, 12, tzinfo=UTC))


@pytest.fixture
def repository(database_url: str, clock: FakeClock) -> Iterator[Repository]:
    with open_repository(database_url, clock=clock) as opened:
        yield opened


@pytest.fixture
def media(tmp_path: Path) -> Path:
    return tmp_path / "media"
