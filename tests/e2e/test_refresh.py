"""Refreshes on live RTSP cameras with the shipped student and teacher: small, and real from the harvest to the swap."""

from __future__ import annotations

import csv
import time

import pytest

from tests.processes import RtspServer, Service, started, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]

SCENES = {"corner": "7q6KJoSgxmY", "plaza": "Synopsis"}
REFRESH = {"harvest_s": 16.0, "clips_per_camera": 7, "epochs": 1}


@pytest.fixture(scope="module")
def cameras(tmp_path_factory, demo_clips):
    from streamkd.media.prepare import join_clips

    with (demo_clips / "clips.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    folder = tmp_path_factory.mktemp("scenes")
    mounts = {}
    for name, source in SCENES.items():
        mounts[name] = folder / f"{name}.mp4"
        clips = [demo_clips / row["file"] for row in rows if row["source"] == source]
        join_clips(clips, mounts[name], min_duration_s=600.0)
    server = RtspServer(mounts)
    yield server
    server.kill()


@pytest.fixture(scope="module")
def service(tmp_path_factory, cameras):
    listed = [{"id": name, "url": cameras.url(name)} for name in SCENES]
    found = Service(tmp_path_factory.mktemp("service"), cameras=listed, refresh=REFRESH)
    with started(found):
        for name in SCENES:
            found.wait_state(name, "online", timeout_s=60.0)
        yield found


def run_refresh(service, **request):
    """Start a refresh, wait for its end; returns its record and every camera state seen meanwhile."""
    identity = service.api.post("/v1/refreshes", request)["id"]
    states = set()

    def ended():
        time.sleep(0.5)  # asking costs the processor time that the refresh needs
        states.update(service.status(name)["state"] for name in SCENES)
        record = next(one for one in service.api.get("/v1/refreshes") if one["id"] == identity)
        return record if record["status"] != "running" else None

    return wait_for(ended, timeout_s=240.0, why="the refresh ends"), states


@pytest.fixture(scope="module")
def drill(service):
    before = service.api.get("/v1/system")["model_version"]
    record, states = run_refresh(service, self_test="shuffled_labels")
    return record, states, before


def test_a_candidate_trained_on_shuffled_labels_is_refused(drill):
    record, _, _ = drill
    assert record["status"] == "refused", record["detail"]


def test_the_drill_went_through_every_step_but_the_swap(drill):
    record, _, _ = drill
    assert list(record["steps_s"]) == ["harvest", "teach", "distil", "gate"]


def test_no_camera_goes_offline_while_a_refresh_runs(drill):
    _, states, _ = drill
    assert states == {"online"}


def test_a_drill_leaves_the_live_model(service, drill):
    _, _, before = drill
    assert service.api.get("/v1/system")["model_version"] == before


def test_a_second_refresh_meanwhile_is_a_conflict(service):
    first = service.api.post("/v1/refreshes", {"harvest_s": 1, "clips_per_camera": 2})
    with pytest.raises(Exception, match=first["id"]):
        service.api.post("/v1/refreshes", {})
    wait_for(lambda: service.api.get("/v1/refreshes")[0]["status"] != "running", timeout_s=120.0)


def test_what_the_gate_refused_can_not_be_promoted(service, drill):
    _, _, before = drill
    assert [model["version"] for model in service.api.get("/v1/models")] == [before]
