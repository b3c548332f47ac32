"""`streamkd serve`: everything in order up, and in order down again."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import structlog
import uvicorn

from streamkd.bundle import read_bundle
from streamkd.errors import ConflictError, StoreError, StreamkdError, UnavailableError
from streamkd.store import open_repository, upgrade
from streamkd.store.database import parse_url, sole_use
from streamkd.store.serialize import refresh_json
from streamkd_service.cli import EXIT_ERROR
from streamkd_service.logs import set_up_logs
from streamkd_service.runtime.log_relay import LogRelay
from streamkd_service.runtime.models import bundle_path
from streamkd_service.runtime.session import abandon_session, start_session
from streamkd_service.runtime.settled import settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from streamkd.config import Config
    from streamkd.store.records import Change
    from streamkd.store.repository import Repository
    from streamkd_service.api.stream import Streams
    from streamkd_service.metrics import ServiceMetrics
    from streamkd_service.runtime.handles import Actors, ControllerHandle
    from streamkd_service.runtime.session import RaySession

_WATCH_EVERY_S = 0.5
_RAY_ANSWER_S = 4.0
_HTTP_GRACE_S = 1.0
_RAY_START_GRACE_S = 1.0  # Ray may be nearly there when the service is asked to stop
_STOP_S = 3.5  # of the 5 s that are promised; Python itself needs a moment to end
_RAY_STOP_S = 1.2
_TAIL_S = 5.0
_REFRESHES_SHOWN = 20  # the newest ones: the last that ended, and the last that got to its gate
_log = structlog.get_logger("streamkd")


def serve(config: Config, *, on_ready: Callable[[str], None] | None = None) -> int:
    """Run the service until SIGINT or SIGTERM; a second one ends it at once.

    Args:
        config: The whole configuration.
        on_ready: Called with the base URL once the API answers.

    Returns:
        The exit status, 0.

    Raises:
        BundleError: The student's bundle is damaged or of another schema version.
        ConflictError: The port is taken, or another service uses the same database.
        StoreError: The database can't be opened or migrated, or a folder of the store can't be written to.
        UnavailableError: Ray did not start, or it died.
    """
    set_up_logs(config.log)
    read_bundle(bundle_path(config.student.bundle))  # before anything starts: its errors are for people
    for key in ("media_dir", "models_dir"):
        _check_writable(getattr(config.store, key), f"store.{key}")
    with listen(config.api.host, config.api.port) as listener, _sole_user(config):
        asyncio.run(_Service(config, listener, on_ready).run())
    return 0


class _Service:
    def __init__(self, config: Config, listener: socket.socket, on_ready: Callable[[str], None] | None) -> None:
        self._config = config
        self._listener = listener
        self._on_ready = on_ready
        self._stopping = asyncio.Event()
        self._session: RaySession | None = None
        self._relay: LogRelay | None = None
        self._actors: Actors | None = None
        self._server: _Server | None = None
        self._streams: Streams | None = None
        self._tasks: list[asyncio.Task[Any]] = []

    async def run(self) -> None:
        self._take_signals()
        failure: StreamkdError | None = None
        try:
            await self._start()
            failure = await self._until_asked_or_broken()
        finally:
            began_s = time.monotonic()
            await self._stop()
            _log.info("stopped", seconds=round(time.monotonic() - began_s, 1))
        if failure is not None and self._session is not None and self._session.failure() is not None:
            # Ray's own exit handlers wait for what has died, and crash.
            print(f"error: {failure}", file=sys.stderr, flush=True)  # noqa: T201 - as the command line would
            os._exit(EXIT_ERROR)
        if failure is not None:
            raise failure

    def _take_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._asked_to_stop)

    def _asked_to_stop(self) -> None:
        if self._stopping.is_set():
            if self._session is not None:
                self._session.kill()
            else:
                abandon_session()
            os._exit(130)
        _log.info("stopping", hint="Ctrl-C again ends it at once")
        self._stopping.set()

    async def _start(self) -> None:
        config = self._config
        await asyncio.to_thread(upgrade, config.store.url.get_secret_value())
        _log.info("starting", cameras=len(config.cameras), workers=config.workers.count or "as needed")
        self._session = session = await self._ray_session()
        if self._stopping.is_set():
            return
        from streamkd_service.runtime.handles import Actors  # noqa: PLC0415 - imports Ray

        if session.log_path is not None:
            self._relay = LogRelay(session.log_path)
        self._actors = Actors(config, session)
        await self._unless_stopped(self._actors.ready())
        if self._stopping.is_set():
            return
        self._server = self._http(self._actors.controller)
        self._tasks = [
            asyncio.create_task(self._server.serve(sockets=[self._listener]), name="http"),
            asyncio.create_task(_log_changes(self._actors.controller), name="changes"),
            asyncio.create_task(self._actors.follow_nodes(), name="nodes"),
        ]
        while not self._server.started and not self._tasks[0].done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.02)
        settle()
        base = base_url(self._listener)
        _log.info("ready", page=base, api=f"{base}/docs", metrics=f"{base}/metrics")
        if self._on_ready is not None:
            self._on_ready(base)

    async def _ray_session(self) -> RaySession:
        """Start Ray, but not to the end if the service is asked to stop meanwhile."""
        opening = asyncio.create_task(asyncio.to_thread(start_session, self._config.workers.ray_address))
        stop = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({opening, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            await asyncio.wait({opening}, timeout=_RAY_START_GRACE_S)
        stop.cancel()
        if not opening.done():
            abandon_session()
            _log.info("stopped", detail="while Ray was starting")
            os._exit(0)
        self._take_signals()  # again: Ray has put a handler of its own there, which prints a stack
        return opening.result()

    async def _unless_stopped(self, waiting: Any) -> None:
        """Await something, but no longer than until the service is asked to stop."""
        work = asyncio.ensure_future(waiting)
        stop = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if work.done():
            work.result()
        else:
            work.cancel()

    def _http(self, controller: ControllerHandle) -> _Server:
        from streamkd_service.api.app import create_app  # noqa: PLC0415 - imports FastAPI

        repository = open_repository(self._config.store.url.get_secret_value(), read_only=True)
        app = create_app(controller, repository, self._config, metrics_of(repository))
        self._streams = app.state.streams
        options = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="on",
            server_header=False,
            timeout_graceful_shutdown=int(_HTTP_GRACE_S),
        )
        return _Server(options)

    async def _until_asked_or_broken(self) -> StreamkdError | None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _WATCH_EVERY_S)
            if self._tasks and self._tasks[0].done() and not self._stopping.is_set():
                return UnavailableError("The HTTP server has ended unexpectedly.", hint="See the log above.")
            problem = await self._ray_problem()
            if problem is not None and not self._stopping.is_set():
                return UnavailableError(
                    f"The service ends because {problem}.", hint="Start it again; acknowledged events are stored."
                )
        return None

    async def _ray_problem(self) -> str | None:
        assert self._session is not None
        try:
            return await asyncio.wait_for(asyncio.to_thread(self._session.failure), _RAY_ANSWER_S)
        except TimeoutError:
            return f"the Ray cluster has not answered for {_RAY_ANSWER_S:.0f} s"

    async def _stop(self) -> None:
        """SSE and HTTP, workers, last commits, Ray: in this order, all of it within `_STOP_S`."""
        deadline_s = time.monotonic() + _STOP_S
        if self._server is not None and self._streams is not None:
            self._server.close(self._streams)
            await asyncio.wait(self._tasks[:1], timeout=_HTTP_GRACE_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is None:
            return
        if self._actors is not None and await self._ray_problem() is None:
            await self._actors.stop(max(0.5, deadline_s - time.monotonic() - _RAY_STOP_S))
        if self._relay is not None:
            self._relay.stop()
        await asyncio.to_thread(self._session.stop, max(0.3, deadline_s - time.monotonic()))


def metrics_of(repository: Repository) -> ServiceMetrics:
    """Metrics that know how the refreshes of earlier runs ended, without counting them again."""
    from streamkd_service.metrics import ServiceMetrics  # noqa: PLC0415

    metrics = ServiceMetrics()
    for refresh in reversed(repository.list_refreshes(_REFRESHES_SHOWN)):
        metrics.observe_refresh(refresh_json(refresh))
    return metrics


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: signals have one owner, the service."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return contextlib.nullcontext()

    def close(self, streams: Streams) -> None:
        """Stop accepting, and end every live stream."""
        streams.close()
        self.should_exit = True


async def _log_changes(controller: ControllerHandle) -> None:
    """Write what happens to the log: events, cameras that change state, models, refreshes."""
    seq: int | None = None
    while True:
        try:
            if seq is None:
                seq = (await controller.changes_after(2**62, 0.0)).latest_seq
            batch = await controller.changes_after(seq, _TAIL_S)
        except StreamkdError as error:
            _log.warning("controller is away", reason=error.message)
            await asyncio.sleep(1.0)
            continue
        seq = batch.latest_seq if batch.reset else max([seq, *(change.seq for change in batch.changes)])
        for change in batch.changes:
            _log.info(change.topic, **log_fields(change))


_LOGGED: dict[str, tuple[str, ...]] = {
    "event": ("id", "camera_id", "kind", "label", "score", "end_utc", "interrupted", "verdict"),
    "camera": ("id",),
    "model": ("version", "live"),
    "refresh": ("id", "status", "step", "detail"),
}


def log_fields(change: Change) -> dict[str, Any]:
    """What a line of the log says about a change: which object, and what may have changed about it."""
    data = change.data
    found = {key: data[key] for key in _LOGGED[change.topic] if data.get(key) not in {None, "", False}}
    status = data.get("status")
    if isinstance(status, dict):
        found |= {key: status[key] for key in ("state", "reason", "detail") if status.get(key)}
    return found | ({"deleted": True} if change.action == "deleted" else {})


def _check_writable(folder: Path, key: str) -> None:
    """An event whose picture can't be kept, or a refresh that can't keep its student, would tell much later."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StoreError(
            f"The folder {folder} can't be written to: {error.strerror}.",
            hint=f"Make it writable for this user, or set {key} to another one.",
        ) from error


