"""Opening and reading files, and what is said when that fails."""

from __future__ import annotations

import pickle

import av
import numpy as np
import pytest

from streamkd.clock import SystemClock
from streamkd.errors import SourceError
from streamkd.media.failures import Target, open_failure
from streamkd.media.pieces import continues_picture
from streamkd.media.source import SourceKind, kind_of, open_camera, open_recording
from streamkd.types import FailureReason
from tests.media import camera, make_clip, make_sound, silent_server
from tests.ports import free_port

CLOCK = SystemClock()
SECRET = "s3cret"


def failure(url, **settings):
    with pytest.raises(SourceError) as caught:
        open_camera(camera(url, **settings), CLOCK)
    return caught.value


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=45)


def test_a_recording_gives_all_of_its_frames_in_order(clip):
    with open_recording(clip, CLOCK) as source:
        frames = list(source.frames())
    assert [f.raw_pts_s for f in frames] == pytest.approx([k / 15 for k in range(45)])
    assert (source.info.codec, source.info.width, source.info.height, source.info.fps) == ("h264", 320, 240, 15)


def test_b_frames_come_in_order_of_presentation(tmp_path):
    with open_recording(make_clip(tmp_path / "b.mp4", frames=40, b_frames=3), CLOCK) as source:
        assert [f.raw_pts_s for f in source.frames()] == pytest.approx([k / 15 for k in range(40)])


def test_a_file_url_is_a_file(clip):
    with open_camera(camera(f"file://{clip}"), CLOCK) as source:
        assert source.info.kind is SourceKind.FILE


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("rtsp://h/s", SourceKind.RTSP),
        ("RTSPS://h/s", SourceKind.RTSP),
        ("https://h/a.m3u8", SourceKind.HTTP),
        ("/a/b.mp4", SourceKind.FILE),
    ],
)
def test_kind(url, kind):
    assert kind_of(url) is kind


def test_no_such_file(tmp_path):
    error = failure(str(tmp_path / "nope.mp4"))
    assert error.reason is FailureReason.NOT_FOUND
    assert "no such file" in error.message


def test_not_a_video(tmp_path):
    path = tmp_path / "text.mp4"
    path.write_text("this is no video\n" * 100)
    assert failure(str(path)).reason is FailureReason.UNSUPPORTED


def test_sound_only(tmp_path):
    assert failure(str(make_sound(tmp_path / "sound.mov"))).reason is FailureReason.NO_VIDEO


def test_a_folder(tmp_path):
    assert failure(str(tmp_path)).reason is FailureReason.UNSUPPORTED


def test_a_playlist_opens_nothing(tmp_path, clip):
    playlist = tmp_path / "list.mp4"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{clip}\n#EXT-X-ENDLIST\n")
    assert failure(str(playlist)).reason is FailureReason.UNSUPPORTED
    playlist.write_text(f"ffconcat version 1.0\nfile '{clip}'\n")
    assert failure(str(playlist)).reason is FailureReason.UNSUPPORTED


def test_a_file_name_is_never_a_protocol(tmp_path, monkeypatch, clip):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="no such file"):
        open_recording(type(clip)(f"concat:{clip}|{clip}"), CLOCK)


def test_refused():
    error = failure(f"rtsp://admin:{SECRET}@127.0.0.1:{free_port()}/s")
    assert error.reason is FailureReason.UNREACHABLE
    assert "refused" in error.message


def test_an_unknown_name():
    error = failure("rtsp://camera.invalid/s", open_timeout_s=60.0)  # a resolver may take seconds
    assert error.reason is FailureReason.UNREACHABLE


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_server_that_says_nothing_is_noticed(scheme):
    with silent_server() as port:
        error = failure(f"{scheme}://admin:{SECRET}@127.0.0.1:{port}/s?token={SECRET}", open_timeout_s=0.5)
    assert error.reason is FailureReason.TIMEOUT
    assert "0.5 s" in error.message
    assert SECRET not in str(error)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (av.error.HTTPUnauthorizedError, FailureReason.AUTH),
        (av.error.HTTPForbiddenError, FailureReason.AUTH),
        (av.error.HTTPNotFoundError, FailureReason.NOT_FOUND),
        (av.error.HTTPServerError, FailureReason.ERROR),
        (av.error.ConnectionResetError, FailureReason.ENDED),
        (RuntimeError, FailureReason.ERROR),
    ],
)
def test_what_an_answer_means_and_no_secret_in_it(kind, reason):
    url = f"rtsp://admin:{SECRET}@h/s"
    error = kind(1, "message", url) if issubclass(kind, av.FFmpegError) else kind(url)
    told = open_failure(error, Target(url, "Camera x (rtsp://***@h/s)", True), elapsed_s=0, timeout_s=5)
    assert told.reason is reason
    assert SECRET not in str(told)
    assert told.hint


def test_reasons_survive_pickling():
    error = pickle.loads(pickle.dumps(SourceError("m", hint="h", reason=FailureReason.AUTH)))
    assert (error.message, error.hint, error.reason) == ("m", "h", FailureReason.AUTH)


@pytest.mark.parametrize(
    ("data", "codec", "continues"),
    [
        (b"\x00\x00\x00\x01\x67\x42\x00\x00\x01\x68\xce\x00\x00\x01\x65\x88\x80\x10\x00\x00", "h264", False),
        (b"\x00\x00\x00\x01\x67\x42\x00\x00\x01\x68\xce\x00\x00\x01\x65\x05\x88\x10\x00\x00", "h264", True),
        (b"\x00\x00\x01\x41\x9a\x02\x03\x04\x05\x06", "h264", False),
        (b"\x00\x00\x01\x26\x01\xaf\x02\x03\x04\x05", "hevc", False),
        (b"\x00\x00\x01\x26\x01\x2f\x02\x03\x04\x05", "hevc", True),
        (b"\x00\x00\x01\x65\x05\x02\x03\x04\x05\x06", "mjpeg", False),
    ],
)
def test_the_first_slice_of_a_picture_is_told_from_the_others(data, codec, continues):
    assert continues_picture(data, codec) is continues


def test_after_damage_nothing_is_given_until_the_next_keyframe(tmp_path):
    """Packets of a recording are damaged where they lie; the stream is read as a camera's would be."""
    rng = np.random.default_rng(0)
    path = make_clip(
        tmp_path / "clip.ts", frames=60, gop=20, picture=lambda _: rng.integers(0, 60, (240, 320, 3), np.uint8)
    )
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        where = [p.pos for p in container.demux(video=0) if p.size]
    for at in range(where[25] + 40, where[26], 8):
        if at % 188 > 12:
            data[at] ^= 0xFF
    path.write_bytes(data)
    with open_recording(path, CLOCK) as source:
        first = None
        given = []
        for decoded in source.frames():
            first = decoded.raw_pts_s if first is None else first
            given.append(round((decoded.raw_pts_s - first) * 15))
    assert not set(range(25, 40)) & set(given)
    assert set(range(41, 60)) <= set(given)
    assert source.stats.corrupt > 0
