"""Event clips from real RTSP cameras: they play, begin with a keyframe before the event, and hold all of it."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import av
import httpx
import pytest

from streamkd.errors import ConflictError
from tests.e2e.conftest import ALARMING, QUICK
from tests.media import make_clip
from tests.processes import RtspServer, Service, started, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(180)]
PRE_ROLL_S, POST_ROLL_S, GOP_S = 5.0, 5.0, 2.0  # the defaults; 30 frames at 15 a second
FPS = 15


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RtspServer]:
    """A camera's full picture."""
    path = tmp_path_factory.mktemp("large") / "large.mp4"
    server = RtspServer({"large": make_clip(path, frames=180 * FPS, fps=FPS, gop=30, width=1280, height=720)})
    yield server
    server.kill()


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, rtsp: RtspServer, large: RtspServer, alarming_bundle: Path
) -> Iterator[Service]:
    """Two cameras that nothing disturbs, one of them with two streams."""
    service = Service(
        tmp_path_factory.mktemp("clips"),
        cameras=[
            {"id": "gate", "url": rtsp.url("gate"), **QUICK},
            {"id": "yard", "url": rtsp.url("yard"), "clip_url": large.url("large"), **QUICK},
        ],
        student={"bundle": str(alarming_bundle)},
        events=ALARMING,
    )
    with started(service):
        yield service


@pytest.fixture(scope="module")
def event(service: Service) -> dict:
    """An event that is over, whose camera had been connected for longer than the pre-roll, with its clip."""
    return late_event(service, "gate")


def late_event(service: Service, camera: str) -> dict:
    def late_enough() -> dict | None:
        oldest_first = service.events(limit=500, camera=camera)[::-1]
        late = (
            one for one in oldest_first if seconds(oldest_first[0]["start_utc"], one["start_utc"]) > PRE_ROLL_S + GOP_S
        )
        return next((one for one in late if one["has_clip"]), None)

    return wait_for(late_enough, timeout_s=90, why="an event has a clip")


@pytest.fixture(scope="module")
def clip(service: Service, event: dict) -> bytes:
    return clip_of(service, event)


def clip_of(service: Service, event: dict) -> bytes:
    answer = httpx.get(f"{service.api.url}{event['links']['clip']}", trust_env=False)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
    return answer.content


def seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def times(clip: bytes) -> list[float]:
    with av.open(io.BytesIO(clip)) as container:
        return [frame.time for frame in container.decode(video=0)]


def test_a_clip_plays_and_has_the_size_of_the_camera(clip):
    with av.open(io.BytesIO(clip)) as container:
        frame = next(container.decode(video=0))
    assert (frame.width, frame.height, frame.key_frame) == (640, 480, True)


def holds_all_of(event: dict, clip: bytes) -> bool:
    lasted_s = PRE_ROLL_S + seconds(event["start_utc"], event["end_utc"]) + POST_ROLL_S
    return lasted_s - 1.0 <= times(clip)[-1] <= lasted_s + GOP_S + 1.0


def longest_hole_s(clip: bytes) -> float:
    return max(after - before for before, after in itertools.pairwise(times(clip)))


def test_a_clip_holds_pre_roll_event_and_post_roll(event, clip):
    assert holds_all_of(event, clip)


def test_a_clip_has_no_hole(clip):
    assert longest_hole_s(clip) < 3 / FPS


def test_a_clip_is_cut_from_the_stream_for_clips(service):
    event = late_event(service, "yard")
    clip = clip_of(service, event)
    with av.open(io.BytesIO(clip)) as container:
        frame = next(container.decode(video=0))
    assert (frame.width, frame.height, frame.key_frame) == (1280, 720, True)
    assert holds_all_of(event, clip)
    assert longest_hole_s(clip) < 3 / FPS
    camera = service.api.get("/v1/cameras/yard")
    assert (camera["status"]["width"], camera["status"]["detail"]) == (640, "")


def test_a_clip_is_served_in_ranges(service, event, clip):
    answer = httpx.get(
        f"{service.api.url}{event['links']['clip']}", headers={"Range": "bytes=100-199"}, trust_env=False
    )
    assert (answer.status_code, answer.content) == (206, clip[100:200])


def test_while_an_event_goes_on_its_clip_is_not_there_yet(service):
    def open_event() -> bool:
        for one in service.events(open="true"):
            try:
                service.api.text(f"/v1/events/{one['id']}/clip.mp4")
            except ConflictError:
                return True
        return False

    wait_for(open_event, timeout_s=30, why="an open event's clip is refused")
