"""What is remembered: cameras, events, live changes, models, refreshes; in SQLite or PostgreSQL.

Loaded when asked for: every worker imports `streamkd.store.records`, and has no use for SQLAlchemy's 20 MB.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamkd.store.migrate import upgrade
    from streamkd.store.repository import Repository, open_repository

_HOMES = {
    "Repository": "streamkd.store.repository",
    "open_repository": "streamkd.store.repository",
    "upgrade": "streamkd.store.migrate",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


__all__ = ["Repository", "open_repository", "upgrade"]
