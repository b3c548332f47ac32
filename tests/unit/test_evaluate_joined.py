"""Joined streams: order, junctions, delays."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from streamkd.bundle import StudentSpec
from streamkd.evaluate.joined import (
    Junction,
    delays,
    junctions,
    long_order,
    opening_frame,
    play,
    stream_scores,
    threshold_for,
)


class CountingEngine:
    """Says how many frames it has seen since its state was made."""

    spec = StudentSpec(
        version="counting",
        input_size=2,
        rate_hz=5.0,
        classes=("normal", "fight"),
        embedding_shape=(1, 1, 1),
        warmup_frames=1,
        state=(),
    )

    def init_state(self):
        return {"n": np.zeros(1)}

    def step(self, frames, states):
        after = [{"n": state["n"] + 1} for state in states]
        rows = np.stack([np.array([0.0, float(state["n"][0])], np.float32) for state in after])
        return SimpleNamespace(action=rows, forecast=rows[:, None]), after


def test_a_long_stream_plays_every_clip_before_any_comes_again():
    order = long_order([10, 10, 10], 5.0, np.random.default_rng(0), at_least_s=10.0)
    assert [sorted(order[i : i + 3]) for i in range(0, len(order), 3)] == [[0, 1, 2]] * 2


def test_a_long_stream_is_as_long_as_asked():
    order = long_order([7, 9], 5.0, np.random.default_rng(0), at_least_s=600.0)
    assert sum([7, 9][i] for i in order) >= 3000


def test_a_stream_is_never_reset():
    clips = [np.zeros((3, 2, 2, 3), np.uint8), np.zeros((2, 2, 2, 3), np.uint8)]
    assert [one.action[:, 1].tolist() for one in play(CountingEngine(), clips)] == [[1, 2, 3], [4, 5]]


def test_the_frames_after_a_cut_do_not_count():
    assert stream_scores([np.array([[0.0], [0.0], [0.4], [0.6]])], 2).tolist() == [[0.5]]


def test_junctions_stay_within_a_source_and_begin_with_normal_footage():
    positive = [True, False, False, True, True]
    sources = ["a", "a", "b", "b", "c"]
    plan = junctions(positive, sources, np.random.default_rng(0))
    assert {one.clips for one in plan} == {(1, 0), (2, 3)}
    assert all(one.positive for one in plan)


def test_normal_clips_of_one_source_make_the_negatives():
    plan = junctions([False, False, False], ["a"] * 3, np.random.default_rng(0))
    assert len(plan) == 3
    assert all(not one.positive and len(set(one.clips)) == 3 for one in plan)


def test_an_event_opens_on_the_last_frame_of_the_run():
    assert opening_frame(np.array([0.1, 0.9, 0.9, 0.1]), 0.5, smooth_frames=1, min_frames=2) == 2


def test_no_event_opens_below_the_threshold():
    assert opening_frame(np.full(9, 0.4), 0.5, smooth_frames=1, min_frames=1) is None


def test_delays_count_misses_as_longer_than_any():
    plan = [Junction((0, 1), positive=True)] * 3 + [Junction((0, 2), positive=False)]
    rises = np.array([0.0, 0.0, 0.9, 0.9, 0.9])
    probs = [rises, rises, np.zeros(5), np.zeros(5)]
    found = delays(plan, probs, [2] * 4, [0.5] * 4, rate_hz=5.0, smooth_frames=1, min_frames=2)
    assert (found.junctions, found.detected, found.negatives, found.false_events) == (3, 2, 1, 0)
    assert found.median_s == pytest.approx(0.4)


def test_no_median_where_most_are_missed():
    plan = [Junction((0, 1), positive=True)]
    found = delays(plan, [np.zeros(5)], [2], [0.5], rate_hz=5.0, smooth_frames=1, min_frames=1)
    assert found.median_s is None


def test_what_lies_before_the_junction_does_not_shorten_a_delay():
    plan = [Junction((0, 1), positive=True)]
    found = delays(plan, [np.ones(5)], [2], [0.5], rate_hz=5.0, smooth_frames=1, min_frames=3)
    assert found.median_s == pytest.approx(0.6)


def test_a_threshold_lets_a_share_of_normal_clips_through():
    scores = np.linspace(0.0, 0.9, 10)
    threshold = threshold_for(scores, 0.1)
    assert (scores >= threshold).sum() <= 1
    assert math.isclose(threshold, 0.9)
