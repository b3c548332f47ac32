from __future__ import annotations

import httpx
import pytest

from streamkd.errors import BundleError
from streamkd.store.records import ModelRecord, RefreshRecord, RefreshStatus
from streamkd_service.api.schemas import ModelOut, RefreshOut
from streamkd_service.runtime.ports import RefreshRequest
from tests.api.fake_controller import START, FakeController


@pytest.fixture
def two(client: httpx.Client, controller: FakeController) -> httpx.Client:
    """A service with v1 live and v2 in the registry."""
    controller.repository.add_model(ModelRecord("v2", "/models/v2", "v1", START, live=False))
    return client


def live(client: httpx.Client) -> str:
    return next(model["version"] for model in client.get("/v1/models").json() if model["live"])


def test_models_are_listed_without_their_path(two: httpx.Client) -> None:
    models = {model["version"]: model for model in two.get("/v1/models").json()}
    assert set(models) == {"v1", "v2"}
    assert set(models["v1"]) == set(ModelOut.model_fields) == set(ModelRecord.__slots__) - {"path"}


def test_a_model_s_metrics_are_its_figures_only(client: httpx.Client, controller: FakeController) -> None:
    metrics = {
        "clips": {"a.mp4": {"fight": 0.9}},
        "fit": {"epochs": 40},
        "folds": {"0": {"roc_auc": 0.7}},
        "held_out": {"roc_auc": 0.81, "n": 189, "precision": float("nan")},
        "split": "by source",
        "training_clips": 189,
        "gate": {"anchor_roc_auc_fight_candidate": 0.9, "anchor_roc_auc_fight_parent": 0.8},
    }
    controller.repository.add_model(ModelRecord("v3", "/models/v3", "v1", START, live=False, metrics=metrics))
    shown = next(model["metrics"] for model in client.get("/v1/models").json() if model["version"] == "v3")
    assert shown == {"roc_auc": 0.81, "n": 189, "training_clips": 189, "anchor_roc_auc_fight": 0.9}


def test_promote_makes_a_version_live(two: httpx.Client) -> None:
    assert two.post("/v1/models/v2/promote").json()["live"] is True
    assert live(two) == "v2"


def test_promoting_an_unknown_version_is_404(client: httpx.Client) -> None:
    assert client.post("/v1/models/v9/promote").status_code == 404


def test_promoting_a_damaged_bundle_is_409(two: httpx.Client, controller: FakeController) -> None:
    controller.error = BundleError("Model v2 is damaged: int8.bin has another checksum.", hint="Promote another one.")
    answer = two.post("/v1/models/v2/promote")
    assert (answer.status_code, answer.json()["hint"]) == (409, "Promote another one.")


def test_rollback_brings_the_former_version_back(two: httpx.Client) -> None:
    two.post("/v1/models/v2/promote")
    assert two.post("/v1/models/rollback").json()["version"] == "v1"


def test_rollback_without_a_former_version_is_409(client: httpx.Client) -> None:
    assert client.post("/v1/models/rollback").status_code == 409


def test_no_refreshes_are_an_empty_list(client: httpx.Client) -> None:
    assert client.get("/v1/refreshes").json() == []


def test_a_started_refresh_says_where_it_is(client: httpx.Client) -> None:
    answer = client.post("/v1/refreshes", json={})
    assert (answer.status_code, answer.headers["location"]) == (202, "/v1/refreshes/refresh-1")
    assert client.get("/v1/refreshes/refresh-1").json() == answer.json()


def test_a_refresh_has_every_field_of_the_record(client: httpx.Client) -> None:
    assert set(client.post("/v1/refreshes").json()) == set(RefreshOut.model_fields) == set(RefreshRecord.__slots__)


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (None, RefreshRequest()),
        ({"self_test": "shuffled_labels"}, RefreshRequest(self_test="shuffled_labels")),
        ({"harvest_s": 5, "clips_per_camera": 4}, RefreshRequest(harvest_s=5, clips_per_camera=4)),
    ],
)
def test_a_refresh_is_asked_for_as_wished(client, controller: FakeController, body, asked: RefreshRequest) -> None:
    client.post("/v1/refreshes", json=body)
    assert controller.asked == [asked]


@pytest.mark.parametrize("body", [{"self_test": "x"}, {"harvest_s": 0}, {"clips_per_camera": 1}, {"what": 1}])
def test_a_wrong_wish_is_422(client: httpx.Client, body: dict[str, object]) -> None:
    assert client.post("/v1/refreshes", json=body).status_code == 422


def test_a_second_refresh_at_once_is_409(client: httpx.Client) -> None:
    client.post("/v1/refreshes")
    assert client.post("/v1/refreshes").status_code == 409


def test_refreshes_are_listed_newest_first_up_to_the_limit(client: httpx.Client, controller: FakeController) -> None:
    for n in (1, 2):
        client.post("/v1/refreshes")
        controller.repository.update_refresh(f"refresh-{n}", status=RefreshStatus.REFUSED, gate={"benefit": -0.1})
    found = client.get("/v1/refreshes?limit=1").json()
    assert [(refresh["id"], refresh["gate"]) for refresh in found] == [("refresh-2", {"benefit": -0.1})]


def test_an_unknown_refresh_is_404(client: httpx.Client) -> None:
    assert client.get("/v1/refreshes/none").status_code == 404
