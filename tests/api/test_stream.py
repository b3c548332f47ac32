from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from streamkd.errors import UnavailableError
from streamkd.store import Repository
from streamkd_service.api.stream import Streams
from tests.api.conftest import Serve, Served, wait_for
from tests.api.fake_controller import FakeController, RecordedMetrics


@dataclass
class Message:
    id: str
    topic: str
    data: Any


class Reader:
    """A client of /v1/stream in a thread of its own; `messages` grows as they come."""

    def __init__(self, served: Served, last: int | None = None, query: str = "") -> None:
        self.messages: list[Message] = []
        self.lines: list[str] = []
        self.open = threading.Event()
        self.ended = threading.Event()
        headers = {} if last is None else {"Last-Event-ID": str(last)}
        self._client = httpx.Client(base_url=served.url, headers=headers, timeout=20, trust_env=False)
        self._thread = threading.Thread(target=self._run, args=(f"/v1/stream{query}",), daemon=True)
        self._thread.start()
        assert self.open.wait(10)

    def _run(self, path: str) -> None:
        fields: dict[str, str] = {}
        with contextlib.suppress(httpx.HTTPError), self._client.stream("GET", path) as response:
            self._socket = response.extensions["network_stream"].get_extra_info("socket")
            for line in response.iter_lines():
                self.lines.append(line)
                self.open.set()
                name, _, value = line.partition(": ")
                fields[name] = value
                if not line and "data" in fields:
                    self.messages.append(Message(fields["id"], fields["event"], json.loads(fields["data"])))
                if not line:
                    fields = {}
        self.ended.set()

    def wait(self, count: int) -> list[Message]:
        wait_for(lambda: len(self.messages) >= count)
        return self.messages

    def close(self) -> None:
        with contextlib.suppress(OSError):  # the server may have gone first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._client.close()


@pytest.fixture
def read() -> Iterator[Callable[..., Reader]]:
    readers: list[Reader] = []

    def start(*arguments: Any, **named: Any) -> Reader:
        readers.append(Reader(*arguments, **named))
        return readers[-1]

    yield start
    for reader in readers:
        reader.close()


def latest(controller: FakeController) -> int:
    return controller.repository.changes_after(0)[1]


def joined(metrics: RecordedMetrics, clients: int = 1) -> None:
    wait_for(lambda: metrics.stream_clients == clients)


def test_a_change_arrives_as_the_api_would_show_it(served, controller, metrics, read) -> None:
    reader = read(served)
    joined(metrics)
    event = controller.commit_event()
    message = reader.wait(1)[0]
    assert (message.topic, message.id) == ("event", str(latest(controller)))
    assert message.data == served.client.get(f"/v1/events/{event.id}").json()


def test_a_new_client_gets_nothing_from_before(served, controller, metrics, read) -> None:
    controller.commit_event()
    wait_for(lambda: metrics.changes)
    reader = read(served)
    joined(metrics)
    after = controller.commit_event()
    assert [message.data["id"] for message in reader.wait(1)] == [after.id]


@pytest.mark.parametrize("how", ["header", "query"])
def test_a_client_that_comes_back_gets_what_it_missed(served, controller, read, how: str) -> None:
    seen = latest(controller)
    missed = [controller.commit_event().id for _ in range(3)]
    reader = read(served, last=seen) if how == "header" else read(served, query=f"?after={seen}")
    assert [message.data["id"] for message in reader.wait(3)] == missed


def test_nothing_is_lost_or_repeated_at_the_seam(served, controller, read) -> None:
    """Clients come back, each from the beginning, while changes are committed as fast as they go."""
    seen, count = latest(controller), 150
    writer = threading.Thread(target=lambda: [controller.commit_event() for _ in range(count)])
    writer.start()
    readers = [read(served, last=seen) for _ in range(5)]
    writer.join()
    for reader in readers:
        assert [int(message.id) for message in reader.wait(count)] == list(range(seen + 1, seen + 1 + count))


