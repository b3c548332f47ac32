"""Many clients of the live stream in one process: what each got, and when; `python -m … URL CLIENTS SECONDS`.

The clients read raw sockets and only look for ids: a client library that parses every message would be the most
expensive part of the benchmark. The first client reads whole messages, and so knows when each event was told.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from datetime import datetime
from urllib.parse import urlsplit

_ID = re.compile(rb"^id: (\d+)\r?\nevent: event", re.MULTILINE)
_TOLD = re.compile(rb'^id: (\d+)\r?\nevent: event\r?\ndata: [^\r\n]*?"start_utc":"([^"]+)"', re.MULTILINE)
_SETTLE_S = 2.0


class Follower:
    """One client: the time at which each id arrived."""

    def __init__(self, *, reads: bool) -> None:
        self.seen: list[tuple[int, float]] = []
        self.told: dict[int, float] = {}
        self.connected = asyncio.Event()
        self._reads = reads

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
        self.seen += [(int(found), now_s) for found in _ID.findall(whole)]
        if self._reads:
            for seq, at in _TOLD.findall(whole):
                self.told[int(seq)] = datetime.fromisoformat(at.decode()).timestamp()
        return rest


async def follow_all(url: str, clients: int, seconds: float) -> dict[str, object]:
    """Connect, settle, then look at `seconds` of the stream."""
    followers = [Follower(reads=index == 0) for index in range(clients)]
    tasks = [asyncio.create_task(follower.follow(url)) for follower in followers]
    await asyncio.wait_for(asyncio.gather(*(follower.connected.wait() for follower in followers)), 60)
    await asyncio.sleep(_SETTLE_S)
    began_s, cpu_s = time.time(), time.process_time()
    await asyncio.sleep(seconds)
    ended_s, cpu_s = time.time(), time.process_time() - cpu_s
    await asyncio.sleep(_SETTLE_S)  # what was told at the end may arrive a little later
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    told = {seq: at_s for seq, at_s in followers[0].told.items() if began_s <= at_s <= ended_s}
    delays_ms = [(at_s - told[seq]) * 1e3 for follower in followers for seq, at_s in follower.seen if seq in told]
    ids = [[seq for seq, _ in follower.seen if seq in told] for follower in followers]
    expected = sorted(told)
    return {
        "clients": clients,
        "events": len(told),
        "received": len(delays_ms),
        "complete": sum(got == expected for got in ids),  # each event once, in order
        "cpu_s": cpu_s,
        "delays_ms": [round(delay, 2) for delay in sorted(delays_ms)[:: max(1, len(delays_ms) // 5000)]],
    }


if __name__ == "__main__":
    address, count, span_s = sys.argv[1:]
    print(json.dumps(asyncio.run(follow_all(address, int(count), float(span_s)))))  # noqa: T201
