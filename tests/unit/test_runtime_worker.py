"""A worker without Ray, and its model loader: what they do when they are asked twice."""

from __future__ import annotations

import threading
import time

import pytest

from streamkd.clock import FakeClock, SystemClock
from streamkd.config import StudentConfig
from streamkd.errors import UnavailableError
from streamkd_service.runtime.student_loader import StudentLoader
from streamkd_service.runtime.worker import Worker
from tests.fakes import make_tiny_bundle, tiny_spec


def refuse(_report):
    raise UnavailableError("nobody is there")


def until(condition, within_s=20.0):
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@pytest.fixture
def worker():
    found = Worker("worker-0", refuse)
    found._readers.spec = tiny_spec()
    return found


def test_without_a_model_there_is_nothing_to_harvest(tmp_path):
    with pytest.raises(UnavailableError, match="no model yet"):
        Worker("worker-0", refuse).harvest(0.0, 2.0, 4, tmp_path / "clips")


def test_a_second_harvest_ends_the_first(worker, tmp_path):
    first = threading.Thread(target=worker.harvest, args=(600.0, 2.0, 4, tmp_path / "clips"), daemon=True)
    first.start()
    until(lambda: worker._taps)
    worker.harvest(0.0, 2.0, 4, tmp_path / "clips")
    first.join(10.0)
    assert not first.is_alive()


def test_a_model_that_is_wanted_no_more_does_not_stay_in_memory(tmp_path):
    paths = {version: make_tiny_bundle(tmp_path / version, version=version) for version in ("one", "two")}
    loader = StudentLoader(SystemClock())
    loader.want("one", paths["one"], StudentConfig())
    until(lambda: loader.take() is not None)

    def loaded_two():  # asked for again and again, as the worker does: the thread that has loaded "one" may still end
        loader.want("two", paths["two"], StudentConfig())
        return loader._loaded is not None

    until(loaded_two)
    loader.want("one", paths["one"], StudentConfig())
    assert loader._loaded is None


def test_a_damaged_model_is_tried_again_only_after_a_while(tmp_path):
    clock = FakeClock()
    loader = StudentLoader(clock)
    loader.want("one", tmp_path / "gone", StudentConfig())
    until(lambda: not loader._thread.is_alive())
    make_tiny_bundle(tmp_path / "gone", version="one")
    loader.want("one", tmp_path / "gone", StudentConfig())
    tried_at_once = loader._thread.is_alive() or loader._loaded is not None
    clock.advance(31.0)
    loader.want("one", tmp_path / "gone", StudentConfig())
    until(lambda: loader.take() is not None)
    assert not tried_at_once
