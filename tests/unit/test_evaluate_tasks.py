"""Event detection and behaviour prediction, on cases small enough to work out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from streamkd.evaluate.detection import (
    Segment,
    average_precision,
    mean_average_precision,
    propose,
    suppress,
    temporal_iou,
    true_segments,
)
from streamkd.evaluate.forecast import ForecastStream, forecast_figures


def seg(start: float, end: float, score: float = 1.0, stream: int = 0, label: str = "fight") -> Segment:
    return Segment(stream, label, start, end, score)


@pytest.mark.parametrize(
    ("one", "other", "iou"),
    [
        (seg(0, 2), seg(0, 2), 1.0),
        (seg(0, 2), seg(1, 3), 1 / 3),
        (seg(0, 1), seg(1, 2), 0.0),
        (seg(0, 1), seg(5, 6), 0),
    ],
)
def test_temporal_iou(one, other, iou):
    assert temporal_iou(one, other) == pytest.approx(iou)


def test_true_segments_are_runs_of_a_foreground_label():
    labels = ["normal", "fight", "fight", "normal", "fall"]
    assert true_segments(3, labels, 1.0, "normal") == [seg(1, 3, stream=3), seg(4, 5, stream=3, label="fall")]


def test_a_clear_rise_is_proposed_where_it_is():
    probs = np.r_[np.full(10, 0.05), np.full(10, 0.95), np.full(10, 0.05)]
    best = propose(0, "fight", probs, 5.0, smooth_frames=1)[0]
    assert (best.start_s, best.end_s) == (2.0, 4.0)
    assert best.score == pytest.approx(0.95)


def test_of_like_proposals_the_best_stays():
    assert suppress([seg(0, 10, 0.4), seg(0, 9, 0.8), seg(20, 21, 0.1)]) == [seg(0, 9, 0.8), seg(20, 21, 0.1)]


def test_average_precision_of_a_worked_example():
    # Ranked: hit, miss, hit of 2 true segments: 1 * 1/2 + 2/3 * 1/2.
    predicted = [seg(0, 2, 0.9), seg(50, 52, 0.8), seg(10, 12, 0.7)]
    assert average_precision(predicted, [seg(0, 2), seg(10, 12)], 0.5) == pytest.approx(0.5 + 1 / 3)


def test_a_true_segment_is_matched_once():
    assert average_precision([seg(0, 2, 0.9), seg(0, 2, 0.8)], [seg(0, 2), seg(9, 10)], 0.5) == pytest.approx(0.5)


def test_a_prediction_in_another_stream_matches_nothing():
    assert average_precision([seg(0, 2, stream=1)], [seg(0, 2)], 0.3) == 0.0


def test_a_stricter_overlap_never_gives_more():
    found = mean_average_precision([seg(0, 2, 0.9), seg(10, 13, 0.5)], [seg(0, 2), seg(10, 12)])
    values = [found[iou] for iou in sorted(found)]
    assert values == sorted(values, reverse=True)
    assert (found[0.3], found[0.7]) == (1.0, 0.5)


def test_nothing_to_find_gives_no_figure():
    assert mean_average_precision([seg(0, 1)], [])[0.5] is None


def stream(labels: list[int], *, knows: bool) -> ForecastStream:
    shown = np.eye(2)[labels]
    ahead = np.eye(2)[[*labels[2:], *labels[-1:] * 2]] if knows else shown
    return ForecastStream(shown, ahead[:, None], np.array(labels), warmup_frames=1)


def test_a_forecast_that_knows_what_comes_beats_same_as_now():
    (found,) = forecast_figures([stream([0, 0, 0, 0, 1, 1, 1], knows=True)], (1.0,), 2.0, (1,))
    assert (found.frames, found.turns) == (4, 2)
    assert (found.roc_auc, found.accuracy, found.accuracy_at_turns, found.mse) == (1.0, 1.0, 1.0, 0.0)
    assert (found.accuracy_same_as_now, found.mse_same_as_now) == (0.5, 0.5)


def test_a_forecast_that_repeats_itself_is_the_trivial_one():
    (found,) = forecast_figures([stream([0, 0, 0, 0, 1, 1, 1], knows=False)], (1.0,), 2.0, (1,))
    assert found.accuracy == found.accuracy_same_as_now
    assert found.roc_auc == found.roc_auc_same_as_now
    assert found.accuracy_at_turns == 0.0


def test_streams_shorter_than_the_horizon_say_nothing():
    (found,) = forecast_figures([stream([0, 1], knows=True)], (1.0,), 2.0, (1,))
    assert (found.frames, found.roc_auc) == (0, None)
