"""Opening, migrating, and what goes wrong: one line that says what to try, never a password."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from streamkd.config import CameraConfig
from streamkd.errors import StoreError
from streamkd.store import open_repository, upgrade
from streamkd.store.database import Database, create_sqlite_file, parse_url, sole_use
from streamkd.store.migrate import MIGRATIONS
from streamkd.store.schema import SCHEMA_REVISION, Base
from streamkd_service.cli.db import db_upgrade

DRAFT = ("camera", "updated", {"id": "gate"})


def set_revision(url, revision):
    database = Database(url)
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    database.close()


def everything_told(error):
    """The message, the hint, and the whole traceback as a log would show it."""
    return "".join(traceback.format_exception(error)) + str(error)


def test_migrations_make_the_schema_that_the_code_describes(database_url):
    database = Database(database_url)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
    database.close()


def test_the_schema_revision_is_the_newest_migration():
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA_REVISION]


def test_an_empty_database_is_brought_up_and_then_left_alone(empty_url):
    assert upgrade(empty_url) == (None, SCHEMA_REVISION)
    assert upgrade(empty_url) == (SCHEMA_REVISION, SCHEMA_REVISION)


def test_two_upgrades_at_once_both_succeed(empty_url):
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(upgrade, [empty_url] * 2))
    assert {after for _, after in outcomes} == {SCHEMA_REVISION}


def test_opening_before_the_upgrade_says_what_to_run(empty_url):
    with pytest.raises(StoreError, match="db upgrade"):
        open_repository(empty_url)


def test_opening_creates_no_file(tmp_path):
    with pytest.raises(StoreError, match="db upgrade"):
        open_repository(f"sqlite:///{tmp_path}/new.db")
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize("use", [upgrade, open_repository])
def test_a_database_of_a_newer_version_is_refused(database_url, use):
    set_revision(database_url, "9999")
    with pytest.raises(StoreError, match="newer streamkd"):
        use(database_url)


def test_a_database_of_an_older_version_says_what_to_run(database_url):
    set_revision(database_url, "0000")
    with pytest.raises(StoreError, match="db upgrade"):
        open_repository(database_url)


def test_a_reader_can_not_write(database_url):
    with open_repository(database_url, read_only=True) as reader, pytest.raises(StoreError, match="reading only"):
        reader.add_changes([DRAFT])


def test_the_database_itself_refuses_a_readers_write(database_url):
    with (
        open_repository(database_url, read_only=True) as reader,
        pytest.raises(StoreError, match=r"read-?only"),
        reader._db.read() as session,
    ):
        session.execute(text("DELETE FROM changes"))


def test_a_reader_beside_a_busy_writer_is_not_blocked(database_url, repository):
    with open_repository(database_url, read_only=True) as reader, repository._db.write() as session:
        session.execute(text("DELETE FROM changes"))
        assert reader.changes_after(0) == (False, 0, ())


def test_writers_in_many_threads_wait_for_each_other(repository):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: repository.add_changes([DRAFT])[0].seq, range(40)))
    assert sorted(made) == list(range(1, 41))


def test_a_seq_is_visible_only_with_everything_before_it(repository, database_url):
    """A reader that polls while two writers commit never sees a gap that is filled later."""
    seen, ended = [], threading.Event()

    def follow():
        with open_repository(database_url, read_only=True) as reader:
            while not ended.is_set() or reader.changes_after(seen[-1] if seen else 0)[2]:
                seen.extend(change.seq for change in reader.changes_after(seen[-1] if seen else 0)[2])

    thread = threading.Thread(target=follow)
    thread.start()
    with open_repository(database_url) as second, ThreadPoolExecutor(2) as pool:
        for writer in (repository, second) * 15:
            pool.submit(writer.add_changes, [DRAFT, DRAFT])
    ended.set()
    thread.join(30)
    assert seen == list(range(1, 61))


def test_another_driver_for_sqlite_makes_no_difference(tmp_path):
    upgrade(f"sqlite+aiosqlite:///{tmp_path / 's.db'}")
    assert (tmp_path / "s.db").exists()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nonsense", "not a database URL"),
        ("mysql://user:hunter2@host/db", "not supported"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("postgresql://user:hunter2@127.0.0.1:1/db", "refused"),
        ("postgresql://user:hunter2@no-such-host.invalid/db", "host"),
    ],
)
def test_a_wrong_url_is_explained_without_its_password(url, told):
    with pytest.raises(StoreError, match=told) as caught:
        upgrade(url)
    assert "hunter2" not in everything_told(caught.value)


def test_a_wrong_password_is_explained_and_not_shown(postgres):
    url = postgres.url(password=f"hunter{1 + 1}")  # the traceback quotes this line
    with pytest.raises(StoreError, match="Check user and password") as caught:
        upgrade(url)
    assert "hunter2" not in everything_told(caught.value)


def test_a_missing_database_is_named(postgres):
    with pytest.raises(StoreError, match="Create it first"):
        upgrade(postgres.url("nowhere"))


def test_a_lost_connection_is_replaced(postgres_url):
    with open_repository(postgres_url) as repository:
        repository.add_changes([DRAFT])
        with open_repository(postgres_url) as other, other._db.write() as session:
            others = "datname = current_database() AND pid <> pg_backend_pid()"
            session.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"))
        assert repository.add_changes([DRAFT])[0].seq == 2


def test_a_failing_statement_does_not_show_its_values(repository):
    repository.add_camera(CameraConfig(id="gate", url="rtsp://viewer:hunter2@192.0.2.1/x"))
    row = {"id": "gate", "config": "rtsp://viewer:hunter2@192.0.2.1/x"}
    with pytest.raises(StoreError) as caught, repository._db.write() as session:
        session.execute(text("INSERT INTO cameras (id, config) VALUES (:id, :config)"), row)
    assert "hunter2" not in everything_told(caught.value)


def test_a_missing_driver_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"streamkd\[postgres\]"):
        Database("postgresql://user@host/db")


def test_a_folder_that_can_not_be_written_is_named(tmp_path):
    locked = tmp_path / "file"
    locked.write_text("not a folder")
    with pytest.raises(StoreError, match="Make the folder writable"):
        upgrade(f"sqlite:///{locked}/streamkd.db")


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("x" * 4096)
    with pytest.raises(StoreError, match="is something else"):
        upgrade(f"sqlite:///{tmp_path}/notes.txt")


def test_a_database_that_another_program_holds_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("streamkd.store.database._BUSY_TIMEOUT_MS", 50)
    upgrade(f"sqlite:///{tmp_path}/x.db")
    holder = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with open_repository(f"sqlite:///{tmp_path}/x.db") as repository, pytest.raises(StoreError, match="holds"):
        repository.add_changes([DRAFT])
    holder.close()


def test_only_its_owner_can_read_the_database(tmp_path):
    upgrade(f"sqlite:///{tmp_path}/x.db")
    with open_repository(f"sqlite:///{tmp_path}/x.db") as repository:
        repository.add_changes([DRAFT])
        assert {oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()} == {"0o600"}


def test_sqlite_keeps_acknowledged_writes_through_a_power_cut(tmp_path):
    upgrade(f"sqlite:///{tmp_path}/x.db")
    with open_repository(f"sqlite:///{tmp_path}/x.db") as repository, repository._db.write() as session:
        pragmas = [session.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")]
    assert pragmas == ["wal", 2]


def test_the_name_for_messages_has_no_password(postgres):
    database = Database(postgres.url("db"))
    assert database.name == f"postgresql+psycopg://***@127.0.0.1:{postgres.port}/db"
    database.close()


def test_db_upgrade_says_what_it_did(tmp_path, capsys):
    for _ in range(2):
        db_upgrade(config=None, url=f"sqlite:///{tmp_path}/x.db")
    created, again = capsys.readouterr().out.splitlines()
    assert created.endswith(f"x.db was created (schema {SCHEMA_REVISION}).")
    assert again.endswith(f"x.db is up to date (schema {SCHEMA_REVISION}).")


def test_the_store_imports_neither_alembic_nor_model_code():
    code = "import streamkd.store, sys; print([m for m in ('alembic', 'torch', 'openvino', 'ray') if m in sys.modules])"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_postgresql_database_is_held_by_one_service_at_a_time(postgres_url):
    with sole_use(postgres_url) as first, sole_use(postgres_url) as second:
        assert (first, second) == (True, False)


def test_a_service_that_has_ended_leaves_its_database_free(postgres_url):
    with sole_use(postgres_url):
        pass
    with sole_use(postgres_url) as again:
        assert again


def test_a_database_that_can_not_be_reached_is_a_store_error():
    with pytest.raises(StoreError), sole_use("postgresql://u:p@127.0.0.1:1/x"):
        pass


def test_the_first_schema_is_upgraded_with_its_events(empty_url):
    """An event of a database that was made before clips is there afterwards, without one."""
    if empty_url.startswith("sqlite"):
        create_sqlite_file(parse_url(empty_url))
    database = Database(empty_url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(text(OLD_EVENT))
    database.close()
    assert upgrade(empty_url) == ("0001", SCHEMA_REVISION)
    with open_repository(empty_url) as repository:
        assert repository.get_event("e").has_clip is False


OLD_EVENT = """
INSERT INTO events (id, camera_id, kind, label, start_utc, start_pts_s, score, model_version, epoch, revision,
worker_revision, interrupted, note, snapshot)
VALUES ('e', 'gate', 'action', 'fight', '2026-01-01 00:00:00.000000', 0, 0.5, 'm', 'x', 1, 1, false, '', 'a.jpg')
"""
