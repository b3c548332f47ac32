"""The figures of the table of goals, on cases small enough to work out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkd.evaluate.goals import (
    alarm_score,
    auc_estimate,
    gap_closed,
    paired_gain,
    recall_at_zero_false_alarms,
    seed_auc,
)
from streamkd.evaluate.metrics import roc_auc

POSITIVE = np.array([True, True, False, False])
SOURCES = ["a", "b", "a", "b"]


def test_the_auc_of_several_seeds_is_the_mean_of_theirs():
    scores = np.array([[0.9, 0.8, 0.2, 0.1], [0.9, 0.2, 0.5, 0.1]])
    assert seed_auc(scores, POSITIVE) == pytest.approx((1.0 + 0.75) / 2)


@given(st.integers(0, 2**32 - 1))
def test_the_auc_is_the_library_s_ties_included(seed):
    rng = np.random.default_rng(seed)
    scores, positive = rng.integers(0, 5, 30) / 5, np.arange(30) % 3 == 0
    assert seed_auc(scores, positive) == pytest.approx(roc_auc(scores, positive))


def test_no_auc_with_one_class():
    assert seed_auc(np.zeros((1, 2)), np.array([True, True])) is None


def test_an_interval_holds_its_figure():
    scores = np.random.default_rng(0).random((2, 40))
    positive = np.arange(40) % 2 == 0
    found = auc_estimate(scores, positive, [str(i % 8) for i in range(40)], rounds=200)
    assert found.low <= found.value <= found.high


def test_a_student_gains_nothing_over_itself():
    scores = np.random.default_rng(1).random((1, 40))
    positive = np.arange(40) % 2 == 0
    found = paired_gain(scores, scores, positive, [str(i % 8) for i in range(40)], rounds=50)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_a_gain_in_every_source_has_its_interval_above_zero():
    good, bad = np.array([[0.9, 0.8, 0.2, 0.1]]), np.array([[0.1, 0.2, 0.8, 0.9]])
    found = paired_gain(good, bad, POSITIVE, SOURCES, rounds=50)
    assert found.value == pytest.approx(1.0)
    assert found.low > 0


@pytest.mark.parametrize(
    ("student", "alone", "teacher", "share"),
    [(0.89, 0.86, 0.92, 0.5), (0.92, 0.86, 0.92, 1.0), (0.85, 0.86, 0.92, -1 / 6), (0.90, 0.88, 0.92, None)],
)
def test_the_share_of_the_gap_that_is_closed(student, alone, teacher, share):
    found = gap_closed(student, alone, teacher)
    assert found is None if share is None else found == pytest.approx(share)


def test_recall_where_no_normal_clip_raises_an_alarm():
    found = recall_at_zero_false_alarms(
        np.array([0.9, 0.5, 0.6, 0.2]), np.array([True, True, False, False]), normal_s=3600.0
    )
    assert (found.recall, found.threshold, found.alarms_per_hour_bound) == (0.5, 0.6, 3.0)


def test_a_tie_with_a_normal_clip_is_not_caught():
    assert recall_at_zero_false_alarms(np.array([0.6, 0.6]), np.array([True, False]), 1.0).recall == 0.0


def test_an_alarm_needs_several_frames_in_a_row_after_warm_up():
    probs = np.array([0.99, 0.99, 0.3, 0.7, 0.8, 0.2])
    assert alarm_score(probs, smooth_frames=1, min_frames=2, warmup_frames=2) == pytest.approx(0.7)


def test_a_clip_that_is_too_short_raises_no_alarm():
    assert alarm_score(np.ones(3), smooth_frames=1, min_frames=3, warmup_frames=2) == 0.0


@given(st.lists(st.floats(0, 1), min_size=6, max_size=20))
def test_an_alarm_score_never_exceeds_the_highest_probability(values):
    found = alarm_score(np.array(values), smooth_frames=3, min_frames=2, warmup_frames=1)
    assert 0.0 <= found <= max(values) + 1e-12
