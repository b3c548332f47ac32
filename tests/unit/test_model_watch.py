"""What happens to a student after it was swapped in: alarms are counted, and too many of them take it back."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from streamkd.config import Config
from streamkd.refresh.registry import work_folder
from streamkd.store.records import ModelRecord, RefreshRecord, RefreshStatus, RefreshStep
from streamkd.types import CameraState, CameraStatus, EventKind, EventUpdate
from streamkd_service.runtime.model_watch import Exposure, ModelWatch

OLD, NEW = "old", "new"
WATCH_S = 3600.0


class Site:
    """Cameras that are online, models that raise alarms, and a clock that the watch's own waiting moves."""

    def __init__(self, repository, clock, folder):
        self.config = Config.model_validate({"refresh": {"watch_s": WATCH_S}, "store": {"models_dir": folder}})
        self.repository, self.clock, self.media = repository, clock, folder / "media"
        for version in (OLD, NEW):
            repository.add_model(ModelRecord(version, f"/models/{version}", None, clock.utc(), live=False))
        self.live_model = repository.activate(OLD, "configured")
        self.alarms_per_hour = {OLD: 4.0, NEW: 4.0}
        self.due = 0.0
        self.watch = ModelWatch(self, clock, self.wait)

    async def db(self, call):
        return call()

    def announce(self):
        pass

    async def rollback(self):
        self.live_model = self.repository.rollback()
        return self.live_model

    async def wait(self, seconds):
        """Time goes on, a second tick a minute at most; alarms come as often as the live model raises them."""
        ends_s = self.clock.monotonic_s() + seconds
        while self.clock.monotonic_s() < ends_s:
            step_s = min(20.0, ends_s - self.clock.monotonic_s())
            self.clock.advance(step_s)
            version = self.live_model.version
            self.due += self.alarms_per_hour[version] * step_s / 3600.0
            while self.due >= 1.0:
                self.due -= 1.0
                self.alarm(version)
            self.watch.tick([CameraStatus("gate", CameraState.ONLINE, model_version=version)])
        await asyncio.sleep(0)

    def alarm(self, version):
        now = self.clock.utc()
        values = {
            "label": "fight",
            "start_utc": now,
            "end_utc": now,
            "start_pts_s": 0.0,
            "end_pts_s": 1.0,
            "score": 0.9,
        }
        update = EventUpdate(str(uuid4()), 1, "gate", EventKind.ACTION, model_version=version, **values)
        self.repository.apply_updates([update], self.media)

    def swap(self) -> RefreshRecord:
        """As a refresh ends that has promoted its candidate."""
        now = self.clock.utc()
        record = RefreshRecord(
            "r1", RefreshStatus.PROMOTED, RefreshStep.DONE, 1.0, now, now, OLD, NEW, None, "Passed: …", None
        )
        self.live_model = self.repository.activate(NEW, "refresh r1")
        return self.repository.create_refresh(record)

    async def until_over(self):
        if self.watch._task is not None:
            await asyncio.wait_for(self.watch._task, 10)


@pytest.fixture
def site(repository, clock, tmp_path):
    return Site(repository, clock, tmp_path)


async def watched(site, *, before_s=WATCH_S):
    site.watch.tick([])
    await site.wait(before_s)
    site.watch.begin(site.swap())
    await site.until_over()
    return site.repository.get_refresh("r1")


def test_a_student_that_raises_a_flood_of_alarms_is_taken_back(site):
    site.alarms_per_hour[NEW] = 120.0
    with capture_logs() as lines:
        record = asyncio.run(watched(site))
    assert (record.status, site.live_model.version) == (RefreshStatus.ROLLED_BACK, OLD)
    assert record.detail.startswith("rolled back to old: camera gate raised 15 action events in 7.5 min, 4 action")
    assert any(line["event"] == "model rolled back" and line["log_level"] == "error" for line in lines)


@pytest.mark.parametrize("alarms_per_hour", [0.0, 4.0, 8.0])
def test_a_student_with_about_as_many_alarms_stays(site, alarms_per_hour):
    site.alarms_per_hour[NEW] = alarms_per_hour
    record = asyncio.run(watched(site))
    assert (record.status, site.live_model.version) == (RefreshStatus.PROMOTED, NEW)


