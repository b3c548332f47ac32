"""Bring a database to this version's schema, from an installed package as well as from a clone."""

from __future__ import annotations

from pathlib import Path

from streamkd.errors import StoreError
from streamkd.store.database import Database, create_sqlite_file, newer_schema, parse_url, read_revision
from streamkd.store.schema import SCHEMA_REVISION

MIGRATIONS = Path(__file__).with_name("migrations")


def upgrade(url: str) -> tuple[str | None, str]:
    """Create or migrate the database in one transaction: either all of it happens or nothing.

    Returns:
        The schema's version before (None: the database was empty) and after.

    Raises:
        StoreError: The database can't be reached or written, or a newer streamkd has made it.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        create_sqlite_file(parsed)
    database = Database(url)
    try:
        with database.begin() as connection:
            before = read_revision(connection)
            if before is not None and before > SCHEMA_REVISION:
                raise newer_schema(database.name, before)
            if before != SCHEMA_REVISION:
                _run(connection, database.name)
        return before, SCHEMA_REVISION
    finally:
        database.close()


def _run(connection: object, name: str) -> None:
    from alembic import command  # noqa: PLC0415 - a third of a second that only an upgrade has to pay
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, SCHEMA_REVISION)
    except CommandError as error:
        raise StoreError(
            f"The database {name} can't be migrated: {error}.", hint="Set store.url to another database."
        ) from error


__all__ = ["MIGRATIONS", "upgrade"]
