"""Smoothing, rules, the machine's table, and what the tracker tells."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from streamkd.anomaly.baseline import relative_score
from streamkd.clock import FakeClock
from streamkd.config import CameraConfig, EventsConfig
from streamkd.events import (
    CausalMean,
    EventTracker,
    LiveTime,
    MachineState,
    Phase,
    RecordingTime,
    Rule,
    TrackerName,
    action_rules,
    advance,
    anomaly_rule,
    threshold_at,
)
from streamkd.events.machine import TRANSITIONS, Signal, interrupt
from streamkd.types import EventKind
from tests.fakes import make_frame, tiny_spec

RULE = Rule(open_at=0.6, close_below=0.4, min_frames=3, close_after_s=1.0, max_duration_s=10.0, cooldown_s=5.0)


def camera(**changes):
    return CameraConfig(id="cam", url="rtsp://h/s", **changes)


# --- smoothing


def test_the_mean_covers_the_window():
    mean = CausalMean(1.0)
    means = [float(mean.add(i * 0.2, np.array([i], np.float32))[0]) for i in range(8)]
    assert means == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0])


def test_no_window_keeps_the_present_value():
    mean = CausalMean(0.0)
    mean.add(0.0, np.array([1.0], np.float32))
    assert mean.add(0.2, np.array([5.0], np.float32))[0] == 5.0


def test_classes_are_reordered_by_name():
    mean = CausalMean(10.0)
    mean.add(0.0, np.array([0.2, 0.8], np.float32))
    mean.rename(("normal", "fight"), ("fight", "fall", "normal"))
    np.testing.assert_allclose(mean.add(0.2, np.array([0.8, 0.0, 0.2], np.float32)), [0.8, 0.0, 0.2])


# --- rules


def test_half_sensitivity_leaves_the_threshold():
    assert threshold_at(0.7, 0.5) == pytest.approx(0.7)


def test_the_threshold_falls_with_sensitivity():
    values = [threshold_at(0.9, s) for s in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert values == sorted(values, reverse=True)
    assert all(0 < value < 1 for value in values)


def test_the_background_has_no_rule():
    assert set(action_rules(tiny_spec(classes=("normal", "fight", "fall")), EventsConfig(), camera())) == {
        "fight",
        "fall",
    }


def test_only_the_wanted_labels_have_rules():
    spec = tiny_spec(classes=("normal", "fight", "fall"))
    assert set(action_rules(spec, EventsConfig(), camera(labels=("fall", "normal", "unknown")))) == {"fall"}


def test_the_closing_threshold_is_a_share_of_the_opening_one():
    rule = action_rules(tiny_spec(), EventsConfig(close_ratio=0.5), camera())["fight"]
    assert rule.close_below == pytest.approx(rule.open_at / 2)


def test_no_rule_where_anomalies_are_off():
    assert anomaly_rule(EventsConfig(), camera(anomalies=False)) is None


def test_anomalies_open_at_half_as_much_motion_again_at_no_sensitivity():
    rule = anomaly_rule(EventsConfig(), camera(sensitivity=0.0))
    assert rule.open_at == pytest.approx(relative_score(15.0, 10.0))


# --- machine


def play(scores, rule=RULE, state=None, period_s=0.2, start_s=0.0):
    states = []
    state = state or MachineState()
    for index, score in enumerate(scores):
        state = advance(state, score, start_s + index * period_s, rule)
        states.append(state)
    return states


def phases(scores, **options):
    return [state.phase for state in play(scores, **options)]


def test_the_table_knows_every_phase_and_signal():
    assert {phase for phase, _ in TRANSITIONS} == set(Phase)
    assert {signal for _, signal in TRANSITIONS} == set(Signal)


def test_it_opens_after_enough_frames():
    assert phases([0.7, 0.7, 0.7]) == [Phase.RISING, Phase.RISING, Phase.OPEN]


def test_a_dip_starts_the_count_afresh():
    assert phases([0.7, 0.7, 0.5, 0.7, 0.7])[-1] is Phase.RISING


def test_the_event_starts_with_its_first_frame_over():
    assert play([0.1, 0.7, 0.7, 0.7])[-1].started_s == pytest.approx(0.2)


def test_one_frame_is_enough_where_the_rule_says_so():
    assert phases([0.7], rule=Rule(open_at=0.6, close_below=0.4, min_frames=1)) == [Phase.OPEN]


def test_between_the_thresholds_it_stays_open():
    assert set(phases([0.7] * 3 + [0.5] * 20)[2:]) == {Phase.OPEN}


def test_it_closes_when_it_was_under_for_long_enough():
    states = play([0.7] * 3 + [0.1] * 6)
    assert [state.phase for state in states[3:]] == [Phase.CLOSING] * 5 + [Phase.COOLDOWN]
    assert states[-1].ended_s == pytest.approx(0.6)


def test_a_rise_while_closing_holds_it_open():
    assert phases([0.7] * 3 + [0.1] * 3 + [0.5] + [0.1] * 5)[-1] is Phase.CLOSING


def test_a_long_event_is_closed():
    states = play([0.9] * 60)
    closed = next(state for state in states if state.phase is Phase.COOLDOWN)
    assert closed.ended_s == pytest.approx(10.0)


def test_it_may_open_again_after_the_cool_down():
    states = play([0.9] * 100)
    first = next(i for i, state in enumerate(states) if state.phase is Phase.COOLDOWN)
    again = next(i for i, state in enumerate(states) if i > first and state.phase is Phase.RISING)
    assert (again - first) * 0.2 == pytest.approx(5.0)


def test_a_gap_ends_an_open_event_and_starts_the_cool_down():
    assert interrupt(play([0.9] * 3)[-1], 0.4) == MachineState(Phase.COOLDOWN, ended_s=0.0)


def test_a_gap_does_not_count_towards_the_cool_down():
    cooling = play([0.7] * 3 + [0.1] * 6)[-1]  # ended at 0.6 s, seen until 1.6 s
    after = play([0.9] * 30, state=interrupt(cooling, 1.6))
    assert next(i for i, state in enumerate(after) if state.phase is Phase.RISING) * 0.2 == pytest.approx(4.0)


def test_a_gap_forgets_a_rise():
    assert interrupt(play([0.9] * 2)[-1], 0.2) == MachineState()


# --- time


def test_a_live_frame_was_when_its_packet_arrived():
    clock = FakeClock(start_s=100.0, utc=datetime(2026, 1, 1, tzinfo=UTC))
    assert LiveTime(clock).utc_of(make_frame(received_s=99.5)) == clock.utc() - timedelta(seconds=0.5)


def test_a_recorded_frame_was_its_time_after_the_start():
    start = datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert RecordingTime(start).utc_of(make_frame(received_s=2.5)) == start + timedelta(seconds=2.5)


# --- tracker


def tracker(label="fight", epoch="e1", camera_id="cam"):
    return EventTracker(TrackerName(camera_id, EventKind.ACTION, label, epoch), RecordingTime())


def follow(scores, subject=None, segment=0):
    subject = subject or tracker()
    told = [subject.observe(make_frame(pts_s=i * 0.2, segment=segment), s, RULE, "v1") for i, s in enumerate(scores)]
    return [update for update in told if update is not None]


def test_an_event_is_told_at_its_opening():
    (opened,) = follow([0.7, 0.7, 0.8])
    assert (opened.is_open, opened.revision, opened.label, opened.model_version) == (True, 1, "fight", "v1")


def test_its_score_is_the_smoothed_one_at_its_opening():
    assert follow([0.7, 0.7, 0.8])[0].score == 0.8


def test_its_start_is_its_first_frame_over():
    (opened,) = follow([0.1, 0.7, 0.7, 0.7])
    assert opened.start_pts_s == pytest.approx(0.2)
    assert opened.start_utc == datetime(1970, 1, 1, 0, 0, 0, 200_000, tzinfo=UTC)


def test_its_picture_is_that_of_the_opening_frame():
    (opened,) = follow([0.7] * 3)
    assert opened.snapshot_jpeg.startswith(b"\xff\xd8")


def test_its_picture_is_told_once():
    _, closed = follow([0.7] * 3 + [0.1] * 20)
    assert closed.snapshot_jpeg is None


def test_a_picture_that_can_not_be_made_costs_no_event():
    class Broken:
        width = height = 1

        def jpeg(self, **_):
            raise OSError("no space")

    subject = tracker()
    frame = make_frame()
    object.__setattr__(frame, "picture", Broken())
    update = subject.observe(frame, 0.9, Rule(0.5, 0.3, min_frames=1), "v1")
    assert update is not None
    assert update.snapshot_jpeg is None


def test_its_end_is_told_once():
    opened, closed = follow([0.7] * 3 + [0.1] * 20)
    assert (closed.id, closed.revision, closed.is_open) == (opened.id, 2, False)
    assert closed.end_utc - closed.start_utc == timedelta(seconds=closed.end_pts_s - closed.start_pts_s)


def test_a_rise_is_told_at_most_once_a_second():
    told = follow([0.7, 0.7, 0.7] + [0.7 + 0.01 * i for i in range(1, 16)])
    assert len(told) == 1 + 3
    assert [update.score for update in told] == sorted(update.score for update in told)


def test_the_last_revision_holds_the_highest_score():
    assert follow([0.7, 0.7, 0.7, 0.95] + [0.1] * 10)[-1].score == 0.95


def test_the_same_frames_give_the_same_id():
    assert follow([0.7] * 3)[0].id == follow([0.7] * 3)[0].id


@pytest.mark.parametrize("other", [{"label": "fall"}, {"epoch": "e2"}, {"camera_id": "cam2"}])
def test_another_subject_has_another_id(other):
    assert follow([0.7] * 3)[0].id != follow([0.7] * 3, tracker(**other))[0].id


def test_another_segment_has_another_id():
    assert follow([0.7] * 3)[0].id != follow([0.7] * 3, segment=1)[0].id


def test_an_interruption_closes_at_the_last_frame():
    subject = tracker()
    follow([0.7] * 3, subject)
    closed = subject.interrupt(0.4)
    assert (closed.is_open, closed.end_pts_s) == (False, 0.4)


def test_an_interruption_of_nothing_tells_nothing():
    assert tracker().interrupt(3.0) is None
