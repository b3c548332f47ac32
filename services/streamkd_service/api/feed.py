"""Keeps the metrics up to date: on every scrape, and now and then between, so that no worker's last totals are lost."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from streamkd.errors import StreamkdError

if TYPE_CHECKING:
    from streamkd_service.api.dependencies import Metrics
    from streamkd_service.runtime.ports import ControllerPort

EVERY_S = 5.0
FRESH_S = 0.5  # several scrapes at once ask the Controller once
ANSWER_S = 3.0  # a scrape gets the last known figures rather than none
_log = structlog.get_logger("streamkd.api")


class MetricsFeed:
    """Pulls totals and states from the Controller into the metrics."""

    def __init__(self, controller: ControllerPort, metrics: Metrics) -> None:
        self._controller = controller
        self._metrics = metrics
        self._lock = asyncio.Lock()
        self._refreshed_s = float("-inf")

    async def run(self) -> None:
        while True:
            try:
                await self.refresh()
            except Exception:  # noqa: BLE001 - a defect must not end the figures for good
                _log.exception("metrics are not fresh")
            await asyncio.sleep(EVERY_S)

    async def refresh(self) -> None:
        """Bring the metrics up to date; while the Controller is away they stay as they are."""
        async with self._lock:
            if time.monotonic() - self._refreshed_s < FRESH_S:
                return
            try:
                async with asyncio.timeout(ANSWER_S):
                    totals, cameras, system = await asyncio.gather(
                        self._controller.totals(), self._controller.list_cameras(), self._controller.system()
                    )
            except (StreamkdError, TimeoutError) as error:
                _log.warning("metrics are not fresh", reason=str(error) or "the Controller does not answer")
                return
            self._metrics.fold(totals)
            self._metrics.set_cameras(cameras)
            self._metrics.set_system(system)
            self._refreshed_s = time.monotonic()


__all__ = ["MetricsFeed"]
