"""The FastAPI application: wires routes, errors, metrics and live streams to a Controller. Knows no Ray."""

from __future__ import annotations

import asyncio
import contextlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI
from starlette.staticfiles import StaticFiles

from streamkd_service.api import problems
from streamkd_service.api.auth import require_token
from streamkd_service.api.dependencies import Services
from streamkd_service.api.feed import MetricsFeed
from streamkd_service.api.openapi import describe
from streamkd_service.api.request_log import RequestLog
from streamkd_service.api.routes import cameras, events, infer, models, page, refreshes, stream, system
from streamkd_service.api.stream import Streams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamkd.config import Config
    from streamkd_service.api.dependencies import Metrics, ReadRepository
    from streamkd_service.runtime.ports import ControllerPort

_DESCRIPTION = """Streaming video analytics with distilled models: cameras in, action and anomaly events out.

Every error is `application/problem+json` (RFC 9457): `detail` says what failed and why, `hint` what to try.
Times are UTC, names carry their unit (`pts_s`, `latency_ms`), and no answer holds a camera's password."""


def create_app(
    controller: ControllerPort,
    repository: ReadRepository,
    config: Config,
    metrics: Metrics,
    *,
    streams: Streams | None = None,
) -> FastAPI:
    """Build the application.

    Whoever stops the server calls `app.state.streams.close()` first: open streams end then, and the server with them.

    Args:
        controller: Every write and every live answer goes through it.
        repository: The read side of the store.
        config: Its `api` section, and where snapshots lie.
        metrics: What /metrics shows.
        streams: For tests: a hub with other limits.
    """
    hub = streams or Streams(controller, repository, on_change=metrics.count, on_clients=metrics.set_stream_clients)
    app = FastAPI(
        title="streamkd",
        version=_version(),
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.services = Services(controller, repository, config, metrics, hub)
    app.state.streams = hub
    app.state.feed = MetricsFeed(controller, metrics)
    app.state.upload_slots = asyncio.Semaphore(infer.AT_ONCE)
    for module in (cameras, events, stream, infer, models, refreshes):
        app.include_router(module.router, dependencies=[Depends(require_token)])
    app.include_router(system.router)
    app.include_router(page.router)
    app.mount("/static", StaticFiles(directory=page.WEB), name="static")
    problems.install(app)
    app.add_middleware(RequestLog)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    tasks: list[asyncio.Task[Any]] = [
        asyncio.create_task(app.state.streams.run(), name="changes"),
        asyncio.create_task(app.state.feed.run(), name="metrics"),
    ]
    try:
        yield
    finally:
        app.state.streams.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _version() -> str:
    try:
        return version("streamkd")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"


__all__ = ["create_app"]
