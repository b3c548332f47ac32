"""Writes of many workers in few transactions: what arrives while one is under way is committed together in the next."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from streamkd.store.records import Change
    from streamkd.types import EventUpdate


class GroupCommit:
    """Each caller is answered after the transaction with its own updates; one that fails fails for all in it.

    Args:
        commit: Makes updates durable in one transaction and returns their changes.
    """

    def __init__(self, commit: Callable[[Sequence[EventUpdate]], Awaitable[Sequence[Change]]]) -> None:
        self._commit = commit
        self._waiting: list[tuple[Sequence[EventUpdate], asyncio.Future[bool]]] = []
        self._running: asyncio.Task[None] | None = None

    async def apply(self, updates: Sequence[EventUpdate]) -> bool:
        """Make updates durable; returns whether the transaction changed anything.

        Raises:
            StoreError: Whatever `commit` raised; all of the transaction's updates have to be delivered again.
        """
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((updates, done))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._commit_all(), name="commit")
        return await done

    async def _commit_all(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            try:
                changes = await self._commit([update for updates, _ in group for update in updates])
            except Exception as error:  # noqa: BLE001 - belongs to whoever asked
                for _, done in group:
                    if not done.done():
                        done.set_exception(error)
            else:
                for _, done in group:
                    if not done.done():
                        done.set_result(bool(changes))


__all__ = ["GroupCommit"]
