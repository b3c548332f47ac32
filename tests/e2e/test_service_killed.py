"""kill -9 of the whole service: what it has acknowledged is there when it starts again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import ALARMING, QUICK
from tests.processes import RtspServer, Service, started, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def killed(
    tmp_path_factory: pytest.TempPathFactory, rtsp: RtspServer, alarming_bundle: Path
) -> Iterator[tuple[list[dict], Service]]:
    """The events that were there before the kill, and the service after its next start."""
    service = Service(
        tmp_path_factory.mktemp("killed"),
        cameras=[{"id": "gate", "url": rtsp.url("gate")} | QUICK],
        student={"bundle": str(alarming_bundle)},
        events=ALARMING | {"max_duration_s": 60.0},  # one is open when the kill comes
    )
    with started(service):
        service.api.post("/v1/cameras", {"id": "door", "url": rtsp.url("door")})
        before = wait_for(service.events, timeout_s=60.0, why="an event")
        service.kill()
        service.start()
        service.wait_state("gate", "online", timeout_s=60.0)
        yield before, service


def test_no_acknowledged_event_is_lost(killed):
    before, service = killed
    assert {event["id"] for event in before} <= {event["id"] for event in service.events(limit=500)}


def test_an_event_that_was_open_is_closed_as_interrupted(killed):
    before, service = killed
    event = service.api.get(f"/v1/events/{before[0]['id']}")
    assert (event["interrupted"], event["end_utc"] is not None) == (True, True)


def test_cameras_of_the_api_are_there_again(killed):
    _, service = killed
    assert "door" in [camera["id"] for camera in service.api.get("/v1/cameras")]


def test_its_snapshot_is_there(killed):
    before, service = killed
    assert service.api.get(f"/v1/events/{before[0]['id']}")["has_snapshot"]
