"""Live updates: one reader of the Controller's changes, fanned out to many clients through bounded queues.

Every client gets each change once, in order of `seq`. The seam between what is read from the store and what arrives
live is exact: a client notes the hub's position when it joins; up to there it reads the store, from there on its queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import structlog
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from streamkd.errors import StreamkdError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from starlette.types import Receive, Scope, Send

    from streamkd.store.records import Change
    from streamkd_service.runtime.ports import ChangeBatch, ControllerPort

POLL_S = 10.0
RETRY_S = 1.0
HEARTBEAT_S = 15.0
QUEUE_SIZE = 1000
RECONNECT_MS = 2000
_PAGE = 500
_GATHER_S = 0.05  # after something happened: what happens meanwhile is read and sent together
_TOGETHER = 100  # changes in one write
_NO_PING_S = 86_400  # heartbeats are made here, so that their id can't overtake a change
_LATEST = 2**62  # a seq that no change will ever have: asks for nothing but `latest_seq`
_log = structlog.get_logger("streamkd.api")


class ChangeStore(Protocol):
    """What resumption asks of the repository."""

    def changes_after(self, seq: int, limit: int = ...) -> tuple[bool, int, tuple[Change, ...]]: ...


@dataclass(frozen=True, slots=True)
class Message:
    """A change that is written out once, for however many clients."""

    change: Change
    encoded: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "encoded", change_message(self.change).encode())


class Client:
    """One open stream: a bounded queue and what its owner has to know.

    Args:
        joined_at: The hub's position: everything after it will be put here.
        topics: Topics that are wanted; empty: all.
        size: Changes that may wait; one more and the client is cut off.
    """

    def __init__(self, joined_at: int, topics: frozenset[str], size: int) -> None:
        self.joined_at = joined_at
        self.seen_seq = joined_at
        self.cut_off = asyncio.Event()
        self._topics = topics
        self._size = size
        self._waiting: deque[Message] = deque()
        self._wake = asyncio.Event()
        self._ended = False
        self._reset_to: int | None = None

    def wants(self, change: Change) -> bool:
        return not self._topics or change.topic in self._topics

    def put(self, message: Message) -> None:
        self.seen_seq = message.change.seq
        if self._ended or not self.wants(message.change):
            return
        if len(self._waiting) >= self._size:
            self._waiting.clear()
            self.cut_off.set()
            self.end()
            return
        self._waiting.append(message)
        self._wake.set()

    def reset(self, latest_seq: int) -> None:
        """The hub itself has missed changes: say so instead of leaving a hole."""
        self._waiting.clear()
        self.seen_seq = latest_seq
        self._reset_to = latest_seq
        self._wake.set()

    def end(self) -> None:
        self._ended = True
        self._wake.set()

    async def messages(self, heartbeat_s: float) -> AsyncIterator[ServerSentEvent | bytes]:
        """Live changes and heartbeats until the stream ends; changes that wait together go out together."""
        while True:
            try:
                await asyncio.wait_for(self._wake.wait(), heartbeat_s)
            except TimeoutError:
                if self._wake.is_set():  # something came in the same instant: it goes first
                    continue
                # An id without data only moves the reader's Last-Event-ID, past changes that its filter left out.
                yield ServerSentEvent(comment="still here", id=str(self.seen_seq))
                continue
            self._wake.clear()
            if self._reset_to is not None:
                latest, self._reset_to = self._reset_to, None
                yield reset_message(latest)
            while self._waiting:
                together = [self._waiting.popleft().encoded for _ in range(min(_TOGETHER, len(self._waiting)))]
                yield b"".join(together)
            if self._ended:
                return


class Streams:
    """The hub. `run` is the one reader; `close` ends every stream at once and lets no new one in."""

    def __init__(
        self,
        controller: ControllerPort,
        store: ChangeStore,
        *,
        on_change: Callable[[Change], None] = lambda _: None,
        on_clients: Callable[[int], None] = lambda _: None,
        queue_size: int = QUEUE_SIZE,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._controller = controller
        self._store = store
        self._on_change = on_change
        self._on_clients = on_clients
        self._queue_size = queue_size
        self._heartbeat_s = heartbeat_s
        self._clients: set[Client] = set()
        self._seq: int | None = None
        self._started = asyncio.Event()
        self._closed = False

    @property
    def position(self) -> int | None:
        """The newest seq that was broadcast; None before the Controller has answered."""
        return self._seq

    def close(self) -> None:
        self._closed = True
        self._started.set()
        for client in self._clients:
            client.end()

    async def run(self) -> None:
        """Read changes for ever; a Controller that is away costs a delay and nothing else."""
        while not self._closed:
            try:
                await self._advance()
            except StreamkdError as error:
                _log.warning("no live updates for now", reason=error.message)
                await asyncio.sleep(RETRY_S)
            except Exception:  # noqa: BLE001 - a defect must not end every stream for good
                _log.exception("no live updates for now")
                await asyncio.sleep(RETRY_S)

    async def _advance(self) -> None:
        if self._seq is None:
            self._seq = (await self._controller.changes_after(_LATEST, 0.0)).latest_seq
            self._started.set()
        batch = await self._controller.changes_after(self._seq, POLL_S)
        if batch.reset or batch.latest_seq < self._seq:
            _log.warning("live updates were missed", after=self._seq, latest=batch.latest_seq)
            self._seq = batch.latest_seq
            for client in self._clients:
                client.reset(batch.latest_seq)
            return
        self._broadcast(batch)
        if batch.changes:
            await asyncio.sleep(_GATHER_S)

    def _broadcast(self, batch: ChangeBatch) -> None:
        for change in batch.changes:
            assert self._seq is not None
            if change.seq <= self._seq:
                continue
            self._seq = change.seq
            self._on_change(change)
            message = Message(change)
            for client in self._clients:
                client.put(message)

    @contextlib.contextmanager
    def _joined(self, topics: frozenset[str]) -> Any:
        assert self._seq is not None
        client = Client(self._seq, topics, self._queue_size)
        self._clients.add(client)
        self._on_clients(len(self._clients))
        try:
            yield client
        finally:
            self._clients.discard(client)
            self._on_clients(len(self._clients))

    def response(self, after: int | None, topics: Iterable[str] = ()) -> EventSourceResponse:
        """The answer to `GET /v1/stream`: from after `after` on, or from now on."""
        return _ChangeStream(self, after, frozenset(topics))

    async def messages(
        self, after: int | None, topics: frozenset[str], on_join: Callable[[Client], None]
    ) -> AsyncIterator[ServerSentEvent | bytes]:
        yield ServerSentEvent(comment="connected", retry=RECONNECT_MS)  # headers and this go out at once
        await self._started.wait()
        if self._closed:
            return
        with self._joined(topics) as client:
            on_join(client)
            if after is not None:
                async for message in self._missed(client, after):
                    yield message
            async for message in client.messages(self._heartbeat_s):
                yield message

    async def _missed(self, client: Client, after: int) -> AsyncIterator[ServerSentEvent]:
        """Changes in (after, joined_at] from the store, or a reset."""
        if after > client.joined_at:
            # Further than the hub: either the hub is a moment behind, or the store is another one than before.
            yield reset_message(client.joined_at)
            return
        while after < client.joined_at:
            gone, _, changes = await run_in_threadpool(self._store.changes_after, after, _PAGE)
            if gone:
                yield reset_message(client.joined_at)
                return
            for change in changes:
                if change.seq > client.joined_at:
                    return
                after = change.seq
                if client.wants(change):
                    yield change_message(change)
            if not changes:
                return


class _ChangeStream(EventSourceResponse):
    """An `EventSourceResponse` that ends even while it hangs in a send to a client that does not read."""

    def __init__(self, streams: Streams, after: int | None, topics: frozenset[str]) -> None:
        self._client: Client | None = None
        self._client_joined = asyncio.Event()
        super().__init__(streams.messages(after, topics, self._on_join), ping=_NO_PING_S)

    def _on_join(self, client: Client) -> None:
        self._client = client
        self._client_joined.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._cut_off, group.cancel_scope)
            await super().__call__(scope, receive, send)
            group.cancel_scope.cancel()

    async def _cut_off(self, scope: anyio.CancelScope) -> None:
        await self._client_joined.wait()
        assert self._client is not None
        await self._client.cut_off.wait()
        _log.warning("a stream was cut off", reason="its client reads too slowly")
        scope.cancel()


def change_message(change: Change) -> ServerSentEvent:
    data = json.dumps(change.data, ensure_ascii=False, separators=(",", ":"))
    return ServerSentEvent(data, event=change.topic, id=str(change.seq))


def reset_message(latest_seq: int) -> ServerSentEvent:
    """Tells the reader that changes are missing: read the resources afresh, then go on from here."""
    return ServerSentEvent(json.dumps({"latest_seq": latest_seq}), event="reset", id=str(latest_seq))


__all__ = ["HEARTBEAT_S", "QUEUE_SIZE", "ChangeStore", "Client", "Streams", "change_message", "reset_message"]
