"""Which model the Controller lets serve, and a refresh without cameras."""

from __future__ import annotations

import asyncio

import pytest

from streamkd.errors import BundleError, ConflictError
from streamkd_service.runtime.ports import (
    RefreshRequest,
)
from tests.controllers import camera, record_of_bundle, report, run, running
from tests.fakes import make_tiny_bundle


def test_a_promoted_model_reaches_the_workers_and_a_rollback_takes_it_back(config, tmp_path):
    other = record_of_bundle(make_tiny_bundle(tmp_path / "models" / "tiny-2", version="tiny-2"))

    async def scenario():
        async with running(config) as controller:
            await controller.db(lambda: controller.repository.add_model(other))
            await controller.promote("tiny-2")
            promoted = (await controller.report(report())).assignment.model_version
            await controller.rollback()
            return promoted, (await controller.report(report())).assignment.model_version

    assert run(scenario()) == ("tiny-2", "tiny-1")


def test_another_model_moves_no_camera(config, tmp_path):
    other = record_of_bundle(make_tiny_bundle(tmp_path / "models" / "tiny-2", version="tiny-2"))

    async def scenario():
        async with running(config, ("worker-0", "worker-1")) as controller:
            await controller.db(lambda: controller.repository.add_model(other))
            views = [await controller.add_camera(camera(f"door-{index}")) for index in range(6)]
            for view in [view for view in views if view.worker_id == "worker-1"][:2]:
                await controller.delete_camera(view.config.id)  # a third more than its share is left to the other
            placed = []
            for change in (lambda: controller.promote("tiny-2"), controller.rollback):
                placed.append({view.config.id: view.worker_id for view in await controller.list_cameras()})
                await change()
            placed.append({view.config.id: view.worker_id for view in await controller.list_cameras()})
            return placed

    before, promoted, rolled_back = run(scenario())
    assert sorted(before.values()).count("worker-0") == 4
    assert before == promoted == rolled_back


def test_a_damaged_bundle_is_not_promoted(config, tmp_path):
    folder = make_tiny_bundle(tmp_path / "models" / "tiny-2", version="tiny-2")
    record = record_of_bundle(folder)
    (folder / "int8.bin").write_bytes(b"damaged")

    async def scenario():
        async with running(config) as controller:
            await controller.db(lambda: controller.repository.add_model(record))
            with pytest.raises(BundleError):
                await controller.promote("tiny-2")
            return (await controller.system()).model_version

    assert run(scenario()) == "tiny-1"


def test_the_promoted_model_serves_after_a_restart(config, tmp_path):
    other = record_of_bundle(make_tiny_bundle(tmp_path / "models" / "tiny-2", version="tiny-2"))

    async def scenario():
        async with running(config) as controller:
            await controller.db(lambda: controller.repository.add_model(other))
            await controller.promote("tiny-2")
        async with running(config) as controller:
            return (await controller.system()).model_version

    assert run(scenario()) == "tiny-2"


def test_the_configured_model_serves_where_the_promoted_one_is_gone(config, tmp_path):
    folder = make_tiny_bundle(tmp_path / "models" / "tiny-2", version="tiny-2")
    other = record_of_bundle(folder)

    async def scenario():
        async with running(config) as controller:
            await controller.db(lambda: controller.repository.add_model(other))
            await controller.promote("tiny-2")
        folder.rename(tmp_path / "elsewhere")
        async with running(config) as controller:
            return (await controller.system()).model_version

    assert run(scenario()) == "tiny-1"


def test_the_system_is_ready_when_every_worker_answers_with_the_live_model(config):
    async def scenario():
        async with running(config) as controller:
            before = (await controller.system()).ready
            await controller.report(report(model="tiny-1"))
            return before, (await controller.system()).ready

    assert run(scenario()) == (False, True)


def test_rolling_back_with_nothing_before_is_a_conflict(config):
    async def scenario():
        async with running(config) as controller:
            with pytest.raises(ConflictError):
                await controller.rollback()

    run(scenario())


def test_a_refresh_without_a_camera_online_fails_and_says_why(config):
    async def scenario():
        async with running(config) as controller:
            started = await controller.start_refresh(RefreshRequest())
            while (await controller.system()).refresh_running:  # noqa: ASYNC110 - asked as the API asks
                await asyncio.sleep(0.01)
            return await controller.db(lambda: controller.repository.get_refresh(started.id))

    ended = run(scenario())
    assert (ended.status, "online" in ended.detail) == ("failed", True)
