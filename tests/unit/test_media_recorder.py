"""Event clips: cut at a keyframe, with pre-roll and post-roll, playable, whatever the stream was like."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import av
import pytest

from streamkd.clock import FakeClock, SystemClock
from streamkd.errors import InputError
from streamkd.media.muxer import ClipMuxer, PacketTimes
from streamkd.media.packets import CodedPacket, CodedStream, PacketBuffer
from streamkd.media.recorder import ClipPlan, EventRecorder
from streamkd.media.source import open_recording
from streamkd.types import EventKind, EventUpdate
from tests.media import make_clip, number_of

FPS, GOP = 15, 15
PLAN = ClipPlan(pre_roll_s=2.0, post_roll_s=1.0, max_bytes=10**7)


def packets_of(path: Path) -> list[CodedPacket]:
    """A recording's packets as the reader keeps them."""
    buffer = PacketBuffer(1e9, 10**9)
    with open_recording(path, SystemClock()) as source:
        buffer.begin(source.coded())
        list(source.frames(keep=buffer.add))
    return buffer.since(float("-inf"))


@pytest.fixture(scope="module")
def twenty_seconds(tmp_path_factory) -> list[CodedPacket]:
    return packets_of(make_clip(tmp_path_factory.mktemp("clip") / "c.ts", frames=20 * FPS, fps=FPS, gop=GOP))


class Scene:
    """A camera that is played packet by packet, and a recorder beside it."""

    def __init__(self, folder: Path, plan: ClipPlan = PLAN) -> None:
        self.clock = FakeClock(start_s=0.0)
        self.buffer = PacketBuffer(plan.buffer_s, 10**7)
        self.recorder = EventRecorder(folder / "clips", plan, {"gate": self.buffer}.get, self.clock)
        self.finished = []
        self._events: dict[str, EventUpdate] = {}
        self._stream: CodedStream | None = None

    def play(self, packets: list[CodedPacket], *, stream: CodedStream | None = None) -> None:
        """A packet every 1 / FPS s; the recorder works twice a second."""
        if self._stream is None or stream is not None:
            self._stream = stream or packets[0].stream
            self.buffer.begin(self._stream)
        for index, packet in enumerate(packets):
            self.clock.advance(1 / FPS)
            self.buffer.add(packet.to_av(), self.clock.monotonic_s())
            if index % 7 == 6:
                self.finished += self.recorder.step()

    def open(self, name: str = "e1", *, age_s: float = 0.0) -> None:
        update = EventUpdate(
            id=name,
            revision=1,
            camera_id="gate",
            kind=EventKind.ACTION,
            label="fight",
            start_utc=self.clock.utc() - timedelta(seconds=age_s),
            end_utc=None,
            start_pts_s=0.0,
            end_pts_s=None,
            score=0.9,
            model_version="v1",
        )
        self._events[name] = update
        self.recorder.offer([update])

    def close(self, name: str = "e1") -> None:
        update = dataclasses.replace(self._events[name], revision=2, end_utc=self.clock.utc(), end_pts_s=1.0)
        self.recorder.offer([update])


def numbers(path: Path) -> list[int]:
    """The pictures that a clip shows, by their number; asserts that it begins with a keyframe."""
    with av.open(str(path)) as container:
        first = next(packet for packet in container.demux(video=0) if packet.size)
        assert first.is_keyframe
        container.seek(0)
        frames = list(container.decode(video=0))
    times = [frame.time for frame in frames]
    assert times == sorted(set(times))
    return [number_of(frame.to_ndarray(format="gray")) for frame in frames]


def whole_event(scene: Scene, packets: list[CodedPacket]) -> list[int]:
    """An event from second 10 to second 12 of 20."""
    scene.play(packets[: 10 * FPS])
    scene.open()
    scene.play(packets[10 * FPS : 12 * FPS])
    scene.close()
    scene.play(packets[12 * FPS :])
    assert len(scene.finished) == 1
    return numbers(scene.finished[0].path)


