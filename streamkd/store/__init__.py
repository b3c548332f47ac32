"""What is remembered: cameras, events, live changes, models, refreshes; in SQLite or PostgreSQL."""

from streamkd.store.migrate import upgrade
from streamkd.store.repository import Repository, open_repository

__all__ = ["Repository", "open_repository", "upgrade"]