def test_a_backlog_of_several_pages_comes_whole(served, controller, read) -> None:
    seen = latest(controller)
    controller.repository.add_changes([("camera", "updated", {"id": "gate", "n": n}) for n in range(1203)])
    wait_for(lambda: served.app.state.streams.position == seen + 1203)
    assert [message.data["n"] for message in read(served, last=seen).wait(1203)] == list(range(1203))


def test_too_old_an_id_is_answered_with_reset(served, controller, metrics, read) -> None:
    for _ in range(5):
        controller.commit_event()
    controller.repository.trim_changes(2)
    newest = latest(controller)
    wait_for(lambda: served.app.state.streams.position == newest)
    reader = read(served, last=1)
    joined(metrics)
    controller.commit_event()
    assert [(message.topic, message.id) for message in reader.wait(2)] == [
        ("reset", str(newest)),
        ("event", str(newest + 1)),
    ]


def test_an_id_of_another_database_is_answered_with_reset(served, read) -> None:
    assert read(served, last=999_999).wait(1)[0].topic == "reset"


@pytest.mark.parametrize("bad", ["x", "-1", "9" * 30, "1.5"])
def test_an_id_that_is_none_is_422(client: httpx.Client, bad: str) -> None:
    assert client.get("/v1/stream", headers={"Last-Event-ID": bad}).status_code == 422


def test_only_the_asked_for_topics_come(served, controller, metrics, read) -> None:
    reader = read(served, query="?topics=camera&topics=model")
    joined(metrics)
    controller.commit_event()
    served.client.post("/v1/cameras", json={"id": "gate", "url": "rtsp://h/s"})
    assert [message.topic for message in reader.wait(1)] == ["camera"]


def test_an_unknown_topic_is_422(client: httpx.Client) -> None:
    assert client.get("/v1/stream?topics=weather").status_code == 422


def test_a_heartbeat_moves_the_id_past_what_the_filter_left_out(serve, controller, metrics, read) -> None:
    served = serve(streams=lambda store: _hub(controller, store, metrics, heartbeat_s=0.2))
    reader = read(served, query="?topics=model")
    joined(metrics)
    controller.commit_event()
    wait_for(lambda: f"id: {latest(controller)}" in reader.lines)
    assert ": still here" in reader.lines


def test_a_slow_client_is_cut_off_and_no_other(serve: Serve, controller, metrics, read) -> None:
    served = serve(streams=lambda store: _hub(controller, store, metrics, queue_size=20))
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(f"GET /v1/stream HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())  # and never reads the answer
        joined(metrics, 1)
        reader = read(served)
        joined(metrics, 2)
        sent = 0
        while metrics.stream_clients == 2:
            controller.repository.add_changes([("camera", "updated", {"id": "gate", "padding": "x" * 100_000})])
            sent += 1
            reader.wait(sent)
            assert sent < 500
        assert metrics.stream_clients == 1
        assert not reader.ended.is_set()


def test_the_server_stops_at_once_with_a_client_connected(served, metrics, read) -> None:
    reader = read(served)
    joined(metrics)
    began_s = time.monotonic()
    served.stop()
    assert reader.ended.wait(1)
    assert time.monotonic() - began_s < 2.0


def test_changes_go_on_after_the_controller_was_away(served, controller, metrics, read) -> None:
    reader = read(served)
    joined(metrics)
    controller.error = UnavailableError("The Controller restarts.")
    missed = controller.commit_event()
    controller.error = None
    assert reader.wait(1)[0].data["id"] == missed.id


def test_the_number_of_clients_is_known(served, metrics, read) -> None:
    reader = read(served)
    joined(metrics, 1)
    reader.close()
    joined(metrics, 0)


def test_every_change_is_told_to_the_metrics_once(served, controller, metrics, read) -> None:
    readers = [read(served), read(served)]
    joined(metrics, 2)
    controller.commit_event()
    for reader in readers:
        reader.wait(1)
    assert [change.topic for change in metrics.changes] == ["event"]


def _hub(controller: FakeController, store: Repository, metrics: RecordedMetrics, **limits: Any) -> Streams:
    return Streams(controller, store, on_change=metrics.count, on_clients=metrics.set_stream_clients, **limits)
