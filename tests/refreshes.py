"""A refresh over a real store, real bundles and the real gate; only cameras and torch are played."""

from __future__ import annotations

import asyncio
import importlib
from types import SimpleNamespace

import numpy as np

from streamkd.bundle import file_sha256
from streamkd.clock import SystemClock
from streamkd.config import CameraConfig, Config
from streamkd.distill.labels import ClipLabels, MemberLabels, write_labels
from streamkd.errors import UnavailableError
from streamkd.refresh.harvest import Harvester, HarvestPlan
from streamkd.store import open_repository, upgrade
from streamkd.store.records import CameraOrigin, ModelRecord
from streamkd.types import CameraState, CameraStatus, FrameResult
from streamkd_service.runtime.ports import CameraView, RefreshRequest
from streamkd_service.runtime.refresh_runner import RefreshRunner
from tests.fakes import GREY, RED, make_frame, make_tiny_bundle

RATE_HZ = 5.0
TIMID, RIGHT, BLIND = -3.0, 0.0, -20.0


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


async def ended(runner):
    if runner._task is not None:
        await asyncio.gather(runner._task, return_exceptions=True)


async def refresh(host, **request):
    runner = RefreshRunner(host)
    record = await runner.start(RefreshRequest(**request))
    await ended(runner)
    return host.repository.get_refresh(record.id)


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


async def recovered(host, record):
    """The refresh as another runner ends it, and the jobs that this took."""
    done = len(host.jobs.entries)
    runner = RefreshRunner(host)
    await runner.recover()
    await ended(runner)
    return host.repository.get_refresh(record.id), host.jobs.entries[done:]


__all__ = ["BLIND", "RATE_HZ", "RIGHT", "TIMID", "Host", "Jobs", "ended", "interrupt_at", "refresh"]
