"""A camera's stream for clips on the real RTSP server: received, not decoded, and connected again when it is lost."""

from __future__ import annotations

import time

import numpy as np
import pytest

from streamkd.clock import SystemClock
from streamkd.media.clip_stream import ClipStream
from streamkd.media.mailbox import MailboxSet
from streamkd.media.packets import PacketBuffer
from streamkd.media.reconnect import BackOff
from streamkd_service.runtime.histograms import LATENCY_BOUNDS_MS, Histogram
from streamkd_service.runtime.readers import ReaderPool
from tests.fakes import tiny_spec
from tests.media import RtspServer, camera, make_clip, needs_rtsp, wait_until
from tests.ports import free_port

pytestmark = [pytest.mark.e2e, needs_rtsp()]

FPS = 15
QUICK = BackOff(base_s=0.4, cap_s=0.8)


@pytest.fixture
def server(tmp_path):
    with RtspServer({"large": make_clip(tmp_path / "large.mp4", frames=60 * FPS, fps=FPS, width=1280)}) as server:
        yield server


def clip_stream(url, packets=None, **settings):
    config = camera("rtsp://127.0.0.1:9/small", clip_url=url, read_timeout_s=1.0, **settings)
    packets = PacketBuffer(10.0, 10**8) if packets is None else packets
    return ClipStream(config, packets, back_off=QUICK, rng=np.random.default_rng(0)), packets


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_it_keeps_what_arrives(server, transport):
    stream, packets = clip_stream(server.url("large"), transport=transport)
    stream.start()
    try:
        wait_until(lambda: len(packets.since(0.0)) >= 3 * FPS, 10.0, "three seconds of pictures")
    finally:
        stream.stop()
    kept = packets.since(0.0)
    assert (kept[0].keyframe, kept[0].stream.codec, stream.trouble) == (True, "h264", "")
    serials = [packet.serial for packet in kept]
    assert serials == list(range(serials[0], serials[0] + len(kept)))
    steps_s = np.diff([packet.stream.seconds(packet.pts) for packet in kept[1:]])  # the very first has none yet
    assert steps_s == pytest.approx(1 / FPS, abs=0.002)  # nothing was lost


def test_after_a_loss_it_says_why_and_connects_again(server):
    stream, packets = clip_stream(server.url("large"))
    stream.start()
    try:
        wait_until(lambda: packets.since(0.0), 10.0, "a picture")
        first = packets.since(0.0)[0].stream
        server.stop(kill=True)
        wait_until(lambda: stream.trouble, 10.0, "trouble is told")
        assert stream.trouble.startswith("No clips: ")
        server.start()
        wait_until(lambda: packets.since(0.0)[-1].stream is not first, 15.0, "another connection")
        wait_until(lambda: not stream.trouble, 5.0, "no more trouble")
    finally:
        stream.stop()


def test_no_secret_is_told_and_it_ends_at_once():
    url = f"rtsp://viewer:hunter2@127.0.0.1:{free_port()}/large?key=hunter2"
    stream, _ = clip_stream(url)
    stream.start()
    wait_until(lambda: stream.trouble, 10.0, "trouble is told")
    assert "hunter2" not in stream.trouble
    began_s = time.monotonic()
    stream.stop()
    assert time.monotonic() - began_s < 1.0


def test_a_camera_is_analysed_whatever_becomes_of_its_clips(server):
    pool = ReaderPool(MailboxSet(), Histogram(LATENCY_BOUNDS_MS), SystemClock())
    pool.spec = tiny_spec("v1")
    pool.packets = lambda: PacketBuffer(10.0, 10**8)
    pool.start([camera(server.url("large"), clip_url=f"rtsp://127.0.0.1:{free_port()}/gone")])
    try:
        wait_until(lambda: pool.statuses({})[0].detail.startswith("No clips: "), 10.0, "trouble is told")
        wait_until(lambda: pool.totals({})[0].decoded > FPS, 10.0, "pictures are decoded")
        assert pool.packets_of("cam").since(0.0) == []
    finally:
        pool.stop_all()


def test_a_camera_without_such_a_stream_is_refused():
    with pytest.raises(ValueError, match="no clip_url"):
        ClipStream(camera("rtsp://127.0.0.1:9/small"), PacketBuffer(1.0, 1), clock=SystemClock())
