"""The tables. Alembic's migrations and this file describe the same schema; a test compares them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Text,
    TypeDecorator,
    or_,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA_REVISION = "0002"  # the newest migration; revisions sort as text

_Sequence = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER counts up by itself in SQLite
_Json = JSON(none_as_null=True)


class UtcDateTime(TypeDecorator[datetime]):
    """Timezone-aware UTC in and out, on databases with and without time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value} has no time zone; the store takes timezone-aware times")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's spelling
        str: Text(),
        float: Double(),
        datetime: UtcDateTime(),
        dict[str, Any]: _Json,
        dict[str, float]: _Json,
    }


class CameraRow(Base):
    """`config` holds the URL with its secrets: they are needed to connect again after a restart."""

    __tablename__ = "cameras"

    id: Mapped[str] = mapped_column(primary_key=True)
    origin: Mapped[str]
    position: Mapped[int]
    config: Mapped[dict[str, Any]]


class EventRow(Base):
    """Events outlive their camera, so `camera_id` is no foreign key."""

    __tablename__ = "events"

    id: Mapped[str] = mapped_column(primary_key=True)
    camera_id: Mapped[str]
    kind: Mapped[str]
    label: Mapped[str]
    start_utc: Mapped[datetime]
    end_utc: Mapped[datetime | None]
    start_pts_s: Mapped[float]
    end_pts_s: Mapped[float | None]
    score: Mapped[float]
    model_version: Mapped[str]
    epoch: Mapped[str]
    revision: Mapped[int]  # counts every change; what people see
    worker_revision: Mapped[int]  # the worker's own; what makes delivery idempotent
    interrupted: Mapped[bool] = mapped_column(default=False)
    verdict: Mapped[str | None]
    note: Mapped[str] = mapped_column(default="")
    snapshot: Mapped[str | None]  # path below the media folder
    clip: Mapped[str | None]  # the same


Index("ix_events_start_utc_id", EventRow.start_utc, EventRow.id)
Index("ix_events_camera_id_start_utc_id", EventRow.camera_id, EventRow.start_utc, EventRow.id)
Index("ix_events_label_start_utc_id", EventRow.label, EventRow.start_utc, EventRow.id)
Index("ix_events_kind_start_utc_id", EventRow.kind, EventRow.start_utc, EventRow.id)
Index("ix_events_end_utc", EventRow.end_utc)
Index(
    "ix_events_open",
    EventRow.camera_id,
    sqlite_where=EventRow.end_utc.is_(None),
    postgresql_where=EventRow.end_utc.is_(None),
)
HAS_MEDIA = or_(EventRow.snapshot.is_not(None), EventRow.clip.is_not(None))
Index(
    "ix_events_media",
    EventRow.start_utc,
    EventRow.id,
    sqlite_where=HAS_MEDIA,
    postgresql_where=HAS_MEDIA,
)


class ChangeRow(Base):
    """The live stream. AUTOINCREMENT, because a plain rowid is used again after the newest row was deleted."""

    __tablename__ = "changes"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012

    seq: Mapped[int] = mapped_column(_Sequence, primary_key=True)
    topic: Mapped[str]
    action: Mapped[str]
    at_utc: Mapped[datetime]
    data: Mapped[dict[str, Any]]


class ModelRow(Base):
    __tablename__ = "models"

    version: Mapped[str] = mapped_column(primary_key=True)
    path: Mapped[str]
    parent: Mapped[str | None]
    created_utc: Mapped[datetime]
    metrics: Mapped[dict[str, Any]]


class ActivationRow(Base):
    """Which model served since when; the newest row that is not undone is live, a rollback undoes it."""

    __tablename__ = "activations"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012

    id: Mapped[int] = mapped_column(_Sequence, primary_key=True)
    version: Mapped[str] = mapped_column(ForeignKey("models.version", ondelete="CASCADE"), index=True)
    at_utc: Mapped[datetime]
    reason: Mapped[str]
    undone_utc: Mapped[datetime | None]


class RefreshRow(Base):
    __tablename__ = "refreshes"

    id: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    step: Mapped[str]
    progress: Mapped[float]
    started_utc: Mapped[datetime] = mapped_column(index=True)
    ended_utc: Mapped[datetime | None]
    parent_version: Mapped[str]
    candidate_version: Mapped[str | None]
    self_test: Mapped[str | None]
    detail: Mapped[str]
    gate: Mapped[dict[str, Any] | None]
    steps_s: Mapped[dict[str, float]]


class MetaRow(Base):
    """What the service remembers about itself, by name."""

    __tablename__ = "meta"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


__all__ = [
    "HAS_MEDIA",
    "SCHEMA_REVISION",
    "ActivationRow",
    "Base",
    "CameraRow",
    "ChangeRow",
    "EventRow",
    "MetaRow",
    "ModelRow",
    "RefreshRow",
    "UtcDateTime",
]
