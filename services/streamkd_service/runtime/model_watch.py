"""After a refresh has swapped its student in: count its alarms for a while, and take it back if there are too many."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from streamkd.errors import StreamkdError
from streamkd.refresh.registry import work_folder
from streamkd.refresh.watch import LOOKS, Alarms, WatchLimits, too_many
from streamkd.store.records import RefreshStatus
from streamkd.types import CameraState, EventKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from streamkd.clock import Clock
    from streamkd.store.records import RefreshRecord
    from streamkd.types import CameraStatus
    from streamkd_service.runtime.ports import RefreshHost

_BUCKET_S = 60
_SHOWN = 20  # refreshes looked through for one whose watch was interrupted
_BASELINE = "watch.json"
_log = structlog.get_logger(__name__)


class Exposure:
    """How long each model has watched each camera, by the minute; what is older than `keep_s` is forgotten."""

    def __init__(self, keep_s: float) -> None:
        self._keep = int(keep_s // _BUCKET_S) + 2
        self._seconds: dict[tuple[str, str], dict[int, float]] = {}  # (version, camera) → minute → seconds

    def add(self, statuses: Iterable[CameraStatus], now: datetime, seconds: float) -> None:
        """Every camera that is online was watched for so long."""
        minute = _minute(now)
        for status in statuses:
            if status.state is CameraState.ONLINE and status.model_version:
                buckets = self._seconds.setdefault((status.model_version, status.camera_id), {})
                buckets[minute] = buckets.get(minute, 0.0) + seconds
        for key, buckets in list(self._seconds.items()):
            while buckets and min(buckets) < minute - self._keep:
                del buckets[min(buckets)]
            if not buckets:
                del self._seconds[key]

    def watched_s(self, version: str, since: datetime) -> dict[str, float]:
        """Per camera, since the beginning of the minute of `since`."""
        first = _minute(since)
        return {
            camera: sum(seconds for minute, seconds in buckets.items() if minute >= first)
            for (model, camera), buckets in self._seconds.items()
            if model == version
        }


class ModelWatch:
    """Watches the last promoted candidate; a newer one, or any other change of the model, ends the watch.

    Args:
        host: The Controller.
        clock: Time.
        sleep: Waits so many seconds.
    """

    def __init__(
        self, host: RefreshHost, clock: Clock, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._host = host
        self._clock = clock
        self._sleep = sleep
        self._span_s = host.config.refresh.watch_s
        self._limits = WatchLimits(alarms_per_hour=host.config.refresh.watch_alarms_per_hour)
        self._exposure = Exposure(self._span_s)
        self._ticked_s: float | None = None
        self._task: asyncio.Task[None] | None = None

    def tick(self, statuses: Iterable[CameraStatus]) -> None:
        """Called about once a second: what the cameras do now."""
        now_s, last_s = self._clock.monotonic_s(), self._ticked_s
        self._ticked_s = now_s
        if last_s is not None:
            self._exposure.add(statuses, self._clock.utc(), now_s - last_s)

    def begin(self, refresh: RefreshRecord) -> None:
        """Watch what this refresh has promoted."""
        if self._task is not None:
            self._task.cancel()
        if self._span_s > 0:
            self._task = asyncio.create_task(self._run(refresh), name=f"watch-{refresh.id}")

    async def recover(self) -> None:
        """After a start: go on with a watch that was interrupted. Alarms are counted anew, those before are known."""
        for refresh in await self._host.db(partial(self._host.repository.list_refreshes, _SHOWN)):
            if refresh.status is RefreshStatus.PROMOTED and refresh.candidate_version == self._host.live_model.version:
                if self._left_s(refresh, LOOKS[-1]) > 0:
                    self.begin(refresh)
                return

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, refresh: RefreshRecord) -> None:
        try:
            reason = await self._watched(refresh)
            if reason is not None:
                await self._take_back(refresh, reason)
        except StreamkdError as error:
            _log.error("watch of the new model failed", refresh=refresh.id, reason=str(error))

    async def _watched(self, refresh: RefreshRecord) -> str | None:
        """Why the candidate has to go, as soon as that is known; None: it stays, or is no longer the live one."""
        version, began = str(refresh.candidate_version), self._clock.utc()
        before = await self._before(refresh)
        for look in LOOKS:
            left_s = self._left_s(refresh, look)
            if left_s <= 0:
                continue
            await self._sleep(left_s)
            if self._host.live_model.version != version:
                return None
            reason = too_many(before, await self._alarms(version, began), self._limits)
            if reason is not None:
                return reason
        _log.info("watch of the new model is over", refresh=refresh.id, version=version, cameras=len(before))
        return None

    def _left_s(self, refresh: RefreshRecord, look: float) -> float:
        swapped = refresh.ended_utc or refresh.started_utc
        return (swapped - self._clock.utc()).total_seconds() + look * self._span_s

    async def _before(self, refresh: RefreshRecord) -> dict[str, Alarms]:
        """What the parent had; written down when the watch begins, because a restart forgets the watched time."""
        path = work_folder(self._host.config.store.models_dir.resolve(), refresh.id) / _BASELINE
        stored = await asyncio.to_thread(_read, path)
        if stored is not None:
            return stored
        swapped = refresh.ended_utc or refresh.started_utc
        found = await self._alarms(refresh.parent_version, swapped - timedelta(seconds=self._span_s))
        await asyncio.to_thread(_write, path, found)
        return found

    async def _alarms(self, version: str, since: datetime) -> dict[str, Alarms]:
        since = since.replace(second=0, microsecond=0)  # as the watched time is kept
        count = partial(self._host.repository.count_by_camera, EventKind.ACTION, version, since)
        events: dict[str, int] = await self._host.db(count)
        watched_s = self._exposure.watched_s(version, since)
        return {camera: Alarms(events.get(camera, 0), seconds) for camera, seconds in watched_s.items()}

    async def _take_back(self, refresh: RefreshRecord, reason: str) -> None:
        live = await self._host.rollback()
        told: dict[str, Any] = {
            "status": RefreshStatus.ROLLED_BACK,
            "detail": f"rolled back to {live.version}: {reason}",
        }
        await self._host.db(partial(self._host.repository.update_refresh, refresh.id, **told))
        self._host.announce()
        _log.error("model rolled back", refresh=refresh.id, version=refresh.candidate_version, reason=reason)


def _minute(at: datetime) -> int:
    return int(at.timestamp() // _BUCKET_S)


def _read(path: Path) -> dict[str, Alarms] | None:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return {camera: Alarms(int(events), float(seconds)) for camera, (events, seconds) in raw.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _write(path: Path, alarms: dict[str, Alarms]) -> None:
    with contextlib.suppress(OSError):  # then a restart ends the watch
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps({camera: [one.events, one.watched_s] for camera, one in alarms.items()}), encoding="utf-8"
        )


__all__ = ["Exposure", "ModelWatch"]
