"""Alembic's entry: runs on the connection (and in the transaction) that `streamkd.store.upgrade` opened."""

from alembic import context

from streamkd.store.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite can't alter a column in place
)
context.run_migrations()
