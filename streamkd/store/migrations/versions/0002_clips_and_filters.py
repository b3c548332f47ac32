"""Event clips, and indices for pages that are filtered by label or kind."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("events", sa.Column("clip", sa.Text(), nullable=True))
    op.create_index("ix_events_label_start_utc_id", "events", ["label", "start_utc", "id"])
    op.create_index("ix_events_kind_start_utc_id", "events", ["kind", "start_utc", "id"])
    op.drop_index("ix_events_snapshots", "events")
    has_media = sa.text("snapshot IS NOT NULL OR clip IS NOT NULL")
    op.create_index(
        "ix_events_media", "events", ["start_utc", "id"], sqlite_where=has_media, postgresql_where=has_media
    )
