"""Which frames of a live connection are too old to be analysed."""

from __future__ import annotations

import pytest

from streamkd.media.freshness import LOOSE_DRIFT, FreshnessGate, LaggingError, when_settled
from streamkd.media.source import Arrival, DecodedFrame
from streamkd.types import FailureReason

STEP_S = 0.1


def frame(pts_s, arrived_s, waited_s=STEP_S):
    return DecodedFrame(None, pts_s, arrived_s, waited_s, 1.0)


def deliver(gate, frames):
    """PTS of what the gate lets through of frames, each of them a picture that is decoded by itself."""
    pictures = (Arrival(f, f.raw_pts_s, 1, False, f.arrived_s, f.waited_s) for f in frames)
    return [given.raw_pts_s for one in when_settled(pictures, gate) for given in gate.push(one.packet)]


def on_time(first, count, origin_s=1000.0):
    return [frame(k * STEP_S, origin_s + k * STEP_S) for k in range(first, first + count)]


def settled(max_age_s=0.5, **settings):
    gate = FreshnessGate(max_age_s, interval_s=STEP_S, **settings)
    deliver(gate, on_time(0, 10))
    return gate


def test_a_steady_camera_loses_nothing():
    gate = FreshnessGate(0.5, interval_s=STEP_S)
    assert len(deliver(gate, on_time(0, 100))) == 100
    assert gate.stale == 0


def test_a_backlog_is_dropped_until_it_has_caught_up():
    gate = settled()
    # 20 s of silence, then everything at once, then live again
    backlog = [frame(k * STEP_S, 1021.0, 0.0) for k in range(10, 210)]
    given = deliver(gate, [*backlog, *on_time(210, 10)])
    assert given[0] == pytest.approx(20.5)
    assert gate.stale == 195


def test_a_backlog_at_the_beginning_is_dropped_too():
    gate = FreshnessGate(0.5, interval_s=STEP_S)
    lying_ready = [frame(k * STEP_S, 1002.0, 0.0) for k in range(20)]
    given = deliver(gate, [*lying_ready, *on_time(21, 5)])
    assert min(given) >= 1.4
    assert gate.stale + len(given) == 25


@pytest.mark.parametrize(("lay_ready", "first_given"), [(8, 0.3), (3, None)])
def test_a_first_picture_without_a_time_is_older_than_the_one_after_it(lay_ready, first_given):
    gate = FreshnessGate(0.45, interval_s=STEP_S)
    ready_s = 1000.0 + (lay_ready - 1) * STEP_S
    lying_ready = [frame(k * STEP_S if k else None, ready_s, 0.0) for k in range(lay_ready)]
    given = deliver(gate, [*lying_ready, *on_time(lay_ready, 5)])
    assert given[0] == (first_given and pytest.approx(first_given))


def test_pictures_wait_for_the_first_that_reading_waited_for_and_not_more_than_a_few_of_them():
    gate = FreshnessGate(0.5, interval_s=STEP_S)
    lying_ready = [Arrival(None, k * STEP_S, 1, False, 1000.0, 0.0) for k in range(20)]
    given = when_settled([*lying_ready, Arrival(None, 2.0, 1, False, 1000.1, STEP_S)], gate)
    first = [next(given).pts_s for _ in range(4)]
    assert first == pytest.approx([0.0, 0.1, 0.2, 0.3])  # the oldest of 20
    assert not gate.settled
    assert len(list(given)) == 17
    assert gate.settled


def test_what_comes_without_a_pause_waits_a_second_at_most():
    gate = FreshnessGate(0.5, interval_s=STEP_S)
    without_a_pause = (Arrival(None, k * STEP_S, 1, False, 1000.0 + k * STEP_S, 0.0) for k in range(12))
    assert next(when_settled(without_a_pause, gate)).arrived_s == 1000.0
    assert gate.settled
    assert next(without_a_pause).arrived_s == pytest.approx(1001.1)


def test_a_short_backlog_at_the_beginning_is_kept():
    gate = FreshnessGate(0.5, interval_s=STEP_S)
    given = deliver(gate, [frame(k * STEP_S, 1000.3, 0.0) for k in range(3)] + on_time(4, 5))
    assert len(given) == 8


def test_a_single_late_frame_is_dropped_alone():
    gate = settled()
    given = deliver(gate, [frame(1.0, 1001.7), *on_time(18, 3)])
    assert given == pytest.approx([1.8, 1.9, 2.0])


def test_a_clock_that_drifts_like_a_quartz_is_tolerated_for_ever():
    gate = settled()
    slow = [frame(k * 10.0, 1000 + k * 10.0 * (1 + 2e-4)) for k in range(1, 5000)]
    assert len(deliver(gate, slow)) == 4999


def test_a_clock_that_was_set_back_is_learnt_anew():
    gate = settled()
    back = [frame(-500 + k * STEP_S, 1001 + k * STEP_S) for k in range(10)]
    assert len(deliver(gate, back)) == 10


def test_frames_that_stay_late_end_the_connection():
    gate = settled()
    with pytest.raises(LaggingError) as caught:
        deliver(gate, [frame(1 + k * STEP_S, 1004 + k * STEP_S) for k in range(100)])
    assert caught.value.reason is FailureReason.TIMEOUT
    assert gate.stale > 40


def test_a_camera_that_counts_frames_instead_of_time_can_be_tolerated():
    gate = settled(drift=LOOSE_DRIFT)
    slow = [frame(k * STEP_S, 1000 + k * STEP_S * 1.03) for k in range(10, 3000)]
    assert len(deliver(gate, slow)) == 2990


def test_frames_without_a_time_follow_their_neighbours():
    gate = settled()
    assert len(gate.push(frame(None, 1001.0))) == 1


def test_what_a_frame_is_late_by_belongs_to_its_age():
    gate = settled()
    (late,) = gate.push(frame(1.0, 1001.3))
    assert late.arrived_s == pytest.approx(1001.0, abs=0.01)
