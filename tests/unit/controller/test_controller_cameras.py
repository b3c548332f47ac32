"""Cameras of the YAML and of the API at the Controller."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from structlog.testing import capture_logs

from streamkd.errors import ConflictError, InputError, NotFoundError
from streamkd_service.runtime.ports import (
    CameraPatch,
)
from tests.controllers import camera, report, run, running


def test_cameras_of_the_api_are_there_after_a_restart(config):
    async def scenario():
        async with running(config) as controller:
            await controller.add_camera(camera("door"))
        async with running(config) as controller:
            return [view.config.id for view in await controller.list_cameras()]

    assert run(scenario()) == ["gate", "yard", "door"]


def test_an_added_camera_is_assigned(config):
    async def scenario():
        async with running(config) as controller:
            first = (await controller.report(report())).assignment
            await controller.add_camera(camera("door"))
            return (await controller.report(report(revision=first.revision))).assignment

    assert "door" in [item.id for item in run(scenario()).cameras]


def test_a_disabled_camera_is_not_assigned(config):
    async def scenario():
        async with running(config) as controller:
            await controller.add_camera(camera("door"))
            await controller.patch_camera("door", CameraPatch({"enabled": False}))
            return (await controller.report(report())).assignment

    assert "door" not in [item.id for item in run(scenario()).cameras]


def test_a_patch_keeps_the_password_and_everything_else(config):
    async def scenario():
        async with running(config) as controller:
            await controller.add_camera(camera("door", cooldown_s=7))
            return (await controller.patch_camera("door", CameraPatch({"sensitivity": 0.9}))).config

    patched = run(scenario())
    assert patched == camera("door", cooldown_s=7, sensitivity=0.9)


def test_two_patches_at_once_both_count(config):
    async def scenario():
        async with running(config) as controller:
            await controller.add_camera(camera("door"))
            patches = CameraPatch({"sensitivity": 0.9}), CameraPatch({"cooldown_s": 77.0})
            await asyncio.gather(*(controller.patch_camera("door", patch) for patch in patches))
            return (await controller.get_camera("door")).config

    changed = run(scenario())
    assert (changed.sensitivity, changed.cooldown_s) == (0.9, 77.0)


def test_a_camera_of_the_yaml_can_not_be_changed(config):
    async def scenario():
        async with running(config) as controller:
            with pytest.raises(ConflictError):
                await controller.patch_camera("gate", CameraPatch({"enabled": False}))
            return await controller.get_camera("gate")

    assert run(scenario()).config.enabled


def test_a_removed_camera_is_gone(config):
    async def scenario():
        async with running(config) as controller:
            await controller.add_camera(camera("door"))
            await controller.delete_camera("door")
            with pytest.raises(NotFoundError):
                await controller.get_camera("door")

    run(scenario())


def test_nothing_is_told_of_a_camera_after_its_removal(config):
    async def scenario():
        async with running(config) as controller:
            await controller.add_camera(camera("door"))
            await asyncio.gather(controller.delete_camera("door"), controller._publish_states())
            return (await controller.changes_after(0, 0.0)).changes

    told = [change for change in run(scenario()) if change.data.get("id") == "door"]
    assert [change.action for change in told] == ["created", "deleted"]


def test_a_snapshot_comes_from_the_camera_s_worker(config):
    async def scenario():
        async with running(config) as controller:
            return await controller.snapshot("gate")

    assert run(scenario()) == b"worker-0 gate"


def test_a_camera_may_not_ask_for_what_the_student_does_not_know(config):
    async def scenario():
        async with running(config) as controller:
            with pytest.raises(InputError, match=r"does not know 'fall'.*labels may name fight"):
                await controller.add_camera(camera("door", labels=("fight", "fall")))
            return await controller.list_cameras()

    assert [view.config.id for view in run(scenario())] == ["gate", "yard"]


def test_a_camera_with_unknown_labels_can_be_changed_otherwise(config):
    async def scenario():
        async with running(config) as controller:
            await controller.db(partial(controller.repository.add_camera, camera("door", labels=("fall",))))
        async with running(config) as controller:
            with pytest.raises(InputError, match="'fall'"):
                await controller.patch_camera("door", CameraPatch({"labels": ("fall",)}))
            return await controller.patch_camera("door", CameraPatch({"sensitivity": 0.7}))

    assert run(scenario()).config.sensitivity == 0.7


def test_cameras_that_wait_for_unknown_labels_are_named_at_the_start(config):
    config = config.model_copy(update={"cameras": (camera("gate", labels=("fall", "fight")), camera("yard"))})

    async def scenario():
        async with running(config):
            pass

    with capture_logs() as lines:
        run(scenario())
    warned = [line for line in lines if line["log_level"] == "warning"]
    assert [(line["camera"], line["labels"], line["student_knows"]) for line in warned] == [("gate", "fall", "fight")]
