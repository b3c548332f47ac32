"""The played workers of `streamkd bench api`, in an actor of their own; imports Ray."""

from __future__ import annotations

import asyncio
import io
import os
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np
import ray
from PIL import Image

from streamkd_service.bench.api_data import PlayedWorker
from streamkd_service.runtime.actors import CONTROLLER_NAME

_REPORT_EVERY_S = 0.3  # as workers do


class Feeder:
    """Plays the workers: each reports every 0.3 s, spread evenly over that time; an actor, a process of its own."""

    def __init__(self, namespace: str, cameras: list[str], workers: int, events_per_s: float) -> None:
        self._controller: Any = ray.get_actor(CONTROLLER_NAME, namespace=namespace)
        share = events_per_s / workers
        picture = _picture()
        self._workers = [
            PlayedWorker(f"worker-{index}", tuple(cameras[index::workers]), share, picture) for index in range(workers)
        ]
        self._late = 0
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Until the session ends."""
        await asyncio.gather(*(self._play(worker, index) for index, worker in enumerate(self._workers)))

    async def told(self) -> dict[str, Any]:
        """What has been told so far.

        Returns:
            `events`: how many; `sent`: the id of each, and the Unix time (s) at which it was told; `late`: how many
            reports came late because the one before was not answered.
        """
        sent = {event_id: at_s for worker in self._workers for event_id, at_s in worker.sent.items()}
        return {"events": len(sent), "late": self._late, "sent": sent}

    async def stop(self) -> None:
        self._over.set()

    async def pid(self) -> int:
        return os.getpid()

    async def _play(self, worker: PlayedWorker, index: int) -> None:
        next_s = time.monotonic() + _REPORT_EVERY_S * index / len(self._workers)
        model = "shipped"
        while not self._over.is_set():
            await asyncio.sleep(max(0.0, next_s - time.monotonic()))
            reply = await self._controller.call.remote(
                "report", worker.report(time.monotonic(), datetime.now(UTC), model)
            )
            if reply.assignment is not None:
                worker.assigned(reply.assignment.revision)
                model = reply.assignment.model_version
            next_s += _REPORT_EVERY_S
            if next_s < time.monotonic():
                self._late += 1
                next_s = time.monotonic()


def _picture() -> bytes:
    """A JPEG of about 20 kB, as an event's snapshot has."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((640, 480)).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def start_feeder(namespace: str, cameras: list[str], workers: int, events_per_s: float) -> Any:
    """The actor; `run` it."""
    options = {"num_cpus": 0, "max_concurrency": workers + 8}
    return ray.remote(Feeder).options(**options).remote(namespace, cameras, workers, events_per_s)


__all__ = ["Feeder", "start_feeder"]
