"""The refresh loop over a real store, real bundles and the real gate; only cameras and torch are played."""

from __future__ import annotations

import asyncio
import importlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from streamkd.bundle import file_sha256, read_bundle
from streamkd.clock import SystemClock
from streamkd.config import CameraConfig, Config
from streamkd.distill.labels import ClipLabels, MemberLabels, write_labels
from streamkd.errors import ConflictError, InputError, UnavailableError
from streamkd.media.writer import jpeg_of, write_jpeg_clip
from streamkd.refresh import steps
from streamkd.refresh.harvest import Harvester, HarvestPlan
from streamkd.refresh.registry import work_folder
from streamkd.store import open_repository, upgrade
from streamkd.store.records import CameraOrigin, ModelRecord, RefreshStatus, RefreshStep
from streamkd.types import CameraState, CameraStatus, FrameResult
from streamkd_service.runtime import refresh_runner
from streamkd_service.runtime.ports import CameraView, RefreshRequest
from streamkd_service.runtime.refresh_runner import RefreshRunner
from tests.fakes import GREY, RED, make_frame, make_tiny_bundle

RATE_HZ = 5.0
TIMID, RIGHT, BLIND = -3.0, 0.0, -20.0


@pytest.fixture(scope="module")
def anchors(tmp_path_factory):
    """Six sources, one red (fight) and one grey (normal) clip each."""
    folder = tmp_path_factory.mktemp("anchors")
    rows = ["file,label,source"]
    for source in range(6):
        for label, colour in (("fight", RED), ("normal", GREY)):
            picture = np.empty((48, 64, 3), np.uint8)
            picture[:] = np.clip(np.array(colour) - 5 * source, 0, 255)
            write_jpeg_clip(folder / f"{label}{source}.mkv", [jpeg_of(picture)] * 10, RATE_HZ)
            rows.append(f"{label}{source}.mkv,{label},source{source}")
    (folder / "clips.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


class Jobs:
    """Runs the gate for real; plays teacher and distillation, which need torch."""

    def __init__(self, candidate_bias):
        self.candidate_bias = candidate_bias
        self.labels_differ = True
        self.entries = []
        self.fail_at = None
        self.hold = None

    async def run_job(self, entry, kwargs, progress=None, *, nice=19):
        self.entries.append(entry)
        if self.hold is not None and entry.endswith(self.hold[0]):
            await self.hold[1].wait()
        if self.fail_at is not None and entry.endswith(self.fail_at):
            raise UnavailableError(f"The process of {entry} ended unexpectedly.")
        progress("working", 0.5)
        play = {"label_clips": self._label, "distil": self._distil}.get(entry.rpartition(":")[2])
        if play is not None:
            return play(**kwargs)
        module, _, name = entry.partition(":")
        return await asyncio.to_thread(getattr(importlib.import_module(module), name), **kwargs, progress=progress)

    def _label(self, *, teacher_dir, clips, out, threads):
        red = (0.05, 0.95) if self.labels_differ else (0.95, 0.05)
        probs = tuple(red if "-red" in clip.name else (0.95, 0.05) for clip in clips)
        members = (MemberLabels("a", "train", probs), MemberLabels("b", "judge", probs))
        hashes = tuple(file_sha256(clip) for clip in clips)
        write_labels(out, ClipLabels("played", ("normal", "fight"), tuple(c.name for c in clips), hashes, members))

    def _distil(self, *, out_bundle, version, **_rest):
        make_tiny_bundle(out_bundle, version=version, bias=self.candidate_bias)


class Host:
    """What the Controller gives the runner, without Ray and workers."""

    def __init__(self, folder, anchor_dir, candidate_bias=RIGHT):
        self.config = Config.model_validate(
            {
                "store": {
                    "url": f"sqlite:///{folder}/test.db",
                    "models_dir": str(folder / "models"),
                    "media_dir": str(folder / "media"),
                },
                "refresh": {"anchor_dir": str(anchor_dir), "teacher": str(folder), "harvest_s": 0.1},
            }
        )
        self.jobs = Jobs(candidate_bias)
        upgrade(f"sqlite:///{folder}/test.db")
        self.repository = open_repository(f"sqlite:///{folder}/test.db")
        parent = make_tiny_bundle(folder / "parent", version="tiny-1", bias=TIMID)
        self.repository.add_model(ModelRecord("tiny-1", str(parent), None, SystemClock().utc(), live=False))
        self.live_model = self.repository.activate("tiny-1", "configured")
        self.state = CameraState.ONLINE
        self.moments = 12
        self.ready = True
        self.harvests = self.looks = 0

    async def db(self, call):
        return call()

    def announce(self):
        pass

    async def list_cameras(self):
        self.looks += 1
        configs = [
            CameraConfig.model_validate({"id": name, "url": "rtsp://x/y", "group": "hall"})
            for name in ("cam-red", "cam-grey")
        ]
        return [CameraView(c, CameraOrigin.API, CameraStatus(c.id, self.state), "worker-0") for c in configs]

    async def system(self):
        return SimpleNamespace(ready=self.ready, model_version=self.live_model.version)

    async def harvest(self, worker_id, seconds, clip_s, per_camera, out_dir):
        self.harvests += 1
        harvester = Harvester(HarvestPlan(clip_s=clip_s, per_camera=per_camera), out_dir)
        for name, colour in (("cam-red", RED), ("cam-grey", GREY)):
            for index in range(self.moments * 10):
                grey = np.full((240, 360), index // 10 * 21 % 256, np.uint8)
                if name == "cam-grey":  # another scene
                    grey[:, :180] = 255 - grey[:, :180]
                frame = make_frame(name, index / RATE_HZ, colour, grey=grey)
                scores = {"normal": 0.4, "fight": 0.6}
                harvester._queue.put(
                    (frame, FrameResult(name, 0, frame.pts_s, False, scores, "fight", 0.6, (), None, "tiny-1"))
                )
        return await asyncio.to_thread(harvester.finish)

    async def promote(self, version, reason):
        self.live_model = self.repository.activate(version, reason)
        return self.live_model

    async def rollback(self):
        self.live_model = self.repository.rollback()
        return self.live_model


@pytest.fixture
def host(tmp_path, anchors, monkeypatch):
    monkeypatch.setattr(refresh_runner, "_TELL_EVERY_S", 0.01)
    monkeypatch.setattr(refresh_runner, "_LOOK_EVERY_S", 0.01)
    found = Host(tmp_path, anchors)
    yield found
    found.repository.close()


async def ended(runner):
    if runner._task is not None:
        await asyncio.gather(runner._task, return_exceptions=True)


async def refresh(host, **request):
    runner = RefreshRunner(host)
    record = await runner.start(RefreshRequest(**request))
    await ended(runner)
    return host.repository.get_refresh(record.id)


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


async def interrupt_at(host, entry):
    """Begin a refresh and let its process vanish in a step: the record stays `running`."""
    runner = RefreshRunner(host)
    host.jobs.hold = (entry, asyncio.Event())
    record = await runner.start(RefreshRequest())
    while not host.jobs.entries or not host.jobs.entries[-1].endswith(entry):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    runner._end = lambda *_: asyncio.sleep(0)
    await runner.stop()
    host.jobs.hold = None
    return record


def test_after_a_crash_it_goes_on_where_it_was(host):
    async def crash():
        record = await interrupt_at(host, "distil")
        done = list(host.jobs.entries)
        runner = RefreshRunner(host)
        await runner.recover()
        await ended(runner)
        return host.repository.get_refresh(record.id), host.jobs.entries[len(done) :]

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
        done = list(host.jobs.entries)
        runner = RefreshRunner(host)
        await runner.recover()
        await ended(runner)
        return host.repository.get_refresh(record.id), host.jobs.entries[len(done) :]

    record, entries = asyncio.run(crash())
    assert (record.status, entries) == (RefreshStatus.PROMOTED, []), record.detail


def test_interrupted_again_and_again_it_is_given_up(host):
    async def crash():
        record = await interrupt_at(host, "distil")
        work = work_folder(host.config.store.models_dir.resolve(), record.id)
        steps.save_plan(work, replace(steps.load_plan(work), resumed=2))
        runner = RefreshRunner(host)
        await runner.recover()
        await ended(runner)
        return host.repository.get_refresh(record.id)

    assert asyncio.run(crash()).status is RefreshStatus.FAILED


def test_without_its_work_folder_it_fails_cleanly(host):
    async def crash():
        record = await interrupt_at(host, "distil")
        (work_folder(host.config.store.models_dir.resolve(), record.id) / "plan.json").unlink()
        runner = RefreshRunner(host)
        await runner.recover()
        return host.repository.get_refresh(record.id)

    assert asyncio.run(crash()).status is RefreshStatus.FAILED


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
