from __future__ import annotations

from dataclasses import fields, replace

import httpx
import pytest

from streamkd.errors import UnavailableError
from streamkd_service.api.schemas import SystemOut
from streamkd_service.runtime.ports import SystemView, WorkerView
from tests.api.fake_controller import FakeController, RecordedMetrics


def test_the_system_is_shown_as_the_controller_sees_it(client: httpx.Client) -> None:
    shown = client.get("/v1/system").json()
    assert (shown["ready"], shown["model_version"], shown["store"]) == (True, "v1", "sqlite")
    assert set(shown) == set(SystemOut.model_fields) == {field.name for field in fields(SystemView)}
    assert set(shown["workers"][0]) == {field.name for field in fields(WorkerView)}


def test_a_ready_service_says_so(client: httpx.Client) -> None:
    assert (client.get("/readyz").status_code, client.get("/readyz").json()) == (200, {"status": "ready"})


@pytest.mark.parametrize(
    ("workers", "reason"),
    [
        ("none", "no worker has started"),
        ("dead", "worker-0 not alive"),
        ("silent", "worker-0 has not reported yet"),
        ("other model", "model v1 is not loaded by every worker"),
    ],
)
def test_a_service_that_is_not_ready_says_what_is_missing(client, controller, workers: str, reason: str) -> None:
    worker = controller.workers[0]
    controller.ready = False
    controller.workers = {
        "none": (),
        "dead": (replace(worker, alive=False),),
        "silent": (replace(worker, last_report_age_s=None),),
        "other model": (worker,),
    }[workers]
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert reason in answer.json()["detail"]


def test_an_absent_controller_is_alive_but_not_ready(client: httpx.Client, controller: FakeController) -> None:
    controller.error = UnavailableError("The Controller restarts.")
    assert (client.get("/healthz").status_code, client.get("/readyz").status_code) == (200, 503)


def test_a_scrape_is_fresh(client: httpx.Client, controller: FakeController, metrics: RecordedMetrics) -> None:
    answer = client.get("/metrics")
    assert answer.text == "streamkd_workers 1\n"
    assert answer.headers["content-type"].startswith("text/plain")
    assert metrics.ready is True


def test_a_scrape_while_the_controller_is_away_gives_the_last_figures(client, controller: FakeController) -> None:
    controller.error = UnavailableError("The Controller restarts.")
    assert client.get("/metrics").status_code == 200


def test_overload_is_said(client: httpx.Client) -> None:
    shown = client.get("/v1/system").json()
    assert shown["overloaded"] is False
    assert [worker["slowed_cameras"] for worker in shown["workers"]] == [0]
