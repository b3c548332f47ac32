"""Commits of many workers: together where they wait for each other, each answered for its own."""

from __future__ import annotations

import asyncio

import pytest

from streamkd.errors import StoreError
from streamkd_service.runtime.group_commit import GroupCommit


class Disk:
    """Commits when it is let; remembers what it was given."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.free = asyncio.Event()
        self.broken = False

    async def commit(self, updates):
        self.groups.append(list(updates))
        await self.free.wait()
        if self.broken:
            raise StoreError("The disk is full.")
        return updates


def run(scenario):
    return asyncio.run(asyncio.wait_for(scenario, 10))


async def three_while_one_is_under_way(disk):
    group = GroupCommit(disk.commit)
    tasks = [asyncio.create_task(group.apply(["a"]))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(group.apply([name])) for name in "bcd"]
    await asyncio.sleep(0)
    disk.free.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_what_waits_is_committed_together():
    async def scenario():
        disk = Disk()
        await three_while_one_is_under_way(disk)
        return disk.groups

    assert run(scenario()) == [["a"], ["b", "c", "d"]]


def test_everyone_is_answered():
    async def scenario():
        return await three_while_one_is_under_way(Disk())

    assert run(scenario()) == [True] * 4


def test_nobody_is_answered_before_the_commit():
    async def scenario():
        disk = Disk()
        task = asyncio.create_task(GroupCommit(disk.commit).apply(["a"]))
        done, _ = await asyncio.wait({task}, timeout=0.05)
        disk.free.set()
        await task
        return done

    assert run(scenario()) == set()


def test_a_failure_is_told_to_all_and_the_next_goes_on():
    async def scenario():
        disk = Disk()
        disk.free.set()
        disk.broken = True
        group = GroupCommit(disk.commit)
        with pytest.raises(StoreError):
            await group.apply(["a"])
        disk.broken = False
        return await group.apply(["b"])

    assert run(scenario())


def test_a_caller_that_left_costs_the_others_nothing():
    async def scenario():
        disk = Disk()
        group = GroupCommit(disk.commit)
        leaving, staying = (asyncio.create_task(group.apply([name])) for name in "ab")
        await asyncio.sleep(0)
        leaving.cancel()
        disk.free.set()
        return await staying

    assert run(scenario())
