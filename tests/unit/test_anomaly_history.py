"""What cameras usually look like outlives the worker that learnt it, for a day."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkd.anomaly.history import KEEP, SAVE_EVERY_S, HistoryFolder
from streamkd.anomaly.threshold import BLOCK_S, BlockThreshold
from streamkd.clock import FakeClock, SystemClock
from streamkd.config import CameraConfig, EventsConfig
from streamkd.pipeline import Pipeline
from streamkd_service.runtime.ports import Assignment
from streamkd_service.runtime.worker import Worker
from tests.fakes import FakeEngine

HISTORY = np.linspace(1.0, 9.0, 40, dtype=np.float32)


def camera(url="rtsp://viewer:secret@host/1", name="gate") -> CameraConfig:
    return CameraConfig(id=name, url=url)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def folder(tmp_path, clock):
    return HistoryFolder(tmp_path / "history", clock)


def test_a_history_comes_back_as_it_was(folder):
    folder.write(camera(), HISTORY)
    assert folder.read(camera()).tolist() == HISTORY.tolist()


def test_a_camera_with_another_address_has_no_history(folder):
    folder.write(camera(), HISTORY)
    assert folder.read(camera("rtsp://viewer:secret@host/2")) is None


def test_another_password_is_no_other_camera_and_stands_in_no_file(folder, tmp_path):
    folder.write(camera(), HISTORY)
    assert folder.read(camera("rtsp://viewer:changed@host/1")) is not None
    assert all(b"secret" not in path.read_bytes() for path in tmp_path.rglob("*.npz"))


def test_a_history_of_the_day_before_yesterday_is_none(folder, clock):
    folder.write(camera(), HISTORY)
    clock.advance(KEEP.total_seconds() + 1)
    assert folder.read(camera()) is None


@pytest.mark.parametrize("content", [b"", b"no numbers", None])
def test_a_file_that_can_not_be_read_is_no_history(folder, tmp_path, content):
    if content is not None:
        (tmp_path / "history").mkdir()
        (tmp_path / "history" / "gate.npz").write_bytes(content)
    assert folder.read(camera()) is None


def test_files_of_cameras_that_are_no_more_are_swept(tmp_path):
    old, new = tmp_path / "old.npz", tmp_path / "new.npz"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    HistoryFolder(tmp_path, SystemClock())
    assert [path.name for path in tmp_path.iterdir()] == ["new.npz"]


def test_a_history_is_due_about_once_a_minute(folder, clock):
    due = [folder.due(camera())]
    clock.advance(SAVE_EVERY_S)
    due.append(folder.due(camera()))
    folder.write(camera(), HISTORY)
    assert [*due, folder.due(camera())] == [False, True, False]


@given(st.lists(st.floats(0.0, 255.0, width=32), min_size=1, max_size=60), st.floats(1.0, 5000.0))
def test_a_restored_threshold_is_the_one_before(scores, aim_per_day):
    before, after = BlockThreshold(20.0, aim_per_day), BlockThreshold(20.0, aim_per_day)
    for index, score in enumerate(scores):
        before.learn(score, index * BLOCK_S)
    after.restore(before.history())
    assert (after.value, after.certified) == (before.value, before.certified)


def test_what_a_camera_has_learnt_outlives_its_worker(folder, clock):
    workers = [Worker(f"worker-{index}", lambda report: None, clock=clock) for index in range(2)]
    for worker in workers:
        worker._histories = folder
        worker._loop.pipeline = Pipeline(FakeEngine(), EventsConfig(), clock)
        worker._loop.start()
    first, second = workers
    first._loop.pipeline.add_camera(camera(), HISTORY)
    first._readers.configs = lambda: [camera()]
    first._keep_history()
    clock.advance(SAVE_EVERY_S)
    first._keep_history()
    second._change_pipeline((), [camera()], ())
    assert second._loop.pipeline.history("gate").tolist() == HISTORY.tolist()
    for worker in workers:
        worker._loop.stop()


def test_an_assignment_without_a_place_keeps_nothing():
    assert Assignment(1, (), None, None, "v", "b").history_dir == ""
