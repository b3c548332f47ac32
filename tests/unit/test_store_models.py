"""Models and refreshes: which version serves, what a rollback brings back, one refresh at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from streamkd.errors import ConflictError, InputError, NotFoundError
from streamkd.store.records import ModelRecord, RefreshRecord, RefreshStatus, RefreshStep

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def model(version, *, age_h=0, **more):
    values = {"path": f"/models/{version}", "parent": None, "live": False, "metrics": {}} | more
    return ModelRecord(version=version, created_utc=NOON - timedelta(hours=age_h), **values)


def refresh(id_="r1", status=RefreshStatus.RUNNING, at_s=0, **more):
    started = NOON + timedelta(seconds=at_s)
    values = {"candidate_version": None, "self_test": None, "detail": "", "gate": None} | more
    return RefreshRecord(id_, status, RefreshStep.HARVEST, 0.0, started, None, "v1", **values)


@pytest.fixture
def three(repository):
    """Versions v1, v2, v3, activated in this order."""
    for n, version in enumerate(("v1", "v2", "v3")):
        repository.add_model(model(version, age_h=3 - n))
        repository.activate(version, "promoted")
    return repository


def live(repository):
    found = repository.live_model()
    return found.version if found else None


def previous(repository):
    found = repository.previous_model()
    return found.version if found else None


def test_no_model_is_live_before_one_is_activated(repository):
    repository.add_model(model("v1"))
    assert (live(repository), previous(repository)) == (None, None)


def test_the_last_activated_is_live(three):
    assert [(m.version, m.live) for m in three.models()] == [("v3", True), ("v2", False), ("v1", False)]


def test_a_rollback_brings_back_the_one_before(three):
    assert three.rollback().version == "v2"
    assert live(three) == "v2"


def test_a_second_rollback_goes_further_back_and_not_forth_again(three):
    three.rollback()
    assert previous(three) == "v1"
    assert three.rollback().version == "v1"


def test_there_is_nothing_before_the_first(three):
    three.rollback()
    three.rollback()
    with pytest.raises(ConflictError, match="earlier"):
        three.rollback()


def test_a_version_that_was_rolled_back_may_be_promoted_again(three):
    three.rollback()
    three.activate("v3", "promoted")
    assert (live(three), previous(three)) == ("v3", "v2")


def test_activating_what_is_live_changes_nothing(three):
    three.activate("v3", "promoted")
    assert previous(three) == "v2"


def test_rolling_back_by_name_undoes_everything_since(three):
    three.activate("v1", "rollback")
    assert (live(three), previous(three)) == ("v1", None)


def test_an_unknown_version_can_not_be_activated(repository):
    with pytest.raises(NotFoundError, match="'v9'"):
        repository.activate("v9", "promoted")


def test_adding_a_version_again_refreshes_path_and_metrics(repository):
    repository.add_model(model("v1"))
    found = repository.add_model(model("v1", path="/elsewhere", metrics={"roc_auc": 0.8}))
    assert (found.path, found.metrics) == ("/elsewhere", {"roc_auc": 0.8})
    assert len(repository.models()) == 1


def test_a_metric_that_is_no_number_is_stored_as_none(repository):
    repository.add_model(model("v1", metrics={"roc_auc": float("nan"), "nested": [float("inf")]}))
    assert repository.get_model("v1").metrics == {"roc_auc": None, "nested": [None]}


def test_the_live_stream_never_tells_where_a_bundle_lies(three):
    assert all("path" not in change.data for change in three.changes_after(0)[2])


def test_an_activation_tells_of_both_models(three):
    latest = three.changes_after(0)[1]
    three.rollback()
    told = [(change.data["version"], change.data["live"]) for change in three.changes_after(latest)[2]]
    assert told == [("v3", False), ("v2", True)]


def test_pruning_keeps_the_newest_and_what_a_rollback_needs(three):
    for n in range(3):
        three.add_model(model(f"new-{n}", age_h=-n))
    gone = three.prune_models(keep=1)
    assert sorted(record.version for record in gone) == ["new-0", "new-1", "v1"]
    assert (live(three), previous(three)) == ("v3", "v2")


def test_a_refresh_runs_alone(repository):
    repository.create_refresh(refresh("r1"))
    with pytest.raises(ConflictError, match="r1"):
        repository.create_refresh(refresh("r2"))


def test_a_refresh_may_follow_one_that_has_ended(repository):
    repository.create_refresh(refresh("r1"))
    repository.update_refresh("r1", status=RefreshStatus.REFUSED)
    repository.create_refresh(refresh("r2", at_s=60))
    assert [r.id for r in repository.list_refreshes()] == ["r2", "r1"]


def test_progress_is_written_down(repository):
    repository.create_refresh(refresh())
    gate = {"passed": False, "checks": [{"value": float("inf")}]}
    repository.update_refresh("r1", step=RefreshStep.GATE, progress=0.5, gate=gate, steps_s={"harvest": 1.5})
    found = repository.get_refresh("r1")
    assert (found.step, found.progress, found.steps_s) == (RefreshStep.GATE, 0.5, {"harvest": 1.5})
    assert found.gate == {"passed": False, "checks": [{"value": None}]}


def test_a_refresh_that_ends_gets_its_end(repository, clock):
    repository.create_refresh(refresh())
    assert repository.update_refresh("r1", status=RefreshStatus.PROMOTED).ended_utc == clock.utc()


def test_a_gate_report_is_none_until_there_is_one(repository):
    repository.create_refresh(refresh())
    assert repository.get_refresh("r1").gate is None


def test_a_field_that_a_refresh_does_not_have_is_a_programming_error(repository):
    repository.create_refresh(refresh())
    with pytest.raises(TypeError, match="colour"):
        repository.update_refresh("r1", colour="red")


def test_an_unknown_refresh_is_not_found(repository):
    with pytest.raises(NotFoundError, match="'r1'"):
        repository.update_refresh("r1", progress=1.0)


def test_refreshes_are_listed_up_to_the_limit(repository):
    for n in range(3):
        repository.create_refresh(refresh(f"r{n}", RefreshStatus.FAILED, at_s=n))
    assert [r.id for r in repository.list_refreshes(2)] == ["r2", "r1"]
    with pytest.raises(InputError, match="limit"):
        repository.list_refreshes(0)
