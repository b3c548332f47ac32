from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from streamkd.config import EventsConfig
from streamkd.store.records import EventRecord
from streamkd.types import EventKind
from streamkd_service.api.routes.events import clip_wait_s
from streamkd_service.api.schemas import EventOut
from tests.api.fake_controller import START, FakeController, jpeg


@pytest.fixture
def some(client: httpx.Client, controller: FakeController) -> httpx.Client:
    """Four events, the newest last: a fight at the gate, one in the yard, an anomaly, a closed and judged one."""
    controller.commit_event("gate", seconds=1, score=0.9)
    controller.commit_event("yard", seconds=2, score=0.6)
    controller.commit_event("gate", seconds=3, kind=EventKind.ANOMALY, label="anomaly", score=0.8)
    controller.commit_event("gate", seconds=4, label="fall", score=0.7, end_utc=START + timedelta(seconds=9))
    return client


def labels(client: httpx.Client, query: str) -> list[str]:
    answer = client.get(f"/v1/events?{query}")
    assert answer.status_code == 200, answer.text
    return [f"{event['camera_id']}/{event['label']}" for event in answer.json()["events"]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["gate/fall", "gate/anomaly", "yard/fight", "gate/fight"]),
        ("camera=yard", ["yard/fight"]),
        ("kind=anomaly", ["gate/anomaly"]),
        ("label=fight", ["yard/fight", "gate/fight"]),
        ("min_score=0.75", ["gate/anomaly", "gate/fight"]),
        ("open=false", ["gate/fall"]),
        ("open=true&camera=gate", ["gate/anomaly", "gate/fight"]),
        ("after=2026-01-01T12:00:03Z", ["gate/fall", "gate/anomaly"]),
        ("after=2026-01-01T13:00:03%2B01:00", ["gate/fall", "gate/anomaly"]),
        ("before=2026-01-01T12:00:02", ["gate/fight"]),
        ("camera=nowhere", []),
        ("limit=1", ["gate/fall"]),
    ],
)
def test_events_are_filtered_newest_first(some: httpx.Client, query: str, found: list[str]) -> None:
    assert labels(some, query) == found