@contextlib.contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Take the port before anything else starts."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named TCP, or asyncio leaves Nagle's algorithm on: 40 ms more for every answer on a connection that is kept.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        taken = error.errno == errno.EADDRINUSE
        reason = "it is taken by another program" if taken else (error.strerror or type(error).__name__)
        hint = "Stop that program, or set api.port to another (0: any free port)."
        raise ConflictError(
            f"The API can't listen on {host}, port {port}: {reason}.",
            hint=hint if taken else "Set api.host to an address of this machine, and api.port to one that is allowed.",
        ) from error
    try:
        yield listener
    finally:
        listener.close()


def base_url(listener: socket.socket) -> str:
    """Where people and programs on this machine reach the API."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def _sole_user(config: Config) -> Iterator[None]:
    """Two services on one database would both think that they are its single writer."""
    url = parse_url(config.store.url.get_secret_value())
    if url.get_backend_name() != "sqlite":
        with sole_use(config.store.url.get_secret_value()) as ours:
            if not ours:
                raise ConflictError(
                    "The database is in use by another streamkd serve.",
                    hint="Stop that one, or set store.url to another database.",
                )
            yield
        return
    path = Path(str(url.database)).resolve()
    with _lock_file(path) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConflictError(
                f"The database {path} is in use by another streamkd serve.",
                hint="Stop that one, or set store.url to another file.",
            ) from error
        yield


def _lock_file(database: Path) -> TextIO:
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        return database.with_name(f"{database.name}.lock").open("w", encoding="ascii")
    except OSError as error:
        raise StoreError(
            f"The database {database} can't be opened: {error.strerror}.",
            hint="Make the folder writable for this user, or set store.url to another path.",
        ) from error


__all__ = ["base_url", "listen", "metrics_of", "serve"]
