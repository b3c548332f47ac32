"""The sampler keeps its rate, skips what it missed, and says the same wherever the frames come from."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from streamkd.media.sampler import DUE_SLACK_S, DueGrid, Sampler

RATES = st.sampled_from([1.0, 2.5, 5.0, 6.25, 8.0])
TIMES = st.lists(st.floats(min_value=0.001, max_value=1.5), min_size=1, max_size=200)


def due_times(rate_hz, times):
    grid = DueGrid(rate_hz)
    return [at for at in times if grid.due(at)]


def rising(steps, start=0.0):
    times = [start]
    for step in steps:
        times.append(times[-1] + step)
    return times


@example(1.0, [0.99999, 1.0, 0.5])  # further from the edge than the slack: still of the slot before
@given(RATES, TIMES)
def test_at_most_one_due_frame_for_each_slot_of_the_grid(rate_hz, steps):
    times = rising(steps)
    # A slot begins its slack early; which side a frame is on that is there to the last digits is for floats to say.
    assume(all(abs((at + DUE_SLACK_S) * rate_hz - round((at + DUE_SLACK_S) * rate_hz)) > 1e-9 for at in times[1:]))
    slots = [int((at + DUE_SLACK_S) * rate_hz) for at in due_times(rate_hz, times)]
    assert len(slots) == len(set(slots))


@given(RATES, TIMES)
def test_no_slot_that_has_a_frame_is_left_out(rate_hz, steps):
    times = rising(steps)
    # A frame within the slack of a slot's edge belongs to either.
    assume(all(abs(at * rate_hz - round(at * rate_hz)) > 1e-4 for at in times[1:]))
    assert [int(at * rate_hz) for at in due_times(rate_hz, times)] == sorted({int(at * rate_hz) for at in times})


@given(RATES, TIMES)
def test_due_frames_are_in_order_and_among_the_given(rate_hz, steps):
    times = rising(steps)
    due = due_times(rate_hz, times)
    assert set(due) <= set(times)
    assert all(a < b for a, b in pairwise(due))


@pytest.mark.parametrize("fps", [10, 12.5, 15, 18, 25, 30000 / 1001, 30, 60])
def test_real_frame_rates_are_sampled_at_the_rate_asked_for(fps):
    due = due_times(5.0, [k / fps for k in range(int(60 * fps))])
    assert len(due) == pytest.approx(300, abs=1)


def test_the_grid_does_not_drift_with_a_rate_that_is_no_multiple():
    due = due_times(5.0, [k / 18 for k in range(18 * 100)])
    assert due[-1] == pytest.approx(99.8, abs=1 / 18)


def test_rounding_does_not_cost_a_slot():
    ticks = [round(k / 15 * 90_000) / 90_000 for k in range(1500)]
    assert len(due_times(5.0, ticks)) == 500


def test_a_segment_begins_with_a_due_frame():
    sampler = Sampler(5.0)
    assert [sampler.due(0, 0.0), sampler.due(0, 0.1), sampler.due(1, 0.0), sampler.due(1, 0.1)] == [True, False] * 2


def test_a_rate_must_be_positive():
    with pytest.raises(ValueError, match="rate_hz"):
        DueGrid(0.0)
