"""`streamkd db upgrade`: the schema, without starting anything."""

from __future__ import annotations

from pathlib import Path

import typer

from streamkd.config import Config, load_config, redact_url
from streamkd.store import upgrade


def db_upgrade(
    config: Path | None = typer.Option(None, "--config", "-c", help="Configuration file; its store.url is used."),
    url: str | None = typer.Option(None, "--url", help="Database URL, in place of the configuration's."),
) -> None:
    """Create the database or bring it to this version's schema; `streamkd serve` does so by itself.

    All of it happens or nothing. A database that a newer streamkd has made is refused.
    """
    settings: Config = load_config(config)
    address = settings.store.url.get_secret_value() if url is None else url
    before, after = upgrade(address)
    did = "is up to date" if before == after else "was created" if before is None else f"was upgraded from {before}"
    print(f"{redact_url(address)} {did} (schema {after}).")


__all__ = ["db_upgrade"]
