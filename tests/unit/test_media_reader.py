"""Readers on files and HTTP: pace, status, snapshots; what HTTP may not reach."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
import time

import av
import pytest

from streamkd.clock import SystemClock
from streamkd.errors import SourceError
from streamkd.media.freshness import FreshnessGate, when_settled
from streamkd.media.mailbox import MailboxSet
from streamkd.media.reader import CameraReader
from streamkd.media.reconnect import BackOff
from streamkd.media.source import Arrival, DecodedFrame, open_camera
from streamkd.types import CameraState, FailureReason
from tests.media import KeptMailboxes, camera, make_clip, number_of, wait_until

QUICK = BackOff(base_s=0.2, cap_s=0.2)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    """A folder and the URL that it is served under."""
    folder = tmp_path_factory.mktemp("web")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@contextlib.contextmanager
def reading(url, **settings):
    boxes = KeptMailboxes()
    reader = CameraReader(camera(url, **settings), boxes, 5.0, 32, back_off=QUICK)
    reader.start()
    try:
        yield reader, boxes
    finally:
        reader.stop()


def take(boxes, count, timeout_s=10.0):
    """The first frames that the reader gave."""
    wait_until(lambda: len(boxes.given) >= count, timeout_s)
    return [frame for _, frame in boxes.given[:count]]


def test_a_file_is_played_at_its_own_pace_again_and_again(tmp_path):
    with reading(str(make_clip(tmp_path / "c.mp4", frames=15))) as (reader, boxes):
        began_s = time.monotonic()
        frames = take(boxes, 7)
        took_s = time.monotonic() - began_s
        counts = reader.counts()
    assert took_s > 1.0
    assert [number_of(f.grey) for f in frames[:5]] == [0, 3, 6, 9, 12]
    assert frames[-1].segment == 1
    assert counts.reconnects == {"ended": 1}
    assert counts.dropped == {"corrupt": 0, "stale": 0}


def test_counts_add_up(tmp_path):
    decode_ms = []
    boxes = MailboxSet()
    path = make_clip(tmp_path / "c.mp4", frames=15)
    reader = CameraReader(camera(str(path)), boxes, 5.0, 32, on_decode_ms=decode_ms.append)
    reader.start()
    wait_until(lambda: reader.status().state is CameraState.BACKING_OFF)
    reader.stop()
    counts, box = reader.counts(), boxes.counts("cam")
    assert (counts.received, counts.decoded, counts.due, counts.converted) == (15, 15, 5, 5)
    assert (box.put, box.superseded, box.pending) == (5, 4, 1)
    assert len(decode_ms) == 15


def test_status_and_snapshot(tmp_path):
    url = str(make_clip(tmp_path / "c.mp4", frames=150))
    assert CameraReader(camera(url), MailboxSet(), 5.0, 32).status().state is CameraState.CONNECTING
    with reading(url) as (reader, boxes):
        take(boxes, 3)
        status = reader.status()
        assert (status.state, status.codec, status.width, status.height) == (CameraState.ONLINE, "h264", 320, 240)
        assert status.frame_age_s < 1
        assert status.since_utc is not None
        assert reader.snapshot().startswith(b"\xff\xd8")


def test_a_later_reader_of_a_camera_uses_new_segments(tmp_path):
    url = str(make_clip(tmp_path / "c.mp4", frames=30))
    boxes = KeptMailboxes()
    segments = []
    for _ in range(2):
        reader = CameraReader(camera(url), boxes, 5.0, 32)
        reader.start()
        segments.append(take(boxes, 1)[0].segment)
        reader.stop()
        boxes.remove("cam")
        boxes.given.clear()
    assert segments == [0, 1]


def test_a_reader_that_was_never_started_can_be_stopped(tmp_path):
    CameraReader(camera(str(tmp_path / "x.mp4")), MailboxSet(), 5.0, 32).stop()


def test_stop_ends_a_back_off_at_once(tmp_path):
    reader = CameraReader(camera(str(tmp_path / "nope.mp4")), MailboxSet(), 5.0, 32)
    reader.start()
    wait_until(lambda: reader.status().state is CameraState.BACKING_OFF)
    assert reader.status().reason is FailureReason.NOT_FOUND
    began_s = time.monotonic()
    reader.stop()
    assert time.monotonic() - began_s < 0.5


def test_hls_is_played_at_its_own_pace(web):
    folder, url = web
    clip, playlist = make_clip(folder / "c.mp4", frames=60), folder / "live.m3u8"
    with (
        av.open(str(clip)) as container,
        av.open(str(playlist), "w", format="hls", options={"hls_time": "1"}) as out,
    ):
        stream = out.add_stream_from_template(container.streams.video[0])
        for packet in container.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    with reading(f"{url}/live.m3u8") as (_, boxes):
        began_s = time.monotonic()
        numbers = [number_of(f.grey) for f in take(boxes, 8)]
    assert numbers == list(range(0, 24, 3))
    assert time.monotonic() - began_s > 1.0


@pytest.mark.parametrize("name", ["evil.m3u8", "evil.mp4"])
def test_a_playlist_from_the_web_reads_no_local_files(web, name):
    folder, url = web
    secret = make_clip(folder / "secret.ts", frames=15)
    (folder / name).write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nfile://{secret}\n#EXT-X-ENDLIST\n")
    with contextlib.suppress(SourceError), open_camera(camera(f"{url}/{name}"), SystemClock()) as source:
        given = []
        with contextlib.suppress(SourceError):
            given += source.frames()
        assert not given


def test_a_missing_page_is_not_found(web):
    with pytest.raises(SourceError) as caught:
        open_camera(camera(f"{web[1]}/nope.m3u8"), SystemClock())
    assert caught.value.reason is FailureReason.NOT_FOUND


def test_after_a_silence_a_backlog_without_times_is_dropped():
    gate = FreshnessGate(0.5, interval_s=0.1, timed=False)

    def push(*pictures):
        arrivals = [Arrival(None, None, 1, False, at_s, waited_s) for at_s, waited_s in pictures]
        return sum(
            len(gate.push(DecodedFrame(None, one.arrived_s, one.arrived_s, one.waited_s, 1.0)))
            for one in when_settled(arrivals, gate)
        )

    live = push(*((100 + k / 10, 0.1) for k in range(10)))
    stuck = push((120, 19.0), *[(120.0, 0.0)] * 50)
    again = push(*((120.1 + k / 10, 0.1) for k in range(10)))
    assert (live, stuck, again, gate.stale) == (10, 0, 10, 51)
