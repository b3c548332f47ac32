"""Many clients of the live stream in one process: what each got, and when; `python -m … URL CLIENTS SECONDS`.

The clients read raw sockets and only look for ids: a client library that parses every message would be the most
expensive part of the benchmark. What they had to get is not theirs to say: the workers' own record tells it.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_EVENT = re.compile(rb'^id: (\d+)\r?\nevent: event\r?\ndata: [^\r\n]*?"id":"([^"]+)"', re.MULTILINE)
_SETTLE_S = 2.0  # from the first byte that every client got to joining the stream, and more
_ARRIVE_S = 5.0  # what was told at the end has so long to be written and to arrive
_TOLD_TIMEOUT_S = 60.0


class Follower:
    """One client: number of each message, id of its event, and the Unix time (s) at which it arrived."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, str, float]] = []
        self.connected = asyncio.Event()

    async def follow(self, url: str) -> None:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**20)
        request = f"GET /v1/stream?topics=event HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: text/event-stream\r\n\r\n"
        writer.write(request.encode())
        rest = b""
        try:
            while chunk := await reader.read(2**16):
                self.connected.set()
                rest = self._take(rest + chunk, time.time())
        finally:
            writer.close()

    def _take(self, data: bytes, now_s: float) -> bytes:
        whole, _, rest = data.rpartition(b"\n\r\n") if b"\n\r\n" in data else data.rpartition(b"\n\n")
        whole += b"\n"
        self.seen += [(int(seq), event_id.decode(), now_s) for seq, event_id in _EVENT.findall(whole)]
        return rest


async def follow_all(url: str, clients: int, seconds: float) -> dict[str, object]:
    """Connect, settle, then look at `seconds` of the stream.

    Raises:
        TimeoutError: Not every client was connected within a minute.
        httpx.HTTPError: The service does not say what its workers told it.
    """
    followers = [Follower() for _ in range(clients)]
    tasks = [asyncio.create_task(follower.follow(url)) for follower in followers]
    await asyncio.wait_for(asyncio.gather(*(follower.connected.wait() for follower in followers)), 60)
    await asyncio.sleep(_SETTLE_S)
    began_s, cpu_s = time.time(), time.process_time()
    await asyncio.sleep(seconds)
    ended_s, cpu_s = time.time(), time.process_time() - cpu_s
    await asyncio.sleep(_ARRIVE_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with httpx.AsyncClient(base_url=url, timeout=_TOLD_TIMEOUT_S, trust_env=False) as http:
        answer = await http.get("/bench/told")
    sent = answer.raise_for_status().json()["sent"]
    return judge([follower.seen for follower in followers], sent, (began_s, ended_s)) | {"cpu_s": cpu_s}


def judge(
    seen: Sequence[Sequence[tuple[int, str, float]]], sent: Mapping[str, float], window: tuple[float, float]
) -> dict[str, object]:
    """What each client got of the events that were told in the window, the same ones for all.

    Args:
        seen: For each client its messages as they came: number, id of the event, Unix time (s) of arrival.
        sent: Ids of all events that workers told the service, and when (Unix time, s), whatever became of them.
        window: Begin and end (Unix time, s): every client was connected before, and listened for longer.
    """
    began_s, ended_s = window
    expected = {event_id: at_s for event_id, at_s in sent.items() if began_s <= at_s <= ended_s}
    got = [[message for message in messages if message[1] in expected] for messages in seen]
    delays_ms = [(at_s - expected[event_id]) * 1e3 for messages in got for _, event_id, at_s in messages]
    return {
        "clients": len(seen),
        "events": len(expected),
        "received": len(delays_ms),
        "complete": sum(_whole(messages, expected) for messages in got),
        "delays_ms": [round(delay, 2) for delay in sorted(delays_ms)[:: max(1, len(delays_ms) // 5000)]],
    }


def _whole(messages: Sequence[tuple[int, str, float]], expected: Mapping[str, float]) -> bool:
    """Whether each event came once, in order of commit."""
    numbers = [seq for seq, _, _ in messages]
    ids = [event_id for _, event_id, _ in messages]
    return len(ids) == len(expected) == len(set(ids)) and numbers == sorted(numbers)


if __name__ == "__main__":
    address, count, span_s = sys.argv[1:]
    print(json.dumps(asyncio.run(follow_all(address, int(count), float(span_s)))))  # noqa: T201
