"""The whole service on real RTSP cameras: what it finds, what it survives."""

from __future__ import annotations

import signal
import time

import httpx
import pytest

from streamkd.errors import StreamkdError
from tests.processes import RtspServer, Service, sample, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(180)]

LIVE = ("gate", "yard")
BACK_WITHIN_S = 40.0  # the longest back-off is 30 s, connecting takes the rest


@pytest.fixture(autouse=True)
def _all_online(service: Service) -> None:
    """Every test begins with the live cameras online, whatever the one before has done."""
    for name in LIVE:
        service.wait_state(name, "online", timeout_s=60.0)


def _answers(service: Service) -> tuple[float, float]:
    """All answers so far, and those within a second; of one page, so that none comes between."""
    page = service.api.text("/metrics")
    everything = sample(page, "streamkd_end_to_end_seconds_count")
    return everything, sample(page, "streamkd_end_to_end_seconds_bucket", le="1.0")


def test_live_cameras_are_analysed_at_the_student_s_rate(service):
    def analysed() -> float:
        return service.counter("streamkd_frames_analysed_total", camera="gate")

    first = analysed()
    # Counts come with reports, a moment after what they count; and the page may be of before another test's end.
    wait_for(lambda: analysed() > first, why="a fresh count has arrived")
    before, began_s = analysed(), time.monotonic()
    wait_for(lambda: analysed() >= before + 50, why="fifty more frames are analysed")
    assert 4.0 <= (analysed() - before) / (time.monotonic() - began_s) <= 6.0


def test_an_absent_camera_says_why_and_when_it_tries_again(service):
    def told():
        status = service.status("absent")
        return status["state"] == "backing_off" and status["reason"] == "not_found" and status["next_attempt_in_s"] > 0

    # While another test has the server down, it can't be reached; it says so until its next attempt.
    wait_for(told, timeout_s=60.0, why="the camera is said not to be found, and when it is looked for again")


def test_a_silent_camera_times_out(service):
    assert service.wait_state("silent", "backing_off")["reason"] == "timeout"


def test_events_have_their_snapshot(service):
    event = wait_for(lambda: service.events(camera="gate", limit=1))[0]
    picture = httpx.get(f"{service.api.url}/v1/events/{event['id']}/snapshot.jpg", trust_env=False)
    assert (event["label"], picture.content[:2]) == ("fight", b"\xff\xd8")


def test_the_stream_tells_of_new_events(service):
    for message in service.api.stream():
        # In whatever order tests run: a camera that another one has just removed ends its event late.
        if message.topic == "event" and message.data["camera_id"] in LIVE:
            return
    pytest.fail("The stream ended without an event of a live camera.")


def test_a_live_snapshot_is_a_picture(service):
    picture = httpx.get(f"{service.api.url}/v1/cameras/gate/snapshot.jpg", trust_env=False)
    assert (picture.status_code, picture.content[:2]) == (200, b"\xff\xd8")


def test_a_camera_is_added_and_removed_while_the_others_run(service, rtsp):
    service.api.post("/v1/cameras", {"id": "door", "url": rtsp.url("door")})
    service.wait_state("door", "online")
    # A scrape within half a second of the last one shows the same page, perhaps of before the camera was online.
    wait_for(
        lambda: service.counter("streamkd_frames_analysed_total", camera="door") > 0,
        timeout_s=5.0,
        why="its frames are counted",
    )
    service.api.delete("/v1/cameras/door")
    wait_for(lambda: 'camera="door"' not in service.api.text("/metrics"), why="the camera's series vanish")
    assert [service.status(name)["state"] for name in LIVE] == ["online", "online"]


def test_a_disabled_camera_rests(service, rtsp):
    service.api.post("/v1/cameras", {"id": "rests", "url": rtsp.url("door"), "enabled": False})
    assert service.status("rests")["state"] == "disabled"
    service.api.delete("/v1/cameras/rests")


def test_an_uploaded_clip_is_analysed(service, demo_clips):
    with (demo_clips / "clips" / "fi001.mp4").open("rb") as clip:
        answer = httpx.post(f"{service.api.url}/v1/infer", files={"file": clip}, timeout=60, trust_env=False)
    assert (answer.status_code, len(answer.json()["frames"]) > 5) == (200, True)


def test_every_camera_is_back_after_the_server_was_killed(service, rtsp: RtspServer):
    rtsp.kill()
    for name in LIVE:
        service.wait_state(name, "backing_off", "connecting", timeout_s=15.0)
    rtsp.start()
    for name in LIVE:
        service.wait_state(name, "online", timeout_s=BACK_WITHIN_S)


def test_a_server_that_falls_silent_is_noticed_and_nothing_stale_is_analysed(service, rtsp: RtspServer):
    rtsp.signal(signal.SIGSTOP)
    try:
        for name in LIVE:
            service.wait_state(name, "stalled", "backing_off", "connecting", timeout_s=20.0)
        before = _answers(service)
    finally:
        rtsp.signal(signal.SIGCONT)
    for name in LIVE:
        service.wait_state(name, "online", timeout_s=BACK_WITHIN_S)
    everything, within_1_s = (now - then for now, then in zip(_answers(service), before, strict=True))
    assert everything == within_1_s


def test_a_killed_worker_comes_back_and_nothing_acknowledged_is_lost(service):
    acknowledged = {event["id"] for event in wait_for(lambda: service.events(limit=100))}
    analysed = service.counter("streamkd_frames_analysed_total", camera="gate")
    restarts = service.api.get("/v1/system")["workers"][0]["restarts"]
    service.process_of("ray::WorkerActor").kill()
    wait_for(lambda: service.api.get("/v1/system")["workers"][0]["restarts"] == restarts + 1, why="a new worker")
    for name in LIVE:
        service.wait_state(name, "online", timeout_s=BACK_WITHIN_S)
    assert acknowledged <= {event["id"] for event in service.events(limit=500)}
    assert service.counter("streamkd_frames_analysed_total", camera="gate") >= analysed


def test_a_killed_controller_comes_back_with_the_same_cameras(service, rtsp):
    service.api.post("/v1/cameras", {"id": "kept", "url": rtsp.url("door"), "enabled": False})
    before = [camera["id"] for camera in service.api.get("/v1/cameras")]
    started = service.api.get("/v1/system")["started_utc"]
    service.process_of("ray::ControllerActor").kill()
    wait_for(lambda: _answer(service, "/v1/system", "started_utc") not in {None, started}, why="a new Controller")
    assert [camera["id"] for camera in service.api.get("/v1/cameras")] == before
    service.api.delete("/v1/cameras/kept")


def _answer(service: Service, path: str, key: str) -> str | None:
    try:
        return service.api.get(path)[key]
    except StreamkdError:
        return None
