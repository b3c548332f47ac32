from __future__ import annotations

import httpx
import pytest

from tests.api.conftest import Serve

TOKEN = "a-long-secret"  # not a secret of anything
GUARDED = [
    ("GET", "/v1/cameras"),
    ("POST", "/v1/cameras"),
    ("GET", "/v1/cameras/gate"),
    ("PATCH", "/v1/cameras/gate"),
    ("DELETE", "/v1/cameras/gate"),
    ("GET", "/v1/cameras/gate/snapshot.jpg"),
    ("GET", "/v1/events"),
    ("GET", "/v1/events/x"),
    ("PATCH", "/v1/events/x"),
    ("GET", "/v1/events/x/snapshot.jpg"),
    ("GET", "/v1/events/x/clip.mp4"),
    ("GET", "/v1/stream"),
    ("POST", "/v1/infer"),
    ("GET", "/v1/models"),
    ("POST", "/v1/models/v1/promote"),
    ("POST", "/v1/models/rollback"),
    ("GET", "/v1/refreshes"),
    ("POST", "/v1/refreshes"),
    ("GET", "/v1/refreshes/x"),
    ("GET", "/v1/system"),
]
OPEN = ["/healthz", "/readyz", "/", "/docs", "/static/app.js", "/openapi.json"]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def guarded(serve: Serve) -> httpx.Client:
    return serve(token=TOKEN).client


def test_the_list_of_guarded_paths_is_whole(guarded: httpx.Client) -> None:
    document = guarded.get("/openapi.json").json()
    paths = {
        (method.upper(), path.replace("{camera_id}", "gate").replace("{version}", "v1").replace("{event_id}", "x"))
        for path, methods in document["paths"].items()
        for method in methods
        if path.startswith("/v1")
    }
    assert {(method, path.replace("{refresh_id}", "x")) for method, path in paths} == set(GUARDED)


@pytest.mark.parametrize(
    "header", [{}, bearer("wrong"), {"Authorization": f"Basic {TOKEN}"}, {"Authorization": "Bearer"}]
)
def test_without_the_token_nothing_of_v1_answers(guarded: httpx.Client, header: dict[str, str]) -> None:
    answers = [guarded.request(method, path, headers=header) for method, path in GUARDED]
    assert {answer.status_code for answer in answers} == {401}


def test_a_refusal_is_a_problem_that_names_the_scheme(guarded: httpx.Client) -> None:
    answer = guarded.get("/v1/cameras")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_the_token_opens_v1(guarded: httpx.Client) -> None:
    assert guarded.get("/v1/cameras", headers=bearer(TOKEN)).status_code == 200


@pytest.mark.parametrize("path", OPEN)
def test_health_and_the_page_itself_are_open(guarded: httpx.Client, path: str) -> None:
    assert guarded.get(path).status_code == 200


def test_metrics_are_open_unless_configured(guarded: httpx.Client) -> None:
    assert guarded.get("/metrics").status_code == 200


@pytest.mark.parametrize(("header", "status"), [({}, 401), (bearer("wrong"), 401), (bearer(TOKEN), 200)])
def test_metrics_need_the_token_if_configured(serve: Serve, header: dict[str, str], status: int) -> None:
    assert serve(token=TOKEN, metrics="token").client.get("/metrics", headers=header).status_code == status


@pytest.mark.parametrize("host", ["127.0.0.1:8400", "localhost", "[::1]:8400", "127.0.0.2"])
def test_without_a_token_this_machine_is_served(client: httpx.Client, host: str) -> None:
    assert client.get("/v1/cameras", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8400", "127.0.0.1.evil.example", "[::1"])
def test_without_a_token_a_rebound_name_is_refused(client: httpx.Client, host: str) -> None:
    assert client.get("/v1/cameras", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_without_a_token_another_sites_page_is_refused(client: httpx.Client, origin: str) -> None:
    assert client.post("/v1/models/rollback", headers={"Origin": origin}).status_code == 403


def test_without_a_token_the_own_page_is_served(client: httpx.Client) -> None:
    assert client.get("/v1/cameras", headers={"Origin": "http://127.0.0.1:8400"}).status_code == 200
