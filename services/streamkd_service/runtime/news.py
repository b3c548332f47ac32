"""Who waits for changes is woken as soon as there are some."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from streamkd_service.runtime.ports import ChangeBatch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streamkd.clock import Clock
    from streamkd.store.repository import Repository


class News:
    """Changes of the store as they are committed; used on the Controller's event loop.

    Args:
        repository: Where changes are.
        db: Runs a call on the database's thread.
        clock: Time.
    """

    def __init__(self, repository: Repository, db: Callable[[Callable[[], Any]], Awaitable[Any]], clock: Clock) -> None:
        self._repository = repository
        self._db = db
        self._clock = clock
        self._arrived = asyncio.Event()

    def announce(self) -> None:
        """Wake who waits for changes; after the commit, never before."""
        self._arrived.set()
        self._arrived = asyncio.Event()

    async def after(self, seq: int, timeout_s: float, limit: int) -> ChangeBatch:
        """Changes newer than `seq`; waits up to `timeout_s` for the first."""
        deadline_s = self._clock.monotonic_s() + timeout_s
        while True:
            arrived = self._arrived  # taken before reading: what is committed meanwhile sets it
            reset, latest, changes = await self._db(partial(self._repository.changes_after, seq, limit))
            left_s = deadline_s - self._clock.monotonic_s()
            if reset or changes or left_s <= 0:
                return ChangeBatch(reset, latest, changes)
            try:
                await asyncio.wait_for(arrived.wait(), left_s)
            except TimeoutError:
                return ChangeBatch(reset=False, latest_seq=latest, changes=())


__all__ = ["News"]
