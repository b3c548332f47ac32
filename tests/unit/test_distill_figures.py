"""Metrics, calibration and thresholds on numbers that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from streamkd.evaluate.calibrate import choose_thresholds, fit_temperature, scored_frames, smoothed_peak, softmax
from streamkd.evaluate.metrics import action_metrics, bootstrap_by_source, expected_calibration_error
from streamkd.evaluate.score import clip_score, score_clip, score_clips
from streamkd.models.student import student_spec
from tests.fakes import FakeEngine, tiny_spec

SPEC = student_spec("s", ("normal", "fight"))


def test_figures_of_a_small_table():
    probs = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.8, 0.2]])
    found = action_metrics(probs, np.array([0, 0, 1, 1]), ("normal", "fight"), "normal")
    assert (found.n, found.accuracy) == (4, 0.5)
    assert (found.precision, found.recall, found.f1) == (0.5, 0.5, 0.5)
    assert found.roc_auc == pytest.approx(0.75)  # of 4 pairs, only 0.2 against 0.6 is wrong


def test_one_class_has_no_roc_auc():
    found = action_metrics(np.array([[0.9, 0.1]]), np.array([0]), ("normal", "fight"), "normal")
    assert found.roc_auc is None


def test_calibration_error_is_the_gap_of_confidence_and_accuracy():
    probs = np.array([[0.05, 0.95], [0.05, 0.95], [0.35, 0.65], [0.35, 0.65]])
    # bin of 0.95: all right, gap 0.05; bin of 0.65: half right, gap 0.15; each holds half of the clips
    assert expected_calibration_error(probs, np.array([1, 1, 1, 0])) == pytest.approx(0.1)


def test_the_bootstrap_draws_sources_whole():
    seen = []
    bootstrap_by_source(
        lambda index: seen.append(index) or 0.0, ["a", "a", "b"], rng=np.random.default_rng(0), rounds=20
    )
    assert all(np.sum(index == 0) == np.sum(index == 1) for index in seen)


def test_the_right_temperature_is_found():
    """Labels drawn from softmax(z) while the student says 3 z: the temperature is 3."""
    rng = np.random.default_rng(0)
    z = rng.normal(0, 1.5, (4000, 2))
    labels = (rng.random(4000) < softmax(z)[:, 1]).astype(int)
    found = fit_temperature([row[None] * 3.0 for row in z], labels.tolist(), 0)
    assert found == pytest.approx(3.0, rel=0.1)


def test_frames_of_the_warm_up_do_not_count():
    assert list(range(10))[scored_frames(4, 10)] == [4, 5, 6, 7, 8, 9]


def test_of_a_clip_shorter_than_the_warm_up_the_last_frame_counts():
    assert list(range(3))[scored_frames(4, 3)] == [2]


def test_a_single_high_frame_is_no_peak():
    assert smoothed_peak(np.array([0.0, 0.0, 0.9, 0.0, 0.0])) == pytest.approx(0.3)


def test_a_tenth_of_the_background_clips_may_reach_the_threshold():
    peaks = np.linspace(0.4, 0.9, 101)
    probs = [np.tile([1 - p, p], (10, 1)) for p in peaks]
    threshold = choose_thresholds(SPEC, probs, [0] * len(peaks))["fight"]
    assert np.mean(peaks >= threshold) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(("level", "threshold"), [(0.01, 0.5), (0.99, 0.9)])
def test_thresholds_stay_within_sensible_bounds(level, threshold):
    probs = [np.tile([1 - level, level], (10, 1))] * 5
    assert choose_thresholds(SPEC, probs, [0] * 5) == {"fight": threshold}


def test_a_clip_scores_the_same_alone_and_among_others():
    engine = FakeEngine(tiny_spec())
    rng = np.random.default_rng(0)
    clips = [rng.integers(0, 255, (length, 32, 32, 3), dtype=np.uint8) for length in (5, 9, 2)]
    together = score_clips(engine, clips)
    for clip, probs in zip(clips, together, strict=True):
        np.testing.assert_allclose(score_clip(engine, clip), probs, atol=1e-6)
        assert probs.shape == (len(clip), 2)


def test_a_clip_score_is_the_mean_after_warm_up():
    probs = np.array([[0.0, 1.0], [0.0, 1.0], [0.8, 0.2], [0.6, 0.4]])
    assert clip_score(probs, 2).tolist() == pytest.approx([0.7, 0.3])
