"""A real uvicorn on a free port, the real store, and a Controller without Ray behind them."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
import uvicorn
from fastapi import FastAPI

from streamkd.config import ApiConfig, Config, StoreConfig
from streamkd.store import Repository, open_repository, upgrade
from streamkd.store.records import ModelRecord
from streamkd_service.api.app import create_app
from tests.api.fake_controller import START, FakeController, RecordedMetrics

Serve = Callable[..., "Served"]


@dataclass
class Served:
    """A running server and a client of it."""

    app: FastAPI
    server: uvicorn.Server
    thread: threading.Thread
    url: str
    client: httpx.Client = field(repr=False)

    def stop(self) -> None:
        self.app.state.streams.close()
        self.server.should_exit = True
        self.thread.join(10)
        self.client.close()


@pytest.fixture(autouse=True)
def plain_logs() -> Iterator[None]:
    """Tracebacks as the service writes them; structlog's default draws every variable, for seconds."""
    before = structlog.get_config()
    processors = [structlog.contextvars.merge_contextvars, structlog.processors.format_exc_info]
    structlog.configure(processors=[*processors, structlog.processors.JSONRenderer(default=str)])
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("database") / "empty.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def database_url(tmp_path: Path, empty_database: Path) -> str:
    shutil.copy(empty_database, tmp_path / "streamkd.db")
    return f"sqlite:///{tmp_path / 'streamkd.db'}"


@pytest.fixture
def repository(database_url: str) -> Iterator[Repository]:
    with open_repository(database_url) as opened:
        opened.add_model(ModelRecord("v1", "/models/v1", None, START, live=False, metrics={"roc_auc": 0.8}))
        opened.activate("v1", "first")
        yield opened


@pytest.fixture
def media_dir(tmp_path: Path) -> Path:
    return tmp_path / "media"


@pytest.fixture
def controller(repository: Repository, media_dir: Path) -> FakeController:
    return FakeController(repository, media_dir)


@pytest.fixture
def serve(controller: FakeController, database_url: str, media_dir: Path, metrics: RecordedMetrics) -> Iterator[Serve]:
    """Start a server: `serve(token="…")` sets keys of the `api` section, `streams=` the limits of the live stream."""
    running: list[Served] = []
    reading = open_repository(database_url, read_only=True)

    def start(*, streams: Any = None, **api: Any) -> Served:
        config = Config(api=ApiConfig(**api), store=StoreConfig(media_dir=media_dir))
        hub = streams(reading) if streams is not None else None
        app = create_app(controller, reading, config, metrics, streams=hub)
        served = _started(app)
        running.append(served)
        return served

    yield start
    for served in running:
        served.stop()
    reading.close()


@pytest.fixture
def metrics() -> RecordedMetrics:
    return RecordedMetrics()


@pytest.fixture
def served(serve: Serve) -> Served:
    return serve()


@pytest.fixture
def client(served: Served) -> httpx.Client:
    return served.client


def _started(app: FastAPI) -> Served:
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    options = uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=3)
    server = uvicorn.Server(options)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    return Served(app, server, thread, url, httpx.Client(base_url=url, timeout=10, trust_env=False))


def wait_for(condition: Callable[[], Any], timeout_s: float = 10.0) -> Any:
    """Wait until a condition holds; returns what it gave."""
    ends_s = time.monotonic() + timeout_s
    while time.monotonic() < ends_s:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"not within {timeout_s} s")


@pytest.fixture
def log(plain_logs: None) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What the service logs, entry by entry; a call waits until the last request has been logged."""
    capture = structlog.testing.LogCapture()
    before = structlog.get_config()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, capture], cache_logger_on_first_use=False)

    def entries() -> list[dict[str, Any]]:
        wait_for(lambda: any(entry["event"] == "request" for entry in capture.entries))
        return list(capture.entries)

    yield entries
    structlog.configure(**before)