def test_a_clip_holds_pre_roll_event_and_post_roll_without_a_hole(tmp_path, twenty_seconds):
    shown = whole_event(Scene(tmp_path), twenty_seconds)
    assert shown == list(range(shown[0], shown[-1] + 1))
    assert 8 * FPS - GOP <= shown[0] <= 8 * FPS
    assert 13 * FPS - 2 <= shown[-1] <= 13 * FPS


def test_a_clip_begins_with_a_keyframe(tmp_path, twenty_seconds):
    assert whole_event(Scene(tmp_path), twenty_seconds)[0] % GOP == 0


def test_an_event_that_opened_a_moment_ago_has_its_whole_pre_roll(tmp_path, twenty_seconds):
    scene = Scene(tmp_path)
    scene.play(twenty_seconds[: 10 * FPS])
    scene.open(age_s=2.0)
    scene.close()
    scene.play(twenty_seconds[10 * FPS : 15 * FPS])
    assert numbers(scene.finished[0].path)[0] <= 6 * FPS


def test_nothing_is_told_before_the_post_roll_is_over(tmp_path, twenty_seconds):
    scene = Scene(tmp_path)
    scene.play(twenty_seconds[: 10 * FPS])
    scene.open()
    scene.close()
    scene.play(twenty_seconds[10 * FPS : 10 * FPS + FPS // 2])
    assert scene.finished == []


def test_a_stream_without_pts_gives_a_clip(tmp_path, twenty_seconds):
    untimed = [dataclasses.replace(packet, pts=None, dts=None) for packet in twenty_seconds]
    shown = whole_event(Scene(tmp_path), untimed)
    assert shown == list(range(shown[0], shown[-1] + 1))


def test_a_clip_never_crosses_a_reconnect(tmp_path, twenty_seconds):
    scene = Scene(tmp_path)
    scene.play(twenty_seconds[: 10 * FPS])
    again = dataclasses.replace(twenty_seconds[0].stream)
    scene.play(twenty_seconds[: 2 * FPS], stream=again)
    scene.open(age_s=1.0)
    scene.close()
    scene.play(twenty_seconds[2 * FPS : 6 * FPS])
    assert numbers(scene.finished[0].path)[0] == 0


def test_the_clip_of_an_event_that_a_reconnect_ended_ends_there(tmp_path, twenty_seconds):
    scene = Scene(tmp_path)
    scene.play(twenty_seconds[: 10 * FPS])
    scene.open(age_s=1.0)
    scene.close()
    scene.play(twenty_seconds[: 3 * FPS], stream=dataclasses.replace(twenty_seconds[0].stream))
    assert numbers(scene.finished[0].path)[-1] == 10 * FPS - 1


def test_a_change_of_resolution_ends_the_clip(tmp_path, twenty_seconds):
    larger = packets_of(make_clip(tmp_path / "l.ts", frames=4 * FPS, fps=FPS, gop=GOP, width=640, height=480))
    scene = Scene(tmp_path)
    scene.play(twenty_seconds[: 10 * FPS])
    scene.open()
    scene.play(twenty_seconds[10 * FPS : 11 * FPS])
    scene.play(larger)
    scene.close()
    scene.play(larger)
    with av.open(str(scene.finished[0].path)) as container:
        assert {(frame.width, frame.height) for frame in container.decode(video=0)} == {(320, 240)}


def test_a_clip_is_bounded_by_bytes(tmp_path, twenty_seconds):
    plan = dataclasses.replace(PLAN, max_bytes=20_000)
    scene = Scene(tmp_path, plan)
    whole_event(scene, twenty_seconds)
    assert scene.finished[0].size_bytes < 20_000 + 10_000  # and the file's index


def test_two_events_of_a_camera_have_a_clip_each(tmp_path, twenty_seconds):
    scene = Scene(tmp_path)
    scene.play(twenty_seconds[: 10 * FPS])
    for name in ("e1", "e2"):
        scene.open(name)
        scene.close(name)
    scene.play(twenty_seconds[10 * FPS : 15 * FPS])
    assert {clip.event_id for clip in scene.finished} == {"e1", "e2"}


def test_a_camera_that_sends_no_packets_has_no_clip(tmp_path):
    scene = Scene(tmp_path)
    scene.open()
    scene.close()
    scene.clock.advance(60)
    assert scene.recorder.step() == []


def test_of_a_stream_that_was_lost_long_before_the_event_nothing_is_shown(tmp_path, twenty_seconds):
    scene = Scene(tmp_path)
    scene.play(twenty_seconds[: 5 * FPS])
    scene.clock.advance(60)
    scene.open()
    scene.recorder.step()
    scene.play(twenty_seconds[10 * FPS : 12 * FPS], stream=dataclasses.replace(twenty_seconds[0].stream))
    scene.close()
    scene.play(twenty_seconds[12 * FPS :])
    (clip,) = scene.finished
    assert numbers(clip.path)[0] == 10 * FPS


def test_at_the_end_closed_events_have_their_clip_and_open_ones_leave_no_file(tmp_path, twenty_seconds):
    scene = Scene(tmp_path)
    scene.play(twenty_seconds[: 10 * FPS])
    scene.open("closed")
    scene.open("open")
    scene.close("closed")
    finished = scene.recorder.finish()
    assert [clip.path for clip in finished] == list((tmp_path / "clips").iterdir())


def test_a_folder_that_can_not_be_written_costs_the_clip_and_nothing_else(tmp_path, twenty_seconds):
    (tmp_path / "clips").write_text("a file where the folder should be")
    scene = Scene(tmp_path)
    scene.play(twenty_seconds[: 10 * FPS])
    scene.open()
    scene.close()
    scene.play(twenty_seconds[10 * FPS : 15 * FPS])
    assert scene.finished == []


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("annexb.h264", {}),
        ("b-frames.ts", {"b_frames": 2}),
        ("b-frames.mp4", {"b_frames": 2}),
        ("slices.mkv", {"slices": 3}),
        ("hevc.mp4", {"codec": "libx265"}),
        ("hevc.ts", {"codec": "libx265"}),
        ("jpeg.avi", {"codec": "mjpeg"}),
    ],
)
def test_every_codec_and_packaging_plays(tmp_path, name, settings):
    packets = packets_of(make_clip(tmp_path / name, frames=45, **settings))
    with ClipMuxer(tmp_path / "out.mp4", packets[0]) as muxer:
        for packet in packets:
            muxer.add(packet)
    assert numbers(tmp_path / "out.mp4") == list(range(45))