def test_a_student_that_heals_a_blind_one_stays(site):
    site.alarms_per_hour = {OLD: 0.0, NEW: 12.0}
    record = asyncio.run(watched(site))
    assert (record.status, site.live_model.version) == (RefreshStatus.PROMOTED, NEW)


def test_a_flood_after_a_blind_student_is_taken_back(site):
    site.alarms_per_hour = {OLD: 0.0, NEW: 120.0}
    assert asyncio.run(watched(site)).status is RefreshStatus.ROLLED_BACK


def test_how_many_alarms_are_tolerated_is_configured(site):
    site.config = Config.model_validate(
        {"refresh": {"watch_s": WATCH_S, "watch_alarms_per_hour": 200}, "store": site.config.store}
    )
    site.watch = ModelWatch(site, site.clock, site.wait)
    site.alarms_per_hour = {OLD: 0.0, NEW: 120.0}
    assert asyncio.run(watched(site)).status is RefreshStatus.PROMOTED


def test_without_a_time_before_the_swap_nothing_is_concluded(site):
    site.alarms_per_hour[NEW] = 120.0
    assert asyncio.run(watched(site, before_s=0.0)).status is RefreshStatus.PROMOTED


def test_a_change_of_the_model_by_hand_ends_the_watch(site):
    site.alarms_per_hour = {OLD: 120.0, NEW: 120.0}

    async def scenario():
        site.watch.tick([])
        record = site.swap()
        await site.rollback()
        site.watch.begin(record)
        await site.until_over()
        return site.repository.get_refresh("r1").status

    assert asyncio.run(scenario()) is RefreshStatus.PROMOTED


def test_a_watch_goes_on_after_a_restart_with_what_was_known_before(site):
    async def scenario():
        waiting = asyncio.Event()

        async def hang(_seconds):
            waiting.set()
            await asyncio.Event().wait()

        site.watch = ModelWatch(site, site.clock, hang)
        site.watch.tick([])
        await site.wait(WATCH_S)
        site.watch.begin(site.swap())
        await asyncio.wait_for(waiting.wait(), 10)  # the baseline is written, the first look is waited for
        await site.watch.stop()
        site.watch = ModelWatch(site, site.clock, site.wait)
        site.watch.tick([])
        site.alarms_per_hour[NEW] = 120.0
        await site.watch.recover()
        await site.until_over()
        return site.repository.get_refresh("r1").status

    assert asyncio.run(scenario()) is RefreshStatus.ROLLED_BACK


def test_a_watch_that_is_over_is_not_begun_again(site):
    async def scenario():
        site.swap()
        site.clock.advance(WATCH_S + 1)
        await site.watch.recover()
        return site.watch._task

    assert asyncio.run(scenario()) is None


def test_no_watch_where_none_is_wanted(site):
    site.config = Config.model_validate({"refresh": {"watch_s": 0}})
    watch = ModelWatch(site, site.clock, site.wait)
    watch.begin(site.swap())
    assert watch._task is None


def test_a_baseline_that_can_not_be_read_is_counted_again(site):
    folder = work_folder(site.config.store.models_dir.resolve(), "r1")
    folder.mkdir(parents=True)
    (folder / "watch.json").write_text("[1, 2")
    site.alarms_per_hour[NEW] = 120.0
    assert asyncio.run(watched(site)).status is RefreshStatus.ROLLED_BACK


def test_only_online_cameras_count_as_watched_and_old_minutes_are_forgotten():
    exposure, noon = Exposure(keep_s=600.0), datetime.fromisoformat("2026-01-01T12:00:00+00:00")
    states = {"gate": CameraState.ONLINE, "yard": CameraState.STALLED, "door": CameraState.WARMING}
    statuses = [CameraStatus(name, state, model_version=NEW) for name, state in states.items()]
    for minute in range(60):
        exposure.add(statuses, noon + timedelta(minutes=minute), 60.0)
    assert exposure.watched_s(NEW, noon + timedelta(minutes=58)) == {"gate": 120.0}
    assert exposure.watched_s(NEW, noon) == {"gate": 13 * 60.0}
    assert exposure.watched_s(OLD, noon) == {}
