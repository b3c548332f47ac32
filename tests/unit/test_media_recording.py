"""Recordings and uploads: the same frames as the live path, and one clear line for what is no recording."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from streamkd.errors import InputError, TooLargeError, UnsupportedMediaError
from streamkd.media.clips import decode_clip
from streamkd.media.reader import read_recording
from streamkd.media.recording import decode_upload
from tests.media import make_clip, make_sound, number_of, numbered_picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("recordings")


@pytest.fixture(scope="module")
def clip(folder):
    return make_clip(folder / "clip.mp4", frames=45)


def upload(path, **limits):
    return list(decode_upload(path, 5.0, 64, **{"max_duration_s": 60.0, "name": "mine.mp4"} | limits))


def test_due_frames_are_those_of_the_grid(clip):
    frames = list(read_recording(clip, 5.0, 64, camera_id="x"))
    assert [number_of(f.grey) for f in frames] == list(range(0, 45, 3))
    assert [f.pts_s for f in frames] == pytest.approx([k / 5 for k in range(15)])
    assert {(f.camera_id, f.segment) for f in frames} == {("x", 0)}


def test_training_reads_clips_the_same_way(demo_clips):
    path = demo_clips / "clips" / "nofi087.mp4"
    frames, decoded = list(read_recording(path, 5.0, 96)), decode_clip(path, 5.0, 96)
    assert [f.pts_s for f in frames] == pytest.approx(decoded.pts_s.tolist(), abs=1e-9)
    assert np.array_equal(np.stack([f.rgb for f in frames]), decoded.frames)


def test_shapes(clip):
    frame = next(read_recording(clip, 5.0, 64))
    assert (frame.rgb.shape, frame.grey.shape) == ((64, 64, 3), (240, 360))
    assert frame.rgb.dtype == frame.grey.dtype == np.uint8


def test_pictures_become_jpegs_of_the_width_asked_for(clip):
    picture = next(read_recording(clip, 5.0, 64)).picture
    with Image.open(io.BytesIO(picture.jpeg(max_width_px=160))) as small:
        assert (small.format, small.size) == ("JPEG", (160, 120))
    with Image.open(io.BytesIO(picture.jpeg())) as full:
        assert full.size == (picture.width, picture.height) == (320, 240)


@pytest.mark.parametrize(("width", "height"), [(322, 242), (64, 480), (1280, 64)])
def test_odd_shapes_are_read(tmp_path, width, height):
    path = make_clip(
        tmp_path / "odd.mp4", frames=4, width=width, height=height, picture=lambda _: np.zeros((height, width, 3), "u1")
    )
    assert len(list(read_recording(path, 5.0, 64))) == 2


def test_a_video_that_changes_its_size_gives_frames_of_one_shape(tmp_path):
    wide, tall = (
        make_clip(tmp_path / f"{width}.h264", frames=15, width=width, height=height)
        for width, height in ((320, 240), (240, 320))
    )
    both = tmp_path / "both.h264"
    both.write_bytes(wide.read_bytes() + tall.read_bytes())
    found = decode_clip(both, 5.0, 64, keep_aspect=True)
    assert found.frames.shape[1:] == (64, 84, 3)
    assert len(found.frames) > len(decode_clip(wide, 5.0, 64, keep_aspect=True).frames)


def test_motion_jpeg_full_range_is_read(tmp_path):
    path = make_clip(tmp_path / "m.avi", frames=10, codec="mjpeg")
    assert number_of(next(read_recording(path, 5.0, 64)).grey) == 0


def test_a_gap_in_a_recording_is_a_new_segment(tmp_path):
    pts = [*range(20), *range(100, 120)]
    frames = list(read_recording(make_clip(tmp_path / "gap.mkv", frames=40, pts=pts), 5.0, 64))
    assert [f.segment for f in frames] == [0] * 7 + [1] * 7
    assert frames[7].pts_s == 0


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".ts"])
def test_uploads_of_the_allowed_formats(folder, suffix):
    assert len(upload(make_clip(folder / f"up{suffix}", frames=30))) == 10


def refused(path, kind=UnsupportedMediaError, **limits):
    with pytest.raises(kind) as caught:
        upload(path, **limits)
    assert "mine.mp4" in caught.value.message
    assert str(path.parent) not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_empty_upload(tmp_path):
    (tmp_path / "e.mp4").touch()
    assert "empty" in refused(tmp_path / "e.mp4")


def test_an_upload_that_is_no_video(tmp_path):
    (tmp_path / "t.mp4").write_text("hello " * 1000)
    refused(tmp_path / "t.mp4")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_truncated_upload(tmp_path, clip, suffix):
    whole = make_clip(tmp_path / f"whole{suffix}", frames=90)
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    refused(cut)


def test_an_upload_without_picture(tmp_path):
    refused(make_sound(tmp_path / "s.mov"))


def test_a_playlist_is_no_upload(tmp_path, clip):
    path = tmp_path / "p.mp4"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nfile://{clip}\n#EXT-X-ENDLIST\n")
    refused(path)


def test_a_format_that_uploads_may_not_have(tmp_path):
    refused(make_clip(tmp_path / "x.flv", frames=10))


def test_too_long(clip):
    assert "1 s" in refused(clip, TooLargeError, max_duration_s=1.0)


def test_too_large(clip):
    refused(clip, TooLargeError, max_pixels=100 * 100)


def test_a_header_that_lies_about_the_length_does_not_help(tmp_path):
    path = make_clip(tmp_path / "long.ts", frames=60)
    refused(path, TooLargeError, max_duration_s=2.0)


def test_missing_recordings_are_named(tmp_path):
    with pytest.raises(InputError, match=r"nope\.mp4"):
        next(read_recording(tmp_path / "nope.mp4", 5.0, 64))


def test_numbers_survive_coding():
    assert number_of(numbered_picture(0b1010_0110_0101)[..., 0]) == 0b1010_0110_0101
