"""What has to be thrown away now and then: old events, files over the quota, old live updates, old models."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from streamkd.errors import StoreError, StreamkdError
from streamkd.store.media import list_media

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from streamkd.config import Config
    from streamkd.store import Repository
    from streamkd.store.media import MediaFile
    from streamkd.store.records import PruneReport
    from streamkd_service.runtime.models import Models

_FIRST_AFTER_S = 30.0  # not while everything starts
_EVERY_S = 3600.0
_BETWEEN_STEPS_S = 0.2  # events are committed on the same thread
_log = structlog.get_logger(__name__)


class Housekeeping:
    """Runs retention in small steps on the database's thread."""

    def __init__(
        self,
        config: Config,
        repository: Repository,
        models: Models,
        db: Callable[[Callable[[], Any]], Awaitable[Any]],
    ) -> None:
        self._config = config
        self._repository = repository
        self._models = models
        self._db = db

    async def run(self) -> None:
        await asyncio.sleep(_FIRST_AFTER_S)
        while True:
            try:
                await self.once()
            except StreamkdError as error:
                _log.warning("retention failed, tried again later", reason=error.message)
            await asyncio.sleep(_EVERY_S)

    async def once(self) -> None:
        store, repository = self._config.store, self._repository
        more = True
        while more:
            _, more = await self._db(partial(repository.trim_changes, self._config.api.keep_changes))
            await asyncio.sleep(_BETWEEN_STEPS_S)
        await self._db(self._models.prune)
        now = datetime.now(UTC)
        await self._steps(lambda _: repository.prune_events(now, store.retention_days, store.media_dir))
        await self._steps(
            lambda files: repository.sweep_media(now, store.media_dir, store.media_quota_mb, files), lists=True
        )

    async def _steps(self, step: Callable[[list[MediaFile]], PruneReport], *, lists: bool = False) -> None:
        """Repeat a step until there is nothing left; files are listed beside the database's thread."""
        more = True
        while more:
            files = await asyncio.to_thread(_listed, self._config.store.media_dir) if lists else []
            report = await self._db(partial(step, files))
            more = report.more
            if report.bytes_freed or report.events:
                _log.info(
                    "retention",
                    events=report.events,
                    snapshots=report.snapshots,
                    clips=report.clips,
                    freed=report.bytes_freed,
                )
            await asyncio.sleep(_BETWEEN_STEPS_S)


def _listed(media_dir: Path) -> list[MediaFile]:
    try:
        return list(list_media(media_dir))
    except OSError as error:
        raise StoreError(f"The media folder {media_dir} can't be read: {error.strerror}.") from error


__all__ = ["Housekeeping"]
