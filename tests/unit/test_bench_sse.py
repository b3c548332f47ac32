"""Whether every live client of `streamkd bench api` got every event: judged by what workers told, not by a client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from datetime import UTC, datetime

import pytest

from streamkd_service.bench import sse
from streamkd_service.bench.api_data import PlayedWorker
from streamkd_service.bench.sse import follow_all, judge

SENT = {"early": 9.9, "a": 10.0, "b": 15.0, "c": 20.0, "late": 20.1}
WINDOW = (10.0, 20.0)
WHOLE = [(1, "a", 10.1), (2, "b", 15.1), (4, "c", 20.2)]


def complete(*seen, sent=SENT):
    return judge(seen, sent, WINDOW)["complete"]


def test_clients_that_got_everything_are_complete():
    found = judge([WHOLE, WHOLE], SENT, WINDOW)
    assert (found["clients"], found["events"], found["received"], found["complete"]) == (2, 3, 6, 2)


@pytest.mark.parametrize("missing", range(2))
def test_a_client_that_misses_an_event_is_not_complete_whichever_it_is(missing):
    seen = [WHOLE, WHOLE]
    seen[missing] = WHOLE[:-1]
    assert complete(*seen) == 1


def test_an_event_that_reached_nobody_is_missed_by_all():
    assert complete(WHOLE, WHOLE, sent=SENT | {"lost": 12.0}) == 0


def test_an_event_of_before_or_after_does_not_count():
    assert complete([(0, "early", 10.0), *WHOLE], [*WHOLE, (5, "late", 20.2)]) == 2


def test_an_event_that_came_twice_is_not_complete():
    assert complete([*WHOLE, WHOLE[-1]]) == 0


def test_one_that_came_twice_does_not_make_up_for_another():
    assert complete([WHOLE[0], WHOLE[0], WHOLE[1]]) == 0


def test_events_in_another_order_than_committed_are_not_complete():
    assert complete([WHOLE[1], WHOLE[0], WHOLE[2]]) == 0


def test_delays_run_from_telling():
    assert judge([WHOLE], SENT, WINDOW)["delays_ms"] == [100.0, 100.0, 200.0]


def test_a_played_worker_remembers_what_it_reported():
    worker = PlayedWorker("worker-0", ("a",), 10.0, b"")
    now_utc = datetime(2026, 1, 1, tzinfo=UTC)
    reports = [worker.report(now_s, now_utc, "shipped") for now_s in (0.0, 0.3, 0.6)]
    assert worker.sent == {update.id: now_utc.timestamp() for report in reports for update in report.updates}
    assert len(worker.sent) == worker.events == 6


class Served:
    """A live stream of an event every 10 ms, of which the first client that connects gets every second."""

    def __init__(self) -> None:
        self.sent: dict[str, float] = {}
        self._clients: list[asyncio.StreamWriter] = []

    async def tell(self) -> None:
        seq = 0
        while True:
            await asyncio.sleep(0.01)
            seq += 1
            now_s = time.time()
            self.sent[f"event-{seq}"] = now_s
            data = {"id": f"event-{seq}", "start_utc": datetime.fromtimestamp(now_s, UTC).isoformat()}
            text = json.dumps(data, separators=(",", ":"))
            for number, client in enumerate(self._clients):
                if number or seq % 2:
                    client.write(f"id: {seq}\r\nevent: event\r\ndata: {text}\r\n\r\n".encode())

    async def answer(self, reader, writer):
        request = await reader.readuntil(b"\r\n\r\n")
        if request.startswith(b"GET /v1/stream"):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n: connected\r\n\r\n")
            self._clients.append(writer)
            return
        body = json.dumps({"sent": self.sent}).encode()
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        writer.close()


async def _followed(served, clients):
    server = await asyncio.start_server(served.answer, "127.0.0.1", 0)
    telling = asyncio.create_task(served.tell())
    try:
        return await follow_all(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", clients, 0.3)
    finally:
        telling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await telling
        server.close()


def test_what_the_first_client_misses_counts_as_missing(monkeypatch):
    monkeypatch.setattr(sse, "_SETTLE_S", 0.1)
    monkeypatch.setattr(sse, "_ARRIVE_S", 0.2)
    found = asyncio.run(_followed(Served(), 3))
    assert found["events"] > 2
    assert (found["clients"], found["complete"]) == (3, 2)
