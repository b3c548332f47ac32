from __future__ import annotations

from dataclasses import fields

import httpx
import pytest
from pydantic import SecretStr

from streamkd.config import CameraConfig
from streamkd.types import CameraState, CameraStatus
from streamkd_service.api.schemas import CameraOut, CameraPatchIn, CameraStatusOut
from tests.api.fake_controller import FakeController, jpeg

URL = "rtsp://viewer:hunter2@192.0.2.1/stream?auth=s3cret"
SHOWN = "rtsp://***@192.0.2.1/stream?***"


@pytest.fixture
def gate(client: httpx.Client) -> httpx.Client:
    """A client of a service that has one camera, `gate`."""
    assert client.post("/v1/cameras", json={"id": "gate", "url": URL}).status_code == 201
    return client


def test_no_cameras_are_an_empty_list(client: httpx.Client) -> None:
    assert client.get("/v1/cameras").json() == []


def test_adding_a_camera_says_where_it_is(client: httpx.Client) -> None:
    answer = client.post("/v1/cameras", json={"id": "gate", "url": URL})
    assert (answer.status_code, answer.headers["location"]) == (201, "/v1/cameras/gate")


def test_every_answer_masks_the_address(gate: httpx.Client) -> None:
    answers = [
        gate.get("/v1/cameras"),
        gate.get("/v1/cameras/gate"),
        gate.post("/v1/cameras", json={"id": "yard", "url": URL}),
        gate.patch("/v1/cameras/gate", json={"name": "Gate"}),
    ]
    assert all(SHOWN in answer.text for answer in answers)
    assert not any("hunter2" in answer.text or "s3cret" in answer.text for answer in answers)


def test_a_stream_for_clips_is_masked_too(client: httpx.Client, controller: FakeController) -> None:
    answer = client.post("/v1/cameras", json={"id": "gate", "url": "rtsp://192.0.2.1/small", "clip_url": URL})
    assert (answer.status_code, answer.json()["clip_url"]) == (201, SHOWN)
    client.patch("/v1/cameras/gate", json={"sensitivity": 0.9})
    kept = controller.repository.list_cameras()[0].config.clip_url
    assert kept is not None
    assert kept.get_secret_value() == URL


@pytest.mark.parametrize("clip_url", [SHOWN, "/etc/passwd", "file:///etc/passwd", "rtsp://"])
def test_a_stream_for_clips_is_a_whole_network_address(client: httpx.Client, clip_url: str) -> None:
    answer = client.post("/v1/cameras", json={"id": "gate", "url": URL, "clip_url": clip_url})
    assert answer.status_code == 422
    assert "s3cret" not in answer.text


def test_a_camera_has_every_documented_field(gate: httpx.Client) -> None:
    camera = gate.get("/v1/cameras/gate").json()
    assert (
        set(camera)
        == set(CameraOut.model_fields)
        == set(CameraConfig.model_fields)
        | {
            "origin",
            "worker_id",
            "status",
        }
    )


def test_a_status_has_every_field_of_the_contract(gate: httpx.Client) -> None:
    assert set(CameraStatusOut.model_fields) == {field.name for field in fields(CameraStatus)}


def test_an_unknown_camera_is_404(client: httpx.Client) -> None:
    answer = client.get("/v1/cameras/nowhere")
    assert (answer.status_code, answer.json()["hint"]) == (404, "GET /v1/cameras lists the known ones.")


def test_a_taken_id_is_409(gate: httpx.Client) -> None:
    assert gate.post("/v1/cameras", json={"id": "gate", "url": URL}).status_code == 409


@pytest.mark.parametrize(
    "url",
    [
        "/etc/passwd",
        "file:///etc/passwd",
        "concat:a|b",
        "subfile,,start,0,end,9,,:/etc/passwd",
        "rtsp://",
        "rtsp:///path",
        "ftp://host/x",
        "rtsp://host/a\nb",
        "rtsp://host:port@[::1",
        "http://" + "a" * 3000,
    ],
)
def test_only_network_addresses_are_taken(client: httpx.Client, url: str) -> None:
    answer = client.post("/v1/cameras", json={"id": "gate", "url": url})
    assert (answer.status_code, answer.json()["errors"][0]["where"]) == (422, "body.url")


@pytest.mark.parametrize("bad", [{"url": "hunter2://h"}, {"url": "viewer:hunter2@host"}, {"password": "hunter2"}])
def test_a_validation_error_never_repeats_the_value(client: httpx.Client, bad: dict[str, str]) -> None:
    answer = client.post("/v1/cameras", json={"id": "gate", "url": URL, **bad})
    assert answer.status_code == 422
    assert "hunter2" not in answer.text


@pytest.mark.parametrize(
    "bad",
    [{"sensitivity": 2}, {"cooldown_s": -1}, {"id": "Not An Id"}, {"labels": [""]}, {"transport": "x"}, {"extra": 1}],
)
def test_a_wrong_field_is_named(client: httpx.Client, bad: dict[str, object]) -> None:
    answer = client.post("/v1/cameras", json={"id": "gate", "url": URL, **bad})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["where"].startswith(f"body.{next(iter(bad))}")


def test_a_new_camera_keeps_its_secret(gate: httpx.Client, controller: FakeController) -> None:
    stored = controller.repository.list_cameras()[0].config
    assert stored.url == SecretStr(URL)


def test_a_patch_changes_what_it_names(gate: httpx.Client) -> None:
    patch = {"enabled": False, "labels": ["fight"], "sensitivity": 0.9, "cooldown_s": 3, "name": "G", "group": "x"}
    changed = gate.patch("/v1/cameras/gate", json=patch).json()
    assert {key: changed[key] for key in patch} == patch


