"""Cameras: the YAML's, replaced as a whole at every start, and the API's, which live here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from streamkd.config import CameraConfig
from streamkd.errors import ConfigError, ConflictError, NotFoundError
from streamkd.store.changes import Draft, record_changes
from streamkd.store.database import Database
from streamkd.store.records import CameraOrigin, CameraRecord
from streamkd.store.schema import CameraRow
from streamkd.store.serialize import camera_json, deleted_json


class CameraStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    def list_cameras(self) -> list[CameraRecord]:
        """All cameras: the YAML's in its order, then the API's in the order they were added."""
        with self._db.read() as session:
            rows = session.scalars(
                select(CameraRow).order_by(CameraRow.origin.desc(), CameraRow.position, CameraRow.id)
            )
            return [_record(row) for row in rows]

    def sync_config_cameras(self, configs: Iterable[CameraConfig]) -> list[CameraRecord]:
        """Make the YAML's cameras exactly these; the API's stay.

        Returns:
            All cameras.

        Raises:
            ConfigError: An id belongs to a camera that was added through the API. Neither may silently win: one of
                them has a password that somebody relies on.
        """
        wanted = {config.id: (position, config) for position, config in enumerate(configs)}
        with self._db.write() as session:
            known = {row.id: row for row in session.scalars(select(CameraRow))}
            taken = sorted(id_ for id_ in wanted if id_ in known and known[id_].origin == CameraOrigin.API)
            if taken:
                raise ConfigError(
                    f"The configuration names {_names(taken)}, which was already added through the API.",
                    hint="Delete it there (DELETE /v1/cameras/{id}), or give the one in the file another id.",
                )
            drafts: list[Draft] = []
            for id_, row in known.items():
                if row.origin == CameraOrigin.CONFIG and id_ not in wanted:
                    session.delete(row)
                    drafts.append(("camera", "deleted", deleted_json(id_)))
            for id_, (position, config) in wanted.items():
                old = known.get(id_)
                changed = old is None or old.config != dump_camera(config)
                session.merge(
                    CameraRow(id=id_, origin=CameraOrigin.CONFIG, position=position, config=dump_camera(config))
                )
                if changed:
                    what = camera_json(config, CameraOrigin.CONFIG)
                    drafts.append(("camera", "created" if old is None else "updated", what))
            record_changes(session, self._db.clock, drafts)
        return self.list_cameras()

    def add_camera(self, config: CameraConfig, origin: CameraOrigin = CameraOrigin.API) -> CameraRecord:
        """Add a camera.

        Raises:
            ConflictError: There is one with this id.
        """
        with self._db.write() as session:
            if session.get(CameraRow, config.id) is not None:
                raise ConflictError(
                    f"There is already a camera {config.id!r}.", hint="Choose another id, or change that camera."
                )
            position = (session.scalar(select(func.max(CameraRow.position))) or 0) + 1
            row = CameraRow(id=config.id, origin=origin, position=position, config=dump_camera(config))
            session.add(row)
            record_changes(session, self._db.clock, [("camera", "created", camera_json(config, origin))])
        return CameraRecord(config, origin)

    def update_camera(self, config: CameraConfig) -> CameraRecord:
        """Replace the settings of a camera that the API owns.

        Raises:
            NotFoundError: There is none with this id.
            ConflictError: It belongs to the YAML.
        """
        with self._db.write() as session:
            row = _owned_by_api(session, config.id)
            if row.config != dump_camera(config):
                row.config = dump_camera(config)
                record_changes(session, self._db.clock, [("camera", "updated", camera_json(config, CameraOrigin.API))])
        return CameraRecord(config, CameraOrigin.API)

    def delete_camera(self, camera_id: str) -> None:
        """Forget a camera that the API owns; its events stay until retention takes them.

        Raises:
            NotFoundError: There is none with this id.
            ConflictError: It belongs to the YAML.
        """
        with self._db.write() as session:
            session.delete(_owned_by_api(session, camera_id))
            record_changes(session, self._db.clock, [("camera", "deleted", deleted_json(camera_id))])


def dump_camera(config: CameraConfig) -> dict[str, Any]:
    """The settings as they are stored: with the URL's secrets, which a reconnect needs."""
    return config.stored()


def _record(row: CameraRow) -> CameraRecord:
    # A setting that this version no longer knows must not keep the service from starting.
    known = {key: value for key, value in row.config.items() if key in CameraConfig.model_fields}
    return CameraRecord(CameraConfig.model_validate(known), CameraOrigin(row.origin))


def _owned_by_api(session: Session, camera_id: str) -> CameraRow:
    row = session.get(CameraRow, camera_id)
    if row is None:
        raise NotFoundError(f"There is no camera {camera_id!r}.", hint="GET /v1/cameras lists them.")
    if row.origin != CameraOrigin.API:
        raise ConflictError(
            f"Camera {camera_id!r} is defined in the configuration file, which owns it.",
            hint="Change it there and start the service again.",
        )
    return row


def _names(ids: list[str]) -> str:
    return f"camera{'s' if len(ids) > 1 else ''} {', '.join(map(repr, ids))}"


__all__ = ["CameraStore", "dump_camera"]
