"""The first schema."""

import sqlalchemy as sa
from alembic import op

from streamkd.store.schema import UtcDateTime

revision = "0001"
down_revision = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _json() -> sa.JSON:
    return sa.JSON(none_as_null=True)


def upgrade() -> None:
    op.create_table(
        "cameras",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("config", _json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_cameras"),
    )
    _events()
    _models()
    op.create_table(
        "changes",
        sa.Column("seq", _SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("at_utc", UtcDateTime(), nullable=False),
        sa.Column("data", _json(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_changes"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "refreshes",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("progress", sa.Double(), nullable=False),
        sa.Column("started_utc", UtcDateTime(), nullable=False),
        sa.Column("ended_utc", UtcDateTime(), nullable=True),
        sa.Column("parent_version", sa.Text(), nullable=False),
        sa.Column("candidate_version", sa.Text(), nullable=True),
        sa.Column("self_test", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("gate", _json(), nullable=True),
        sa.Column("steps_s", _json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_refreshes"),
    )
    op.create_index("ix_refreshes_started_utc", "refreshes", ["started_utc"])
    op.create_table(
        "meta",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_meta"),
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("camera_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("start_utc", UtcDateTime(), nullable=False),
        sa.Column("end_utc", UtcDateTime(), nullable=True),
        sa.Column("start_pts_s", sa.Double(), nullable=False),
        sa.Column("end_pts_s", sa.Double(), nullable=True),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("worker_revision", sa.Integer(), nullable=False),
        sa.Column("interrupted", sa.Boolean(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("snapshot", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    op.create_index("ix_events_start_utc_id", "events", ["start_utc", "id"])
    op.create_index("ix_events_camera_id_start_utc_id", "events", ["camera_id", "start_utc", "id"])
    op.create_index("ix_events_end_utc", "events", ["end_utc"])
    is_open = sa.text("end_utc IS NULL")
    op.create_index("ix_events_open", "events", ["camera_id"], sqlite_where=is_open, postgresql_where=is_open)
    pictured = sa.text("snapshot IS NOT NULL")
    op.create_index("ix_events_snapshots", "events", ["start_utc"], sqlite_where=pictured, postgresql_where=pictured)


def _models() -> None:
    op.create_table(
        "models",
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=True),
        sa.Column("created_utc", UtcDateTime(), nullable=False),
        sa.Column("metrics", _json(), nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_models"),
    )
    op.create_table(
        "activations",
        sa.Column("id", _SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("at_utc", UtcDateTime(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("undone_utc", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["version"], ["models.version"], name="fk_activations_version", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_activations"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_activations_version", "activations", ["version"])
