"""The engine loop: what is dropped for coming too late, how pressure is told, how long a batch gathers."""

from __future__ import annotations

import time

import numpy as np
import pytest

from streamkd.clock import SystemClock
from streamkd.media.mailbox import MailboxSet
from streamkd.types import DropReason, Frame, FrameResult
from streamkd_service.runtime import engine_loop
from streamkd_service.runtime.engine_loop import EngineLoop, gather_s
from streamkd_service.runtime.outbox import Outbox

NOTHING = np.zeros((1, 1, 3), np.uint8)


class Pipeline:
    """Answers every frame in one run, but those of `slow`, which take as many as it says."""

    def __init__(self, full_batch=None, **slow):
        self.full_batch = full_batch
        self.slow = slow
        self.batches = []  # cameras of each run
        self.began_s = []
        self.in_work = {}  # camera: frame, runs that it still takes

    def begin(self, frames):
        assert self.in_work.keys().isdisjoint(frame.camera_id for frame in frames)
        self.in_work.update({frame.camera_id: (frame, self.slow.get(frame.camera_id, 1)) for frame in frames})

    def advance(self):
        self.began_s.append(time.monotonic())
        self.batches.append(list(self.in_work))
        done = [frame for frame, runs in self.in_work.values() if runs == 1]
        self.in_work = {name: (frame, runs - 1) for name, (frame, runs) in self.in_work.items() if runs > 1}
        return [(frame, answer(frame)) for frame in done]


def answer(frame):
    return FrameResult(
        camera_id=frame.camera_id,
        segment=frame.segment,
        pts_s=frame.pts_s,
        warming=False,
        scores={},
        action="",
        action_score=0.0,
        forecast=(),
        anomaly_score=None,
        model_version="v",
        repeated=frame.same_as_s is not None,
    )


@pytest.fixture
def loop():
    made = EngineLoop(MailboxSet(), Outbox(), SystemClock())
    made.pipeline = Pipeline()
    made.start()
    yield made
    made.stop()


def give(loop, age_s, *, camera_id="cam", **kind):
    """Leave a frame that arrived a while ago; returns once the loop has seen it."""
    before = seen(loop, camera_id)
    received_s = time.monotonic() - age_s
    loop._mailboxes.put(Frame(camera_id, 0, received_s, received_s, NOTHING, NOTHING[..., 0], **kind))
    end_s = time.monotonic() + 5.0
    while seen(loop, camera_id) == before:
        assert time.monotonic() < end_s
        time.sleep(0.005)


def seen(loop, camera_id):
    answers = loop.answers.get(camera_id)
    return (0, 0) if answers is None else (answers.analysed, answers.dropped.get(DropReason.STALE, 0))


def test_an_answer_that_was_given_again_is_counted_as_one(loop):
    give(loop, 0.1)
    give(loop, 0.0, same_as_s=1.0)
    assert (loop.answers["cam"].analysed, loop.answers["cam"].repeated) == (2, 1)


def test_what_comes_too_late_is_dropped(loop):
    give(loop, 0.0)
    give(loop, 0.6)
    assert seen(loop, "cam") == (1, 1)


def test_a_late_frame_is_better_than_seconds_without_an_answer(loop):
    give(loop, 2.5)
    give(loop, 0.9)  # arrived 1.6 s after the last one that was analysed
    assert seen(loop, "cam") == (2, 0)
    give(loop, 0.6)  # 0.3 s after
    assert seen(loop, "cam") == (2, 1)


def test_what_is_caught_up_on_is_old_by_its_nature(loop):
    give(loop, 0.0)
    give(loop, 3.0, caught_up=True)
    assert seen(loop, "cam") == (2, 0)


def test_pressure_is_the_latency_as_a_share_of_what_a_frame_may_be_late(loop):
    give(loop, 0.4)
    now_s = time.monotonic()
    assert loop.latency_p95_s(now_s) == pytest.approx(0.4, abs=0.15)
    assert loop.pressure(now_s) <= 0.5  # the loop and the machine have room
    loop.machine_load = 0.9
    assert loop.pressure(now_s) == pytest.approx(0.8, abs=0.3)
    assert loop.pressure(now_s + 10.0) == 0.0


def test_lost_frames_are_pressure_unless_there_is_room(loop):
    now_s = time.monotonic()
    assert loop.pressure(now_s, 2.0) == 0.5
    loop.machine_load = 0.9
    assert loop.pressure(now_s, 2.0) == 2.0


@pytest.fixture
def crowd():
    """A loop whose batches hold four, and gather for as long as they may; not started."""
    made = EngineLoop(MailboxSet(), Outbox(), SystemClock())
    made.pipeline, made.machine_load = Pipeline(full_batch=4), 1.0
    made.max_frame_age_s = 60.0
    yield made
    made.stop()


def leave(loop, camera_ids, **kind):
    for camera_id in camera_ids:
        now_s = time.monotonic()
        loop._mailboxes.put(Frame(camera_id, 0, now_s, now_s, NOTHING, NOTHING[..., 0], **kind))


