"""A recording says the same whether it comes from a live camera or is replayed from its file."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from pydantic import SecretStr

from streamkd.config import CameraConfig, EventsConfig, StudentConfig
from streamkd.engine import open_engine
from streamkd.replay import analyse_frames, collect, frames_of
from streamkd.shipped import SHIPPED_STUDENT
from streamkd.types import FrameResult
from streamkd_service.runtime.ports import Assignment, ReportReply, WorkerReport
from streamkd_service.runtime.worker import Worker
from tests.processes import RtspServer, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
SAME_PTS_S = 2e-3  # RTP counts in 90 kHz, the file in its own time base
FRAMES = 50


def live_results(camera: CameraConfig, version: str) -> list[FrameResult]:
    """What a worker says about the first frames of a camera."""
    results: list[FrameResult] = []
    assignment = Assignment(
        revision=1,
        cameras=(camera,),
        student=StudentConfig(max_frame_age_s=5.0),  # a slow machine may lag, it must not drop
        events=EventsConfig(),
        model_version=version,
        bundle_path=str(SHIPPED_STUDENT),
    )
    enough = threading.Event()

    def collect(_frames, batch) -> None:
        results.extend(batch)
        if len(results) >= FRAMES:
            enough.set()

    def answer(report: WorkerReport) -> ReportReply:
        return ReportReply(accepted=True, assignment=None if report.assignment_revision == 1 else assignment)

    worker = Worker("worker-0", answer, on_results=collect)
    worker.start()
    try:
        wait_for(enough.is_set, timeout_s=60.0, why=f"{FRAMES} frames are analysed")
    finally:
        worker.stop()
    return results


@pytest.fixture(scope="module")
def pairs(rtsp: RtspServer, recording: Path) -> list[tuple[FrameResult, FrameResult]]:
    """(live, replayed) for the frames that the live path has analysed: while it connects it drops some."""
    engine = open_engine(SHIPPED_STUDENT)
    camera = CameraConfig(id="gate", url=SecretStr(rtsp.url("gate")), skip_still=False)
    live = [result for result in live_results(camera, engine.version) if result.segment == 0]
    times = iter([result.pts_s for result in live])
    frames, wanted_s = [], next(times)
    for frame in frames_of(recording, engine, camera.id):
        if abs(frame.pts_s - wanted_s) <= SAME_PTS_S:
            frames.append(frame)
            wanted_s = next(times, float("inf"))
        if frame.pts_s > live[-1].pts_s + SAME_PTS_S:
            break
    replayed = collect(analyse_frames(frames, engine, camera, EventsConfig())).results
    assert len(replayed) == len(live) >= FRAMES // 2
    return list(zip(live, replayed, strict=True))


def test_scores_agree(pairs):
    assert max(abs(one.scores["fight"] - other.scores["fight"]) for one, other in pairs) < 1e-3


def test_smoothed_scores_agree(pairs):
    assert max(abs(one.action_score - other.action_score) for one, other in pairs) < 1e-3


def test_warm_up_agrees(pairs):
    assert [one.warming for one, _ in pairs] == [other.warming for _, other in pairs]


def test_events_agree(pairs):
    told = [
        [(update.label, round(update.start_pts_s, 2), update.is_open) for update in result.updates]
        for pair in pairs
        for result in pair
    ]
    assert told[::2] == told[1::2]
