"""The refresh loop: what it ends with, and what it leaves."""

from __future__ import annotations

import asyncio

import pytest

from streamkd.bundle import read_bundle
from streamkd.clock import SystemClock
from streamkd.config import Config
from streamkd.errors import ConflictError, DependencyError, InputError
from streamkd.refresh import steps
from streamkd.store.records import ModelRecord, RefreshStatus, RefreshStep
from streamkd.types import CameraState
from streamkd_service import needs
from streamkd_service.runtime import refresh_runner
from streamkd_service.runtime.ports import RefreshRequest
from streamkd_service.runtime.refresh_runner import RefreshRunner
from tests.fakes import make_tiny_bundle
from tests.refreshes import BLIND, ended, refresh


def test_a_better_student_goes_live(host):
    record = asyncio.run(refresh(host))
    assert (record.status, host.live_model.version) == (RefreshStatus.PROMOTED, record.candidate_version), record.detail


def test_every_step_leaves_its_time(host):
    record = asyncio.run(refresh(host))
    assert set(record.steps_s) == {"harvest", "teach", "distil", "gate", "swap"}


def test_the_gates_report_is_kept(host):
    record = asyncio.run(refresh(host))
    assert record.gate is not None
    assert record.gate["passed"]


def test_the_new_version_is_a_whole_bundle_among_the_models(host):
    record = asyncio.run(refresh(host))
    path = host.config.store.models_dir.resolve() / record.candidate_version
    assert read_bundle(path).spec.version == record.candidate_version


def test_its_parent_is_what_a_rollback_brings_back(host):
    asyncio.run(refresh(host))
    assert asyncio.run(host.rollback()).version == "tiny-1"


def test_a_blind_student_is_refused(host):
    host.jobs.candidate_bias = BLIND
    record = asyncio.run(refresh(host))
    assert (record.status, host.live_model.version) == (RefreshStatus.REFUSED, "tiny-1")


def test_a_fire_drill_that_the_gate_refuses_is_no_failure(host):
    host.jobs.candidate_bias = BLIND
    record = asyncio.run(refresh(host, self_test="shuffled_labels"))
    assert record.status is RefreshStatus.REFUSED
    assert record.detail.startswith("fire drill as it should be")


def test_a_fire_drill_is_never_promoted_whatever_the_gate_says(host):
    record = asyncio.run(refresh(host, self_test="shuffled_labels"))
    assert (record.status, host.live_model.version) == (RefreshStatus.FAILED, "tiny-1")


def test_a_fire_drill_with_labels_that_are_all_alike_is_no_drill(host):
    host.jobs.labels_differ = False
    record = asyncio.run(refresh(host, self_test="shuffled_labels"))
    assert (record.status, "no fire drill" in record.detail) == (RefreshStatus.FAILED, True)


def test_an_unknown_self_test_is_named(host):
    with pytest.raises(InputError, match="coffee"):
        asyncio.run(refresh(host, self_test="coffee"))


def test_too_little_footage_is_refused_before_anything_is_trained(host):
    host.moments = 1
    record = asyncio.run(refresh(host))
    assert record.status is RefreshStatus.REFUSED
    assert "not enough evidence" in record.detail
    assert host.jobs.entries == []


def test_no_camera_online_fails_with_a_reason(host):
    host.state = CameraState.BACKING_OFF
    record = asyncio.run(refresh(host))
    assert record.status is RefreshStatus.FAILED
    assert "No camera is online" in record.detail


def test_without_the_packages_of_training_none_begins(host, monkeypatch):
    monkeypatch.setattr(needs, "find_spec", lambda name: None if name == "nncf" else object())
    with pytest.raises(DependencyError, match="A refresh needs nncf"):
        asyncio.run(refresh(host))
    assert host.harvests == 0


def test_a_job_that_dies_fails_the_refresh_and_leaves_the_model(host):
    host.jobs.fail_at = "distil"
    record = asyncio.run(refresh(host))
    assert (record.status, host.live_model.version) == (RefreshStatus.FAILED, "tiny-1")


def test_a_second_refresh_waits_for_the_first(host):
    async def both():
        runner = RefreshRunner(host)
        host.jobs.hold = ("distil", asyncio.Event())
        await runner.start(RefreshRequest())
        try:
            with pytest.raises(ConflictError):
                await runner.start(RefreshRequest())
        finally:
            host.jobs.hold[1].set()
            await ended(runner)

    asyncio.run(both())


def test_a_model_that_no_worker_takes_over_is_rolled_back(host, monkeypatch):
    monkeypatch.setattr(refresh_runner, "_SWAP_WITHIN_S", 0.05)
    host.ready = False
    record = asyncio.run(refresh(host))
    assert (record.status, host.live_model.version) == (RefreshStatus.FAILED, "tiny-1")


def test_a_model_changed_by_hand_meanwhile_stays(host, tmp_path):
    async def race():
        runner = RefreshRunner(host)
        host.jobs.hold = ("judge", asyncio.Event())
        record = await runner.start(RefreshRequest())
        other = make_tiny_bundle(tmp_path / "other", version="other")
        host.repository.add_model(ModelRecord("other", str(other), None, SystemClock().utc(), live=False))
        await host.promote("other", "by hand")
        host.jobs.hold[1].set()
        await ended(runner)
        return host.repository.get_refresh(record.id)

    record = asyncio.run(race())
    assert (record.status, host.live_model.version) == (RefreshStatus.FAILED, "other")


def test_stopping_the_service_cancels(host):
    async def stop():
        runner = RefreshRunner(host)
        host.jobs.hold = ("distil", asyncio.Event())
        record = await runner.start(RefreshRequest())
        await runner.stop()
        return host.repository.get_refresh(record.id)

    assert asyncio.run(stop()).status is RefreshStatus.CANCELLED


def test_progress_is_written_down_while_a_step_runs(host):
    async def watch():
        runner = RefreshRunner(host)
        host.jobs.hold = ("judge", asyncio.Event())
        record = await runner.start(RefreshRequest())
        while (now := host.repository.get_refresh(record.id)).step is not RefreshStep.GATE:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        host.jobs.hold[1].set()
        await ended(runner)
        return now

    assert asyncio.run(watch()).status is RefreshStatus.RUNNING


def test_a_plan_survives_its_file(tmp_path):
    plan = steps.plan_from(
        Config().refresh,
        id="x",
        parent_version="a",
        parent_path=tmp_path,
        candidate_version="b",
        seed=1,
        harvest_s=5.0,
        clips_per_camera=None,
    )
    steps.save_plan(tmp_path / "work", plan)
    assert steps.load_plan(tmp_path / "work") == plan
