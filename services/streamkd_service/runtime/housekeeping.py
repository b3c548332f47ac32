"""What has to be thrown away now and then: old events, pictures over the quota, old live updates, old models."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from streamkd.errors import StreamkdError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streamkd.config import Config
    from streamkd.store import Repository
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
        store = self._config.store
        await self._db(partial(self._repository.trim_changes, self._config.api.keep_changes))
        await self._db(self._models.prune)
        more = True
        while more:
            step = partial(
                self._repository.prune,
                datetime.now(UTC),
                store.retention_days,
                store.media_dir,
                store.media_quota_mb,
            )
            report = await self._db(step)
            more = report.more
            if report.bytes_freed or report.events:
                _log.info("retention", events=report.events, snapshots=report.snapshots, freed=report.bytes_freed)
            await asyncio.sleep(_BETWEEN_STEPS_S)


__all__ = ["Housekeeping"]
