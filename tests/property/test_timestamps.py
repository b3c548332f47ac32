"""Whatever a camera says about time, repaired PTS rise strictly within a segment and begin at 0."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkd.media.timestamps import WRAPS_S, TimestampRepair

RAW = st.one_of(st.none(), st.floats(min_value=-1e6, max_value=1e6, allow_nan=False))
STEADY = st.floats(min_value=0.005, max_value=0.9)


def repaired(raw, **settings):
    repair = TimestampRepair(**settings)
    return [repair.repair(value) for value in raw]


@given(st.lists(RAW, min_size=1, max_size=200))
def test_pts_rise_strictly_within_a_segment(raw):
    stamps = repaired(raw)
    assert all(b.pts_s > a.pts_s for a, b in pairwise(stamps) if a.segment == b.segment)


@given(st.lists(RAW, min_size=1, max_size=200))
def test_segments_rise_by_one_and_begin_at_zero(raw):
    stamps = repaired(raw)
    assert stamps[0].segment == 0
    assert all(b.segment - a.segment in {0, 1} for a, b in pairwise(stamps))
    assert all(b.pts_s == 0 for a, b in pairwise([None, *stamps]) if a is None or a.segment != b.segment)


@given(st.floats(min_value=-1e5, max_value=1e5), st.lists(STEADY, max_size=100))
def test_a_steady_camera_keeps_its_own_differences(start, steps):
    raw = [start]
    for step in steps:
        raw.append(raw[-1] + step)
    stamps = repaired(raw)
    assert [s.segment for s in stamps] == [0] * len(raw)
    assert [s.pts_s for s in stamps] == pytest.approx([value - start for value in raw], abs=1e-6)


@given(st.lists(STEADY, min_size=1, max_size=50), st.floats(min_value=0.001, max_value=0.4), st.sampled_from(WRAPS_S))
def test_a_counter_that_wraps_goes_on(steps, step_over, wrap_s):
    raw = [wrap_s - sum(steps)]
    for step in steps:
        raw.append(raw[-1] + step)
    over = [raw[-1] + step_over - wrap_s, raw[-1] + step_over - wrap_s + 0.1]
    stamps = repaired(raw + over)
    assert {s.segment for s in stamps} == {0}
    assert stamps[-1].pts_s == pytest.approx(sum(steps) + step_over + 0.1, abs=1e-4)


@given(st.integers(min_value=1, max_value=30), st.floats(min_value=0.02, max_value=0.2))
def test_missing_times_are_filled_in_between(missing, interval):
    raw = [k * interval for k in range(20)]
    stamps = repaired(raw + [None] * missing + [(20 + missing) * interval], interval_s=interval)
    assert {s.segment for s in stamps} == {0}
    assert stamps[-1].pts_s == pytest.approx((20 + missing) * interval, abs=1e-6)


def test_a_first_frame_without_time_lies_one_interval_before_the_second():
    stamps = repaired([None, 1234.5, 1234.6], interval_s=0.1)
    assert [s.segment for s in stamps] == [0, 0, 0]
    assert [s.pts_s for s in stamps] == pytest.approx([0.0, 0.1, 0.2])


def test_rtsp_first_frame_without_time_keeps_the_grid():
    assert [s.pts_s for s in repaired([None, 1 / 15, 2 / 15])] == pytest.approx([0, 1 / 15, 2 / 15])


def test_a_repeated_time_moves_on_by_a_millisecond_and_does_not_shift_what_follows():
    assert [s.pts_s for s in repaired([0, 0.04, 0.04, 0.08])] == pytest.approx([0, 0.04, 0.041, 0.08])


def test_a_gap_begins_a_segment():
    assert [s.segment for s in repaired([0, 0.04, 2.0, 2.04])] == [0, 0, 1, 1]


def test_a_jump_back_begins_a_segment():
    assert [s.segment for s in repaired([10, 10.04, 3, 3.04])] == [0, 0, 1, 1]


def test_a_slow_camera_has_no_gaps():
    assert {s.segment for s in repaired([4.0 * k for k in range(10)], interval_s=4.0)} == {0}


def test_restart_begins_a_segment_but_not_before_the_first_frame():
    repair = TimestampRepair(first_segment=7)
    repair.restart()
    first = repair.repair(5.0)
    repair.restart()
    assert (first.segment, repair.repair(5.04).segment) == (7, 8)
