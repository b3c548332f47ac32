"""The Controller on a real database, with workers played by the test: what it assigns, remembers and tells."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from streamkd.bundle import write_manifest
from streamkd.config import CameraConfig, Config
from streamkd.errors import BundleError, ConflictError, InputError, NotFoundError, StoreError, UnavailableError
from streamkd.store import open_repository, upgrade
from streamkd.store.records import EventQuery
from streamkd.types import CameraState, CameraStatus, EventKind, EventUpdate
from streamkd_service.runtime.controller import Controller
from streamkd_service.runtime.models import record_of
from streamkd_service.runtime.ports import (
    CameraPatch,
    HistogramTotals,
    RefreshRequest,
    WorkerReport,
    WorkerTotals,
)
from tests.fakes import make_tiny_bundle

NONE = HistogramTotals((float("inf"),), (0,), 0.0)
START = datetime(2026, 1, 1, tzinfo=UTC)


def camera(name: str, **settings) -> CameraConfig:
    return CameraConfig(id=name, url=SecretStr(f"rtsp://user:secret@host/{name}"), **settings)


def update(event_id: str, *, revision: int = 1, epoch: str = "one", ended: bool = False) -> EventUpdate:
    return EventUpdate(
        id=event_id,
        revision=revision,
        camera_id="gate",
        kind=EventKind.ACTION,
        label="fight",
        start_utc=START,
        end_utc=START if ended else None,
        start_pts_s=0.0,
        end_pts_s=0.0 if ended else None,
        score=0.9,
        model_version="tiny-1",
        epoch=epoch,
        snapshot_jpeg=b"jpeg",
    )


def report(worker_id="worker-0", epoch="one", *, revision=-1, updates=(), statuses=(), model="") -> WorkerReport:
    return WorkerReport(
        worker_id=worker_id,
        epoch=epoch,
        sent_at_s=0.0,
        assignment_revision=revision,
        model_version=model,
        updates=tuple(updates),
        statuses=tuple(statuses),
        totals=WorkerTotals(worker_id, epoch, (), NONE, NONE, NONE, NONE, 1, 1.0),
    )


@dataclass
class Workers:
    """Answers for every worker."""

    async def snapshot(self, worker_id: str, camera_id: str) -> bytes:
        if camera_id == "dark":
            raise UnavailableError("Camera 'dark' gives no picture now.")
        return f"{worker_id} {camera_id}".encode()

    async def harvest(self, *_: object) -> list[object]:
        return []


class Jobs:
    """Runs nothing."""

    async def run_job(self, entry, kwargs, progress=None, *, nice=19):
        raise UnavailableError(f"{entry} is not run here.")

    def progressed(self, job_id, detail, fraction) -> None: ...


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture
def config(tmp_path, bundle) -> Config:
    config = Config.model_validate(
        {
            "cameras": [camera("gate"), camera("yard")],
            "student": {"bundle": str(bundle)},
            "store": {
                "url": f"sqlite:///{tmp_path / 'streamkd.db'}",
                "media_dir": tmp_path / "media",
                "models_dir": tmp_path / "models",
            },
            "workers": {"count": 1},
        }
    )
    upgrade(config.store.url.get_secret_value())
    return config


@contextlib.asynccontextmanager
async def running(config: Config, worker_ids=("worker-0",)):
    controller = Controller(config, worker_ids, Workers(), Jobs())
    await controller.start()
    try:
        yield controller
    finally:
        await controller.stop()


def events(config: Config):
    with open_repository(config.store.url.get_secret_value(), read_only=True) as repository:
        return {event.id: event for event in repository.list_events(EventQuery()).events}


def run(scenario):
    return asyncio.run(asyncio.wait_for(scenario, 20))


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
            await controller.patch_camera("door", CameraPatch(enabled=False))
            return (await controller.report(report())).assignment

    assert "door" not in [item.id for item in run(scenario()).cameras]


def test_a_patch_keeps_the_password_and_everything_else(config):
    async def scenario():
        async with running(config) as controller:
            await controller.add_camera(camera("door", cooldown_s=7))
            return (await controller.patch_camera("door", CameraPatch(sensitivity=0.9))).config

    patched = run(scenario())
    assert patched == camera("door", cooldown_s=7, sensitivity=0.9)


def test_two_patches_at_once_both_count(config):
    async def scenario():
        async with running(config) as controller:
            await controller.add_camera(camera("door"))
            patches = CameraPatch(sensitivity=0.9), CameraPatch(cooldown_s=77.0)
            await asyncio.gather(*(controller.patch_camera("door", patch) for patch in patches))
            return (await controller.get_camera("door")).config

    changed = run(scenario())
    assert (changed.sensitivity, changed.cooldown_s) == (0.9, 77.0)


def test_a_camera_of_the_yaml_can_not_be_changed(config):
    async def scenario():
        async with running(config) as controller:
            with pytest.raises(ConflictError):
                await controller.patch_camera("gate", CameraPatch(enabled=False))
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


def record_of_bundle(folder):
    from streamkd.bundle import read_bundle
    from streamkd.clock import SystemClock

    write_manifest(folder)
    return replace(record_of(read_bundle(folder), SystemClock()), parent="tiny-1")


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
                await controller.patch_camera("door", CameraPatch(labels=("fall",)))
            return await controller.patch_camera("door", CameraPatch(sensitivity=0.7))

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
