"""A refresh whose process vanished in a step goes on, or is given up."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from streamkd.refresh import steps
from streamkd.refresh.registry import work_folder
from streamkd.store.records import RefreshStatus
from streamkd.types import CameraState
from streamkd_service.runtime import refresh_runner
from streamkd_service.runtime.ports import RefreshRequest
from streamkd_service.runtime.refresh_runner import RefreshRunner
from tests.refreshes import ended, interrupt_at, recovered


def test_after_a_crash_it_goes_on_where_it_was(host):
    async def crash():
        return await recovered(host, await interrupt_at(host, "distil"))

    record, entries = asyncio.run(crash())
    assert record.status is RefreshStatus.PROMOTED, record.detail
    assert [entry.rpartition(":")[2] for entry in entries] == ["distil", "judge"]
    assert host.harvests == 1


def test_after_a_crash_it_waits_for_the_cameras_to_come_back(host, monkeypatch):
    monkeypatch.setattr(refresh_runner, "_LOOK_EVERY_S", 0.01)

    async def crash():
        record = await interrupt_at(host, "label_clips")
        (work_folder(host.config.store.models_dir.resolve(), record.id) / "harvest.json").unlink()
        host.state = CameraState.CONNECTING
        runner = RefreshRunner(host)
        await runner.recover()
        while host.looks < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        host.state = CameraState.ONLINE
        await ended(runner)
        return host.repository.get_refresh(record.id)

    record = asyncio.run(crash())
    assert (record.status, host.harvests) == (RefreshStatus.PROMOTED, 2), record.detail


def test_interrupted_in_its_swap_it_goes_on_with_the_swap(host):
    async def crash():
        host.ready = False
        runner = RefreshRunner(host)
        record = await runner.start(RefreshRequest())
        while host.live_model.version == "tiny-1":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        runner._end = lambda *_: asyncio.sleep(0)
        await runner.stop()
        host.ready = True
        return await recovered(host, record)

    record, entries = asyncio.run(crash())
    assert (record.status, entries) == (RefreshStatus.PROMOTED, []), record.detail


def test_interrupted_again_and_again_it_is_given_up(host):
    async def crash():
        record = await interrupt_at(host, "distil")
        work = work_folder(host.config.store.models_dir.resolve(), record.id)
        steps.save_plan(work, replace(steps.load_plan(work), resumed=2))
        return await recovered(host, record)

    assert asyncio.run(crash())[0].status is RefreshStatus.FAILED


def test_without_its_work_folder_it_fails_cleanly(host):
    async def crash():
        record = await interrupt_at(host, "distil")
        (work_folder(host.config.store.models_dir.resolve(), record.id) / "plan.json").unlink()
        runner = RefreshRunner(host)
        await runner.recover()
        return host.repository.get_refresh(record.id)

    assert asyncio.run(crash()).status is RefreshStatus.FAILED