def test_a_codec_that_is_not_known_is_refused(tmp_path):
    packet = CodedPacket(0, CodedStream("vp8", Fraction(1, 1000)), b"x", 0, 0, keyframe=True, arrived_s=0.0)
    with pytest.raises(InputError):
        ClipMuxer(tmp_path / "out.mp4", packet)


def test_a_picture_without_parameter_sets_is_refused(tmp_path):
    data = b"\x00\x00\x01\x65" + b"\x88" * 100
    packet = CodedPacket(0, CodedStream("h264", Fraction(1, 1000)), data, 0, 0, keyframe=True, arrived_s=0.0)
    with pytest.raises(InputError):
        ClipMuxer(tmp_path / "out.mp4", packet)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ([(5.0, 5.0), (5.1, 5.1)], [(0, 0), (9000, 9000)]),
        ([(5.2, 5.0), (5.1, 5.1)], [(18000, 0), (9000, 9000)]),  # a B-frame follows
        ([(None, None), (7.0, 7.0), (7.1, 7.1)], [(0, 0), (3600, 3600), (12600, 12600)]),
        ([(5.0, 5.0), (None, None), (5.08, 5.08)], [(0, 0), (3600, 3600), (7200, 7200)]),
        ([(5.0, 5.0), (5.0, 5.0)], [(0, 0), (1, 1)]),  # a repeated time is moved on
        ([(5.0, 5.0), (1.0, 1.0), (1.1, 1.1)], [(0, 0), (3600, 3600), (12600, 12600)]),  # the clock was set back
        ([(5.0, None), (5.1, None)], [(0, 0), (9000, 9000)]),
    ],
)
def test_times_of_a_clip_rise(raw, expected):
    times = PacketTimes(fps=25)
    placed = [times.place(*one) for one in raw]
    assert placed == expected
