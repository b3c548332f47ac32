"""Camera readers on the real RTSP server: what users' cameras do, and what must come of it."""

from __future__ import annotations

import contextlib
import time

import numpy as np
import pytest

from streamkd.errors import SourceError
from streamkd.media.check import probe_camera
from streamkd.media.mailbox import MailboxSet
from streamkd.media.reader import CameraReader, read_recording
from streamkd.media.reconnect import BackOff
from streamkd.types import CameraState, FailureReason
from tests.media import DeadLine, KeptMailboxes, RtspServer, camera, make_clip, needs_rtsp, number_of, wait_until
from tests.ports import free_port

pytestmark = [pytest.mark.e2e, needs_rtsp()]

FPS, RATE_HZ, SIZE = 15, 5.0, 32
QUICK = BackOff(base_s=0.4, cap_s=0.8)


class Watching:
    """A reader, and everything that came out of it."""

    def __init__(self, url, boxes=None, camera_id="cam", *, max_frame_age_s=0.5, **settings):
        self.boxes = boxes or KeptMailboxes()
        config = camera(url, camera_id, **settings)
        self.reader = CameraReader(
            config,
            self.boxes,
            RATE_HZ,
            SIZE,
            back_off=QUICK,
            rng=np.random.default_rng(0),
            max_frame_age_s=max_frame_age_s,
        )

    @property
    def frames(self):
        return list(self.boxes.given)

    def __enter__(self):
        self.reader.start()
        return self

    def __exit__(self, *_):
        self.reader.stop()

    def until_frames(self, count, timeout_s=10.0):
        return wait_until(lambda: len(self.frames) >= count, timeout_s, f"{count} frames; {self.reader.status()}")

    def until_state(self, state, timeout_s=10.0):
        return wait_until(lambda: self.reader.status().state is state, timeout_s, f"{state}; {self.reader.status()}")

    def until_reason(self, reason, timeout_s=10.0):
        wait_until(lambda: self.reader.status().reason is reason, timeout_s, f"{reason}; {self.reader.status()}")
        return self.reader.status()

    def true_ages_s(self):
        """By number, how long ago each frame was sent when it was given; the fastest delivery counts as 0."""
        sent = {number_of(frame.grey): at_s - number_of(frame.grey) / FPS for at_s, frame in self.frames}
        return {number: origin - min(sent.values()) for number, origin in sent.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cameras")


@pytest.fixture(scope="module")
def clip(folder):
    return make_clip(folder / "long.mp4", frames=FPS * 60, fps=FPS)


@pytest.fixture(scope="module")
def server(folder, clip):
    mounts = {
        "long": clip,
        "short": make_clip(folder / "short.mp4", frames=FPS),
        "slices": make_clip(folder / "slices.mp4", frames=FPS * 20, slices=4),
        "reordered": make_clip(folder / "reordered.mp4", frames=FPS * 20, b_frames=2),
        "broken": folder / "nowhere.mp4",
    }
    with RtspServer(mounts, audio=["sound"]) as running:
        yield running


def test_a_camera_is_analysed_at_the_rate_and_grid_of_its_recording(server, clip):
    with Watching(server.url("long"), skip_loop_filter="none", max_frame_age_s=5.0) as watching:
        watching.until_frames(12)
        status = watching.reader.status()
    assert (status.state, status.codec, status.width) == (CameraState.ONLINE, "h264", 320)
    recorded = read_recording(clip, RATE_HZ, SIZE)
    by_number = {number_of(frame.grey): frame for frame, _ in zip(recorded, range(40), strict=False)}
    for _, frame in watching.frames:
        same = by_number[number_of(frame.grey)]
        assert frame.pts_s == pytest.approx(same.pts_s, abs=1e-3)
        assert np.array_equal(frame.rgb, same.rgb)


def test_a_camera_that_is_slowed_gives_the_first_part_of_each_group_of_pictures(server):
    with Watching(server.url("long"), max_frame_age_s=5.0) as watching:
        watching.until_frames(12)
        watching.reader.slow_down(1)
        begun = len(watching.frames)
        watching.until_frames(begun + 12)
        watching.reader.slow_down(0)
        slowed = [number_of(frame.grey) for _, frame in watching.frames[begun:]]
        again = len(watching.frames)
        watching.until_frames(again + 12)
        whole = [number_of(frame.grey) for _, frame in watching.frames[again:]]
    # A change holds from the next keyframe on at the latest; they are 15 pictures apart.
    assert {number % 15 for number in slowed if number >= slowed[0] + 15} == {0, 3, 6}
    assert {number % 15 for number in whole if number >= whole[0] + 15} == {0, 3, 6, 9, 12}


@pytest.mark.parametrize("mount", ["slices", "reordered"])
def test_keyframes_in_pieces_and_reordered_frames_lose_nothing(server, mount):
    with Watching(server.url(mount), max_frame_age_s=5.0) as watching:
        watching.until_frames(12)
        counts = watching.reader.counts()
    assert counts.dropped == {"corrupt": 0, "stale": 0}
    numbers = [number_of(frame.grey) for _, frame in watching.frames]
    assert numbers[2:] == list(range(numbers[2], numbers[2] + 3 * len(numbers[2:]), 3))


def test_udp(server):
    with Watching(server.url("long"), transport="udp") as watching:
        watching.until_frames(5)


def test_the_first_frames_are_not_old_or_say_so(server):
    with Watching(server.url("long"), max_frame_age_s=0.25) as watching:
        taken = []  # what was given at once with a newer one is replaced by it

        def take():
            now_s = time.monotonic()
            # As the service does: what has waited too long since it arrived is not analysed.
            taken.extend(frame for frame in watching.boxes.collect() if now_s - frame.received_s <= 0.25)
            return len(taken) >= 10

        wait_until(take)
    ages_s = watching.true_ages_s()
    assert max(ages_s[number_of(frame.grey)] for frame in taken) < 0.5
    said_s = {number_of(frame.grey): at_s - frame.received_s for at_s, frame in watching.frames}
    assert max(ages_s[number] - said_s[number] for number in said_s) < 0.25


def test_a_stream_that_ends_is_opened_again_in_a_new_segment(server):
    with Watching(server.url("short")) as watching:
        watching.until_frames(12)
        counts = watching.reader.counts()
    assert {frame.segment for _, frame in watching.frames} >= {0, 1}
    assert counts.reconnects["ended"] >= 1


def test_a_killed_server_is_found_again_within_the_bound(clip):
    server = RtspServer({"long": clip})
    with server, Watching(server.url("long")) as watching:
        watching.until_frames(3)
        server.stop(kill=True)
        watching.until_state(CameraState.BACKING_OFF)
        server.start()
        before = len(watching.frames)
        # one wait, one attempt, and what a loaded machine needs
        assert watching.until_frames(before + 1) < QUICK.cap_s + 3.0
        assert watching.frames[-1][1].segment > watching.frames[0][1].segment
        assert sum(watching.reader.counts().reconnects.values()) >= 1


def test_a_camera_that_is_absent_at_first_is_found_later(clip):
    server = RtspServer({"long": clip}, port=free_port())
    with Watching(server.url("long")) as watching:
        status = watching.until_reason(FailureReason.UNREACHABLE)
        assert "refused" in status.detail
        assert watching.reader.snapshot() is None
        with server:
            watching.until_frames(3)
            assert watching.reader.snapshot().startswith(b"\xff\xd8")


def test_a_wrong_password_is_said_without_the_password(clip):
    with RtspServer({"long": clip}, user="admin", password="right") as server:
        with Watching(server.url("long", user="admin:wr0ng")) as watching:
            status = watching.until_reason(FailureReason.AUTH)
        assert "wr0ng" not in status.detail
        assert "password" in status.detail
        with Watching(server.url("long", user="admin:right")) as watching:
            watching.until_frames(1)


@pytest.mark.parametrize(
    ("mount", "reason"),
    [("sound", FailureReason.NO_VIDEO), ("nowhere", FailureReason.NOT_FOUND), ("broken", FailureReason.ERROR)],
)
def test_what_is_no_camera_is_never_online(server, mount, reason):
    with Watching(server.url(mount)) as watching:
        assert watching.until_reason(reason).state in {CameraState.BACKING_OFF, CameraState.CONNECTING}
    assert watching.frames == []


def test_a_web_server_is_no_camera(server):
    with pytest.raises(SourceError):
        probe_camera(f"http://127.0.0.1:{server.port}/long", timeout_s=2)


def test_after_silence_no_stale_frame_is_analysed(server):
    with DeadLine(server.port) as line, Watching(server.url("long", port=line.port), read_timeout_s=20) as watching:
        watching.until_frames(5)
        line.go_dead()
        watching.until_state(CameraState.STALLED)
        time.sleep(1.5)
        before = len(watching.frames)
        line.go_on()
        watching.until_frames(before + 8)
        counts = watching.reader.counts()
    assert max(watching.true_ages_s().values()) < 0.5 + 0.2
    assert counts.dropped["stale"] > FPS
    assert counts.stalls == 1
    assert {frame.segment for _, frame in watching.frames[before + 1 :]} == {1}


def test_a_line_that_is_silent_for_too_long_is_given_up_and_disturbs_no_other(server):
    boxes = MailboxSet()
    with contextlib.ExitStack() as stack:
        line = stack.enter_context(DeadLine(server.port))
        dead = stack.enter_context(Watching(server.url("long", port=line.port), boxes, "dead", read_timeout_s=1.0))
        fine = stack.enter_context(Watching(server.url("long"), boxes, "fine"))
        mine = {"dead": [], "fine": []}

        def collect():
            for frame in boxes.collect():
                mine[frame.camera_id].append(frame)
            return min(len(frames) for frames in mine.values())

        wait_until(lambda: collect() >= 3)
        line.go_dead()
        wait_until(lambda: collect() < 0 or dead.reader.status().reason is FailureReason.TIMEOUT)
        seen = len(mine["fine"])
        wait_until(lambda: collect() < 0 or len(mine["fine"]) >= seen + 10)
        line.go_on()
        seen = len(mine["dead"])
        wait_until(lambda: collect() < 0 or len(mine["dead"]) > seen + 2)
        assert dead.reader.counts().reconnects["timeout"] >= 1
        assert fine.reader.counts().reconnects == {}
        assert {frame.segment for frame in mine["fine"]} == {0}


def test_a_reader_stops_within_a_second_even_when_the_line_is_dead(server):
    with DeadLine(server.port) as line, Watching(server.url("long", port=line.port), read_timeout_s=20) as watching:
        watching.until_frames(1)
        line.go_dead()
        time.sleep(0.3)
        began_s = time.monotonic()
        watching.reader.stop()
        assert time.monotonic() - began_s < 1.3
        before = len(watching.frames)
        line.go_on()
        time.sleep(0.5)
        assert len(watching.frames) == before


def test_a_check_of_a_camera(server):
    report = probe_camera(server.url("long"), seconds=2.0)
    assert (report.info.transport, report.info.codec, report.gop_frames) == ("tcp", "h264", FPS)
    assert report.measured_fps == pytest.approx(FPS, abs=0.2)
    assert report.first_frame_s < 3


def test_silence_is_noticed_after_one_read_timeout(server):
    with DeadLine(server.port) as line, Watching(server.url("long", port=line.port), read_timeout_s=2.5) as watching:
        watching.until_frames(3)
        line.go_dead()
        took_s = wait_until(lambda: watching.reader.status().reason is FailureReason.TIMEOUT)
    assert took_s < 2.5 + 1.0
