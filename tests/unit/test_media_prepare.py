"""Joined recordings for the demo, and the camera check."""

from __future__ import annotations

from itertools import pairwise

import av
import pytest

from streamkd.errors import InputError, SourceError, UnsupportedMediaError
from streamkd.media.check import probe_camera
from streamkd.media.prepare import join_clips
from streamkd.media.reader import read_recording
from streamkd.types import FailureReason
from tests.media import make_clip, number_of


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    folder = tmp_path_factory.mktemp("joined")
    clips = [make_clip(folder / "one.mp4", frames=25), make_clip(folder / "two.mp4", frames=20, fps=10)]
    progress = []
    join_clips(clips, folder / "out.mp4", width=320, height=240, min_duration_s=20, gop=15, progress=progress.append)
    return folder / "out.mp4", progress


def test_the_recording_is_long_enough(joined):
    with av.open(str(joined[0])) as container:
        stream = container.streams.video[0]
        assert float(stream.duration * stream.time_base) >= 20
        assert (stream.average_rate, stream.width, stream.height) == (15, 320, 240)


def test_times_rise_and_keyframes_keep_their_distance(joined):
    with av.open(str(joined[0])) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    keyframes = [k for k, p in enumerate(packets) if p.is_keyframe]
    assert keyframes[0] == 0
    assert {b - a for a, b in pairwise(keyframes)} == {15}
    assert len({b.pts - a.pts for a, b in pairwise(packets)}) == 1
    assert all(p.pts == p.dts for p in packets)


def test_clips_follow_each_other_at_their_own_speed_over_and_over(joined):
    numbers = [number_of(f.grey) for f in read_recording(joined[0], 15.0, 32)]
    one, two = list(range(25)), [k * 10 // 15 for k in range(30)]
    once = [*one, *two, *one[:5]]  # filled up to whole GOPs
    assert numbers == (once * 10)[: len(numbers)]


def test_progress_ends_at_one(joined):
    assert joined[1][-1] == 1.0
    assert joined[1] == sorted(joined[1])


def test_nothing_to_join(tmp_path):
    with pytest.raises(InputError, match="no clips"):
        join_clips([], tmp_path / "out.mp4")


def test_a_clip_that_is_no_video(tmp_path):
    (tmp_path / "x.mp4").write_text("x")
    with pytest.raises(UnsupportedMediaError, match=r"x\.mp4"):
        join_clips([tmp_path / "x.mp4"], tmp_path / "out.mp4")


def test_a_check_says_what_a_camera_is(joined):
    report = probe_camera(str(joined[0]), seconds=0.2)
    assert (report.info.codec, report.info.width, report.info.height) == ("h264", 320, 240)
    assert (report.gop_frames, report.corrupt, report.missing_pts, report.segments) == (15, 0, 0, 1)
    assert report.measured_fps == pytest.approx(15, abs=0.1)
    assert "h264, 320x240" in str(report)
    assert report.remarks == ()


def test_a_check_remarks_on_a_black_picture_and_a_slow_rate(tmp_path):
    import numpy as np

    path = make_clip(tmp_path / "b.mp4", frames=10, fps=2, picture=lambda _: np.zeros((240, 320, 3), np.uint8))
    remarks = " ".join(probe_camera(str(path), seconds=0.2).remarks)
    assert "black" in remarks
    assert "5 frames/s" in remarks


def test_a_check_of_what_is_not_there(tmp_path):
    with pytest.raises(SourceError) as caught:
        probe_camera(str(tmp_path / "nope.mp4"))
    assert caught.value.reason is FailureReason.NOT_FOUND


def test_a_check_of_what_can_not_be_a_camera():
    with pytest.raises(InputError, match="scheme"):
        probe_camera("ftp://u:pw@h/x")
