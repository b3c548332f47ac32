"""What the Controller assigns, remembers and tells."""

from __future__ import annotations

import asyncio

import pytest

from streamkd.errors import StoreError
from streamkd.types import CameraState, CameraStatus
from tests.controllers import events, report, run, running, update


def test_the_first_report_is_answered_with_the_whole_assignment(config):
    async def scenario():
        async with running(config) as controller:
            return (await controller.report(report())).assignment

    assignment = run(scenario())
    assert [item.id for item in assignment.cameras] == ["gate", "yard"]
    assert assignment.model_version == "tiny-1"


def test_a_worker_that_is_up_to_date_gets_no_assignment(config):
    async def scenario():
        async with running(config) as controller:
            first = await controller.report(report())
            return await controller.report(report(revision=first.assignment.revision))

    assert run(scenario()).assignment is None


def test_cameras_are_spread_over_the_workers(config):
    async def scenario():
        async with running(config, ("worker-0", "worker-1")) as controller:
            replies = [await controller.report(report(name, name)) for name in ("worker-0", "worker-1")]
            return [len(reply.assignment.cameras) for reply in replies]

    assert run(scenario()) == [1, 1]


def test_the_present_incarnations_of_the_workers_are_told(config):
    workers = {"worker-0": 1.0, "worker-1": 1.0}

    async def scenario():
        async with running(config) as controller:
            told = [await controller.set_workers(workers)]
            for epoch in ("one", "two"):
                await controller.report(report(epoch=epoch))
                told.append(await controller.set_workers(workers))
            return told

    assert run(scenario()) == [{}, {"worker-0": "one"}, {"worker-0": "two"}]


def test_what_was_acknowledged_is_in_the_database(config):
    async def scenario():
        async with running(config) as controller:
            await controller.report(report(updates=[update("a")]))
            return events(config)  # not after stop: a kill must not lose it either

    assert run(scenario())["a"].has_snapshot


def test_a_repeated_delivery_is_one_event(config):
    async def scenario():
        async with running(config) as controller:
            for _ in range(2):
                await controller.report(report(updates=[update("a")]))

    run(scenario())
    assert events(config)["a"].revision == 1


def test_a_retired_incarnation_can_write_nothing(config):
    async def scenario():
        async with running(config) as controller:
            for epoch in ("one", "two"):
                await controller.report(report(epoch=epoch))
            return await controller.report(report(epoch="one", updates=[update("late")]))

    assert (run(scenario()).accepted, events(config)) == (False, {})


def test_events_of_a_worker_that_died_are_closed_as_interrupted(config):
    async def scenario():
        async with running(config) as controller:
            await controller.report(report(updates=[update("a", epoch="one")]))
            await controller.report(report(epoch="two"))

    run(scenario())
    assert events(config)["a"].interrupted


def test_events_of_a_dead_worker_are_closed_when_the_database_is_back(config, monkeypatch):
    async def scenario():
        async with running(config) as controller:
            await controller.report(report(updates=[update("a", epoch="one")]))
            with monkeypatch.context() as away:
                away.setattr(controller.repository, "close_interrupted", _refuse)
                with pytest.raises(StoreError):
                    await controller.report(report(epoch="two"))
            await controller.report(report(epoch="two"))

    run(scenario())
    assert events(config)["a"].interrupted


def _refuse(*_, **__):
    raise StoreError("The database is away.")


def test_a_restarted_controller_leaves_the_events_of_a_living_worker_open(config):
    async def scenario():
        async with running(config) as controller:
            await controller.report(report(updates=[update("a", epoch="one")]))
        async with running(config) as controller:
            await controller.report(report(epoch="one"))

    run(scenario())
    assert events(config)["a"].end_utc is None


def test_a_change_wakes_who_waits_for_it(config):
    async def scenario():
        async with running(config) as controller:
            seq = (await controller.changes_after(0, 0.0)).latest_seq
            waiting = asyncio.create_task(controller.changes_after(seq, 10.0))
            await asyncio.sleep(0)
            await controller.report(report(updates=[update("a")]))
            return (await waiting).changes[0]

    assert run(scenario()).data["id"] == "a"


def test_waiting_for_changes_ends_with_the_timeout(config):
    async def scenario():
        async with running(config) as controller:
            seq = (await controller.changes_after(0, 0.0)).latest_seq
            return await controller.changes_after(seq, 0.05)

    assert run(scenario()).changes == ()


def test_a_camera_that_changes_its_state_is_told_once(config):
    status = CameraStatus("gate", CameraState.ONLINE)

    async def scenario():
        async with running(config) as controller:
            seq = (await controller.changes_after(0, 0.0)).latest_seq
            for _ in range(3):
                await controller.report(report(statuses=[status]))
            return (await controller.changes_after(seq, 0.0)).changes

    told = [change.data["status"]["state"] for change in run(scenario()) if change.data["id"] == "gate"]
    assert told == ["online"]


def test_a_clip_of_a_stored_event_becomes_its_own(config):
    async def scenario():
        async with running(config) as controller:
            await controller.report(report(updates=[update("a", ended=True)]))
            return [await controller.store_clip("a", at, b"abcdef"[at : at + 4], 6) for at in (0, 4)]

    assert run(scenario()) == [True, True]
    assert events(config)["a"].has_clip


def test_a_clip_of_an_event_that_is_not_stored_yet_is_not_taken(config):
    async def scenario():
        async with running(config) as controller:
            return await controller.store_clip("a", 0, b"abc", 3)

    assert run(scenario()) is False
