from __future__ import annotations

import httpx
import pytest

from streamkd import errors
from streamkd_service.api.problems import status_of
from tests.api.fake_controller import FakeController

MEDIA_TYPE = "application/problem+json"


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.NotFoundError, 404),
        (errors.ConflictError, 409),
        (errors.TooLargeError, 413),
        (errors.UnsupportedMediaError, 415),
        (errors.InputError, 422),
        (errors.UnavailableError, 503),
        (errors.StoreError, 503),
        (errors.ConfigError, 500),
        (errors.StreamkdError, 500),
    ],
)
def test_every_error_has_its_status(kind: type[errors.StreamkdError], status: int) -> None:
    assert status_of(kind("x")) == status


def test_a_problem_says_what_why_and_what_to_try(client: httpx.Client, controller: FakeController) -> None:
    controller.error = errors.ConflictError("It is so.", hint="Do that.")
    answer = client.get("/v1/cameras")
    body = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (409, MEDIA_TYPE)
    assert body == {
        "type": "urn:streamkd:problem:conflict",
        "title": "Conflict",
        "status": 409,
        "detail": "It is so.",
        "hint": "Do that.",
        "instance": "/v1/cameras",
        "request_id": answer.headers["x-request-id"],
    }


def test_an_absent_controller_says_when_to_come_back(client: httpx.Client, controller: FakeController) -> None:
    controller.error = errors.UnavailableError("The Controller restarts.")
    answer = client.get("/v1/cameras")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


def test_a_locked_database_says_when_to_come_back_and_is_in_the_log(client, controller: FakeController, log) -> None:
    controller.error = errors.StoreError("The database is locked.")
    answer = client.get("/v1/cameras")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert any(entry.get("reason") == "The database is locked." for entry in log())


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/static/x", 404), ("PUT", "/v1/cameras", 405)]
)
def test_the_routers_own_errors_are_problems(client: httpx.Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, MEDIA_TYPE)
    assert path in answer.json()["detail"]


def test_every_wrong_field_is_listed(client: httpx.Client) -> None:
    body = client.post("/v1/cameras", json={"sensitivity": "high"}).json()
    assert {error["where"] for error in body["errors"]} == {"body.id", "body.url", "body.sensitivity"}


@pytest.mark.parametrize("content", [b"{", b"[1]", b"", b"\xff"])
def test_a_body_that_is_no_json_object_is_a_problem(client: httpx.Client, content: bytes) -> None:
    answer = client.post("/v1/cameras", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code in {400, 422}, answer.headers["content-type"]) == (True, MEDIA_TYPE)


def test_a_defect_shows_no_traceback_and_no_secret(client: httpx.Client, controller: FakeController, capfd) -> None:
    controller.error = RuntimeError("rtsp://admin:hunter2@host")
    answer = client.get("/v1/cameras")
    assert (answer.status_code, answer.headers["content-type"]) == (500, MEDIA_TYPE)
    assert not any(word in answer.text for word in ("Traceback", "RuntimeError", "hunter2", ".py"))


def test_a_defect_is_found_in_the_log_by_its_request_id(client: httpx.Client, controller: FakeController, log) -> None:
    controller.error = RuntimeError("boom")
    request_id = client.get("/v1/cameras").json()["request_id"]
    assert any(entry["event"] == "request failed" and entry["request_id"] == request_id for entry in log())


def test_a_request_is_logged_without_its_query(client: httpx.Client, log) -> None:
    client.get("/v1/events?label=hunter2", headers={"X-Request-ID": "mine"})
    entry = next(entry for entry in log() if entry.get("request_id") == "mine")
    assert (entry["method"], entry["path"], entry["status"]) == ("GET", "/v1/events", 200)
    assert entry["duration_ms"] >= 0
    assert "hunter2" not in str(entry)


@pytest.mark.parametrize("given", ["x" * 65, "a b", "<script>"])
def test_a_strange_request_id_is_replaced(client: httpx.Client, given: str) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": given}).headers["x-request-id"] != given


def test_a_defect_of_one_request_leaves_the_next_alone(client: httpx.Client, controller: FakeController) -> None:
    controller.error = RuntimeError("boom")
    client.get("/v1/cameras")
    controller.error = None
    assert client.get("/v1/cameras").status_code == 200