def test_a_patch_may_change_every_setting_but_the_id() -> None:
    assert set(CameraPatchIn.model_fields) == set(CameraConfig.model_fields) - {"id"}


def test_a_patch_changes_how_a_camera_is_read(gate: httpx.Client) -> None:
    patch = {"transport": "udp", "decode": "keyframes", "skip_still": False, "priority": 3, "read_timeout_s": 9.0}
    changed = gate.patch("/v1/cameras/gate", json=patch).json()
    assert {key: changed[key] for key in patch} == patch


def test_a_clip_stream_comes_and_goes(gate: httpx.Client, controller: FakeController) -> None:
    url = "rtsp://admin:secret@192.0.2.1/large"
    shown = gate.patch("/v1/cameras/gate", json={"clip_url": url}).json()["clip_url"]
    assert "secret" not in shown
    gate.patch("/v1/cameras/gate", json={"clip_url": shown, "name": "G"})
    assert controller.repository.list_cameras()[0].config.clip_url == SecretStr(url)
    refused = gate.patch("/v1/cameras/gate", json={"clip_url": shown.replace("large", "other")})
    assert (refused.status_code, "clip_url" in refused.json()["detail"]) == (422, True)
    assert gate.patch("/v1/cameras/gate", json={"clip_url": None}).json()["clip_url"] is None


def test_a_patch_leaves_the_rest(gate: httpx.Client, controller: FakeController) -> None:
    gate.patch("/v1/cameras/gate", json={"sensitivity": 0.9})
    assert controller.repository.list_cameras()[0].config.url.get_secret_value() == URL


def test_a_masked_address_sent_back_changes_nothing(gate: httpx.Client, controller: FakeController) -> None:
    assert gate.patch("/v1/cameras/gate", json={"url": SHOWN, "name": "G"}).status_code == 200
    assert controller.repository.list_cameras()[0].config.url.get_secret_value() == URL


@pytest.mark.parametrize("url", [SHOWN.replace("stream", "other"), "rtsp://admin:***@192.0.2.1/stream?***"])
def test_a_masked_address_that_differs_is_refused(gate: httpx.Client, url: str) -> None:
    answer = gate.patch("/v1/cameras/gate", json={"url": url})
    assert answer.status_code == 422
    assert "whole address" in answer.json()["hint"]


def test_a_new_camera_needs_its_whole_address(client: httpx.Client) -> None:
    assert client.post("/v1/cameras", json={"id": "gate", "url": SHOWN}).status_code == 422


def test_a_patch_takes_a_new_address(gate: httpx.Client, controller: FakeController) -> None:
    gate.patch("/v1/cameras/gate", json={"url": "rtsp://u:new@192.0.2.2/s"})
    assert controller.repository.list_cameras()[0].config.url.get_secret_value() == "rtsp://u:new@192.0.2.2/s"


@pytest.mark.parametrize(
    "bad",
    [
        {"url": "/etc/passwd"},
        {"url": None},
        {"clip_url": "/etc/passwd"},
        {"sensitivity": -1},
        {"priority": 101},
        {"id": "new"},
        {"enabled": None},
        {"labels": [""]},
    ],
)
def test_a_wrong_patch_is_422(gate: httpx.Client, bad: dict[str, object]) -> None:
    assert gate.patch("/v1/cameras/gate", json=bad).status_code == 422


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_cameras_of_the_yaml_are_read_only(client: httpx.Client, controller: FakeController, method: str) -> None:
    controller.add_yaml_camera(CameraConfig(id="yard", url=SecretStr(URL)))
    answer = client.request(method, "/v1/cameras/yard", json={"name": "x"})
    assert answer.status_code == 409
    assert "configuration" in answer.json()["detail"]


def test_a_removed_camera_is_gone(gate: httpx.Client) -> None:
    assert gate.delete("/v1/cameras/gate").status_code == 204
    assert gate.get("/v1/cameras").json() == []


def test_removing_an_unknown_camera_is_404(client: httpx.Client) -> None:
    assert client.delete("/v1/cameras/nowhere").status_code == 404


def test_a_snapshot_is_a_jpeg_that_is_not_cached(gate: httpx.Client, controller: FakeController) -> None:
    controller.pictures["gate"] = jpeg("gate")
    answer = gate.get("/v1/cameras/gate/snapshot.jpg")
    assert (answer.content, answer.headers["content-type"], answer.headers["cache-control"]) == (
        jpeg("gate"),
        "image/jpeg",
        "no-store",
    )


def test_a_camera_without_a_picture_is_503_and_says_when_to_come_back(gate: httpx.Client) -> None:
    answer = gate.get("/v1/cameras/gate/snapshot.jpg")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


def test_the_state_is_shown(gate: httpx.Client, controller: FakeController) -> None:
    controller.commit_status(CameraStatus("gate", CameraState.ONLINE, fps_analysed=5.0, latency_ms=float("nan")))
    status = gate.get("/v1/cameras/gate").json()["status"]
    assert (status["state"], status["latency_ms"]) == ("online", None)


def test_a_patch_with_null_labels_means_all_of_them_again(gate: httpx.Client) -> None:
    assert gate.patch("/v1/cameras/gate", json={"labels": ["fight"]}).json()["labels"] == ["fight"]
    assert gate.patch("/v1/cameras/gate", json={"name": "x"}).json()["labels"] == ["fight"]
    assert gate.patch("/v1/cameras/gate", json={"labels": None}).json()["labels"] is None