def wait_for_batches(loop, count):
    end_s = time.monotonic() + 5.0
    while len(loop.pipeline.batches) < count:
        assert time.monotonic() < end_s
        time.sleep(0.005)


def test_a_batch_is_no_larger_than_what_is_run_at_once_and_the_oldest_are_first(crowd):
    leave(crowd, "abcdef")
    crowd.start()
    wait_for_batches(crowd, 2)
    assert crowd.pipeline.batches == [["a", "b", "c", "d"], ["e", "f"]]


def test_a_full_batch_does_not_gather_any_longer(crowd, monkeypatch):
    monkeypatch.setattr(engine_loop, "_LONG_GATHER_S", 60.0)
    leave(crowd, "abc")
    crowd.start()
    time.sleep(0.1)
    assert crowd.pipeline.batches == []
    leave(crowd, "d")
    wait_for_batches(crowd, 1)
    assert crowd.pipeline.batches == [["a", "b", "c", "d"]]


def test_a_command_does_not_cut_a_batch_short(crowd, monkeypatch):
    monkeypatch.setattr(engine_loop, "_LONG_GATHER_S", 60.0)
    leave(crowd, "abc")
    crowd.start()
    time.sleep(0.1)
    crowd.submit(lambda: None)
    time.sleep(0.1)
    leave(crowd, "d")
    wait_for_batches(crowd, 1)
    assert crowd.pipeline.batches == [["a", "b", "c", "d"]]


def test_frames_that_show_nothing_new_take_no_place_in_a_batch(crowd):
    leave(crowd, "xyz", same_as_s=1.0)
    leave(crowd, "abcde")
    crowd.start()
    wait_for_batches(crowd, 2)
    assert crowd.pipeline.batches == [["x", "y", "z", "a", "b", "c", "d"], ["e"]]


def test_where_there_is_room_a_frame_that_takes_more_runs_has_them_at_once(crowd):
    crowd.pipeline, crowd.machine_load = Pipeline(4, b=3), 0.0
    leave(crowd, "ab")
    crowd.start()
    wait_for_batches(crowd, 3)
    leave(crowd, "c")
    wait_for_batches(crowd, 4)
    assert crowd.pipeline.batches == [["a", "b"], ["b"], ["b"], ["c"]]


def test_where_there_is_none_it_shares_those_of_the_frames_after_it(crowd, monkeypatch):
    monkeypatch.setattr(engine_loop, "_LONG_GATHER_S", 60.0)
    crowd.pipeline = Pipeline(4, b=3)
    leave(crowd, "abcdef")
    crowd.start()
    wait_for_batches(crowd, 1)
    leave(crowd, "b")  # its next one, which has to wait
    leave(crowd, "gh")
    wait_for_batches(crowd, 2)
    leave(crowd, "ij")
    wait_for_batches(crowd, 3)
    leave(crowd, "klm")
    wait_for_batches(crowd, 4)
    assert ["".join(sorted(run)) for run in crowd.pipeline.batches] == ["abcd", "befg", "bhij", "bklm"]


def test_a_batch_that_is_not_full_is_finished_at_once_however_busy_the_machine(crowd, monkeypatch):
    monkeypatch.setattr(engine_loop, "_LONG_GATHER_S", 1.0)
    crowd.pipeline = Pipeline(4, b=4)
    leave(crowd, "ab")
    crowd.start()
    wait_for_batches(crowd, 4)
    first_s, *others_s = crowd.pipeline.began_s
    assert crowd.pipeline.batches == [["a", "b"], ["b"], ["b"], ["b"]]
    assert others_s[-1] - first_s < 1.0  # not even one gathering


@pytest.fixture
def half_seen(crowd):
    """A loop that has run one of the nine runs that b's frame takes."""
    crowd.pipeline = Pipeline(2, b=9)
    leave(crowd, "ab")
    crowd.start()
    wait_for_batches(crowd, 1)
    return crowd


def test_a_command_finds_no_frame_half_seen(half_seen):
    assert list(half_seen.submit(lambda: half_seen.pipeline.in_work).result(5.0)) == []
    assert [seen(half_seen, name) for name in "ab"] == [(1, 0)] * 2


def test_a_pipeline_that_fails_ends_the_loop_and_says_why(half_seen, monkeypatch):
    monkeypatch.setattr(half_seen.pipeline, "advance", lambda: 1 / 0)
    leave(half_seen, "c")
    half_seen.submit(lambda: None)
    end_s = time.monotonic() + 5.0
    while half_seen.failure is None:
        assert time.monotonic() < end_s
        time.sleep(0.005)
    assert isinstance(half_seen.failure, ZeroDivisionError)


def test_the_end_leaves_no_frame_half_seen(half_seen):
    half_seen.stop()
    assert seen(half_seen, "b") == (1, 0)


@pytest.mark.parametrize(("load", "machine", "expected_s"), [(0, 0, 0.01), (1, 0, 0.09), (0, 1, 0.09), (0.5, 0, 0.05)])
def test_batches_gather_longer_where_there_is_no_room(load, machine, expected_s):
    assert gather_s(load, machine) == pytest.approx(expected_s)