def test_pages_follow_the_cursor(some: httpx.Client) -> None:
    first = some.get("/v1/events?limit=3").json()
    second = some.get(f"/v1/events?limit=3&cursor={first['next_cursor']}").json()
    assert ([event["label"] for event in second["events"]], second["next_cursor"]) == (["fight"], None)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=501",
        "kind=x",
        "min_score=2",
        "after=yesterday",
        "after=0001-01-01T00:00:00%2B14:00",
        "open=maybe",
        "cursor=nonsense",
    ],
)
def test_a_wrong_filter_is_422(client: httpx.Client, query: str) -> None:
    answer = client.get(f"/v1/events?{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


def test_an_event_has_every_field_of_the_record(client: httpx.Client, controller: FakeController) -> None:
    event = controller.commit_event()
    shown = client.get(f"/v1/events/{event.id}").json()
    assert set(shown) == set(EventOut.model_fields) == {"links", *(field.name for field in fields(EventRecord))}


@pytest.mark.parametrize("path", ["/v1/events/none", "/v1/events/none/snapshot.jpg", "/v1/events/none/clip.mp4"])
def test_an_unknown_event_is_404(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("verdict", ["confirmed", "rejected"])
def test_a_verdict_is_kept_with_its_note(client: httpx.Client, controller: FakeController, verdict: str) -> None:
    event = controller.commit_event()
    client.patch(f"/v1/events/{event.id}", json={"verdict": verdict, "note": "seen"})
    shown = client.get(f"/v1/events/{event.id}").json()
    assert (shown["verdict"], shown["note"]) == (verdict, "seen")


def test_a_verdict_can_be_taken_back(client: httpx.Client, controller: FakeController) -> None:
    path = f"/v1/events/{controller.commit_event().id}"
    client.patch(path, json={"verdict": "confirmed", "note": "seen"})
    assert client.patch(path, json={"verdict": None}).json()["verdict"] is None


def test_a_note_alone_keeps_the_verdict(client: httpx.Client, controller: FakeController) -> None:
    path = f"/v1/events/{controller.commit_event().id}"
    client.patch(path, json={"verdict": "rejected"})
    assert client.patch(path, json={"note": "children"}).json()["verdict"] == "rejected"


def test_judging_an_unknown_event_is_404(client: httpx.Client) -> None:
    assert client.patch("/v1/events/none", json={"verdict": "confirmed"}).status_code == 404


@pytest.mark.parametrize("body", [{}, {"verdict": "perhaps"}, {"note": "x" * 1001}, {"score": 1}])
def test_a_wrong_judgement_is_422(client: httpx.Client, controller: FakeController, body: dict[str, object]) -> None:
    event = controller.commit_event()
    assert client.patch(f"/v1/events/{event.id}", json=body).status_code == 422


def test_a_snapshot_of_an_event_is_its_picture(client: httpx.Client, controller: FakeController) -> None:
    event = controller.commit_event(snapshot_jpeg=jpeg("fight"))
    answer = client.get(f"/v1/events/{event.id}/snapshot.jpg")
    assert (answer.content, answer.headers["content-type"]) == (jpeg("fight"), "image/jpeg")


def test_an_event_without_a_snapshot_is_404(client: httpx.Client, controller: FakeController) -> None:
    event = controller.commit_event()
    assert client.get(f"/v1/events/{event.id}/snapshot.jpg").status_code == 404


def test_a_later_revision_is_shown(client: httpx.Client, controller: FakeController) -> None:
    event = controller.commit_event()
    ended = replace(event, revision=2, score=0.95, end_utc=START + timedelta(seconds=30))
    controller.repository.apply_updates([ended], controller.media_dir)
    assert client.get(f"/v1/events/{event.id}").json()["end_utc"] == "2026-01-01T12:00:30Z"


def with_clip(controller: FakeController, data: bytes = b"0123456789") -> str:
    """An event that is over and has a clip; returns the clip's path."""
    event = controller.commit_event(end_utc=START)
    controller.repository.store_clip(event.id, 0, data, len(data), controller.media_dir)
    return f"/v1/events/{event.id}/clip.mp4"


def test_a_clip_of_an_event_is_its_video(client: httpx.Client, controller: FakeController) -> None:
    answer = client.get(with_clip(controller))
    assert (answer.status_code, answer.content) == (200, b"0123456789")
    assert answer.headers["content-type"] == "video/mp4"


def test_the_event_links_to_its_clip(client: httpx.Client, controller: FakeController) -> None:
    path = with_clip(controller)
    assert client.get(path.removesuffix("/clip.mp4")).json()["links"]["clip"] == path


def test_a_part_of_a_clip_can_be_asked_for(client: httpx.Client, controller: FakeController) -> None:
    answer = client.get(with_clip(controller), headers={"Range": "bytes=2-5"})
    assert (answer.status_code, answer.content) == (206, b"2345")
    assert answer.headers["content-range"] == "bytes 2-5/10"


def test_a_part_beyond_the_clip_is_416(client: httpx.Client, controller: FakeController) -> None:
    assert client.get(with_clip(controller), headers={"Range": "bytes=50-"}).status_code == 416


@pytest.mark.parametrize("ended_s_ago", [None, 1.0], ids=["open", "just ended"])
def test_a_clip_that_is_not_whole_yet_is_409(
    client: httpx.Client, controller: FakeController, ended_s_ago: float | None
) -> None:
    end = None if ended_s_ago is None else datetime.now(UTC) - timedelta(seconds=ended_s_ago)
    answer = client.get(f"/v1/events/{controller.commit_event(end_utc=end).id}/clip.mp4")
    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
    assert int(answer.headers["retry-after"]) >= 1


def test_an_event_that_is_long_over_and_has_no_clip_is_404(client: httpx.Client, controller: FakeController) -> None:
    event = controller.commit_event(end_utc=START)
    assert client.get(f"/v1/events/{event.id}/clip.mp4").status_code == 404


def test_the_clip_of_an_interrupted_event_is_not_waited_for() -> None:
    event = EventRecord(
        "e",
        "gate",
        EventKind.ACTION,
        "fight",
        START,
        START,
        0.9,
        "v1",
        2,
        None,
        "",
        has_snapshot=False,
        interrupted=True,
    )
    assert clip_wait_s(event, EventsConfig(), START) is None
