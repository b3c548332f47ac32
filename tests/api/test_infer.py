from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from streamkd.errors import TooLargeError, UnsupportedMediaError
from streamkd_service.api.uploads import looks_like_video, plain_name
from tests.api.conftest import Serve, Served
from tests.api.fake_controller import FakeController

MP4 = b"\x00\x00\x00\x18ftypisom" + b"\x00" * 5000


def send(client: httpx.Client, content: bytes, name: str = "clip.mp4", field: str = "file") -> httpx.Response:
    return client.post("/v1/infer", files={field: (name, content, "video/mp4")})


def test_a_clip_comes_back_as_scores_and_events(client: httpx.Client) -> None:
    answer = send(client, MP4)
    assert answer.json() == {
        "filename": "clip.mp4",
        "model_version": "v1",
        "duration_s": 2.0,
        "frames": [
            {"pts_s": 0.0, "scores": {"fight": 0.7, "normal": 0.3}, "anomaly_score": None},
            {"pts_s": 0.2, "scores": {"fight": 0.8, "normal": 0.2}, "anomaly_score": 0.4},
        ],
        "events": [{"kind": "action", "label": "fight", "start_pts_s": 0.2, "end_pts_s": 0.4, "score": 0.8}],
    }


def test_the_whole_file_arrives(client: httpx.Client, controller: FakeController) -> None:
    send(client, MP4 + b"\r\n--x\r\n" * 100_000)
    assert controller.uploads == [("clip.mp4", len(MP4) + 700_000)]


def test_a_real_clip_arrives(client: httpx.Client, controller: FakeController, demo_clips) -> None:
    clip = demo_clips / "clips" / "fi001.mp4"
    assert send(client, clip.read_bytes()).status_code == 200
    assert controller.uploads[0][1] == clip.stat().st_size


@pytest.mark.parametrize("fails", [False, True])
def test_the_temporary_file_is_gone_afterwards(client: httpx.Client, controller: FakeController, fails: bool) -> None:
    if fails:
        controller.infer_result = UnsupportedMediaError("No video track.")
    send(client, MP4)
    assert not controller.upload_paths[0].parent.exists()


def test_other_fields_are_ignored(client: httpx.Client, controller: FakeController) -> None:
    answer = client.post("/v1/infer", files={"file": ("a.mp4", MP4)}, data={"comment": "x" * 100})
    assert answer.status_code == 200
    assert controller.uploads == [("a.mp4", len(MP4))]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"<?xml version='1.0'?><MPD/>",
        b"hello",
        b"\x89PNG\r\n\x1a\n" + b"\x00" * 100,
        b"FLV\x01\x05" + b"\x00" * 100,
    ],
)
def test_what_is_not_a_video_is_415(client: httpx.Client, controller: FakeController, content: bytes) -> None:
    assert send(client, content).status_code == 415
    assert controller.uploads == []


def test_what_the_decoder_refuses_is_415(client: httpx.Client, controller: FakeController) -> None:
    controller.infer_result = UnsupportedMediaError("clip.mp4 has no video track.", hint="Send a video.")
    answer = send(client, MP4)
    assert (answer.status_code, answer.json()["detail"]) == (415, "clip.mp4 has no video track.")


def test_too_long_a_clip_is_413(client: httpx.Client, controller: FakeController) -> None:
    controller.infer_result = TooLargeError("clip.mp4 is 90 s long; at most 60 s are analysed.")
    assert send(client, MP4).status_code == 413


def test_too_large_a_file_is_413(serve: Serve, controller: FakeController) -> None:
    client = serve(max_upload_mb=1).client
    assert send(client, MP4 + bytes(1_000_000)).status_code == 413
    assert controller.uploads == []


def test_a_body_without_a_stated_length_is_stopped_at_the_limit(serve: Serve, controller: FakeController) -> None:
    def body() -> Iterator[bytes]:
        yield b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n' + MP4
        yield from (bytes(100_000) for _ in range(30))

    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    answer = serve(max_upload_mb=1).client.post("/v1/infer", content=body(), headers=headers)
    assert (answer.status_code, controller.uploads) == (413, [])


def test_uploads_over_the_number_at_once_are_503(served: Served) -> None:
    served.app.state.upload_slots._value = 0
    assert send(served.client, MP4).status_code == 503


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("video/mp4", MP4, 415),
        ("application/json", b"{}", 415),
        ("multipart/form-data", MP4, 415),
        ("multipart/form-data; boundary=B", b"garbage", 422),
        ("multipart/form-data; boundary=B", b"", 422),
        ("multipart/form-data; boundary=B", b'--B\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc', 422),
        ("multipart/form-data; boundary=B", b"--B\r\nX-" + b"x" * 9000, 422),
    ],
)
def test_a_broken_form_is_refused(client: httpx.Client, kind: str, body: bytes, status: int) -> None:
    answer = client.post("/v1/infer", content=body, headers={"Content-Type": kind})
    assert (answer.status_code, "curl -F" in answer.text or "cut short" in answer.text) == (status, True)


def test_a_form_without_the_file_is_422(client: httpx.Client) -> None:
    assert send(client, MP4, field="video").status_code == 422


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("clip.mp4", "clip.mp4"),
        ("../../etc/passwd", "passwd"),
        ("C:\\films\\a b.mp4", "a b.mp4"),
        ("\x1b[31mred.mp4", "__31mred.mp4"),
        ("", "upload"),
        ("..", "upload"),
        ("überfall.mp4", "überfall.mp4"),
    ],
)
def test_a_file_name_is_made_harmless(given: str, shown: str) -> None:
    assert plain_name(given) == shown


def test_every_shipped_clip_looks_like_a_video(demo_clips) -> None:
    heads = [path.read_bytes()[:189] for path in demo_clips.glob("clips/*.mp4")]
    assert heads
    assert all(looks_like_video(head) for head in heads)


@pytest.mark.parametrize(
    "head",
    [
        b"\x1aE\xdf\xa3" + bytes(9),
        b"RIFF\x00\x00\x00\x00AVI LIST",
        b"G" + bytes(187) + b"G",
    ],
)
def test_other_containers_are_known(head: bytes) -> None:
    assert looks_like_video(head)
