"""Whatever the scores: events open late enough, close, pause, and tell a consistent story."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamkd.config import CameraConfig, EventsConfig
from streamkd.events import EventTracker, MachineState, Phase, RecordingTime, Rule, TrackerName, advance, threshold_at
from streamkd.events.machine import interrupt
from streamkd.types import EventKind
from tests.fakes import make_frame

SLACK_S = 1e-4

rules = st.builds(
    lambda open_at, ratio, **rest: Rule(open_at=open_at, close_below=open_at * ratio, **rest),
    open_at=st.floats(0.05, 0.95),
    ratio=st.floats(0.1, 1.0),
    min_frames=st.integers(1, 6),
    close_after_s=st.floats(0.05, 3.0),
    max_duration_s=st.floats(0.5, 8.0),
    cooldown_s=st.floats(0.0, 5.0),
)
steps_s = st.floats(0.02, 1.0)
# Long stretches of alike scores, or hardly anything would ever open.
scores = st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(1, 12)), min_size=1, max_size=25).map(
    lambda runs: [score for score, length in runs for _ in range(length)]
)


def timeline(values, step_s):
    return [(index * step_s, score) for index, score in enumerate(values)]


@given(rule=rules, values=scores, step_s=steps_s)
def test_it_opens_only_after_min_frames_over(rule, values, step_s):
    state, over = MachineState(), 0
    for pts_s, score in timeline(values, step_s):
        before, state = state, advance(state, score, pts_s, rule)
        over = over + 1 if score >= rule.open_at else 0
        if state.is_open and not before.is_open:
            assert over >= rule.min_frames


@given(rule=rules, values=scores, step_s=steps_s)
def test_no_event_outlives_its_maximum(rule, values, step_s):
    state = MachineState()
    for pts_s, score in timeline(values, step_s):
        state = advance(state, score, pts_s, rule)
        if state.is_open and pts_s > state.started_s + (rule.min_frames - 1) * step_s + SLACK_S:
            assert pts_s - state.started_s < rule.max_duration_s + SLACK_S


@given(rule=rules, values=scores, step_s=steps_s)
def test_silence_closes_everything(rule, values, step_s):
    state = MachineState()
    for pts_s, score in timeline(values, step_s):
        state = advance(state, score, pts_s, rule)
    quiet_from_s = len(values) * step_s
    frames = int((rule.close_after_s + rule.cooldown_s) / step_s) + 3
    for index in range(frames):
        state = advance(state, 0.0, quiet_from_s + index * step_s, rule)
    assert state == MachineState()


@given(rule=rules, values=scores, step_s=steps_s)
def test_the_next_event_waits_for_the_cool_down(rule, values, step_s):
    state, ended_s = MachineState(), None
    for pts_s, score in timeline(values, step_s):
        before, state = state, advance(state, score, pts_s, rule)
        if before.is_open and not state.is_open:
            ended_s = state.ended_s
        if state.phase in {Phase.RISING, Phase.OPEN} and ended_s is not None:
            assert state.started_s - ended_s >= rule.cooldown_s - SLACK_S


@given(rule=rules, values=scores, step_s=steps_s, cut=st.integers(0, 100))
def test_a_segment_starts_with_nothing_open(rule, values, step_s, cut):
    state = MachineState()
    for pts_s, score in timeline(values[:cut], step_s):
        state = advance(state, score, pts_s, rule)
    assert interrupt(state, cut * step_s).phase in {Phase.IDLE, Phase.COOLDOWN}


@given(rule=rules, segments=st.lists(scores, min_size=1, max_size=3), step_s=steps_s)
def test_updates_tell_a_consistent_story(rule, segments, step_s):
    tracker = EventTracker(TrackerName("cam", EventKind.ACTION, "fight"), RecordingTime())
    updates = []
    for segment, values in enumerate(segments):
        for pts_s, score in timeline(values, step_s):
            frame = make_frame(pts_s=pts_s, segment=segment, size=1)
            updates.append(tracker.observe(frame, score, rule, "v"))
        updates.append(tracker.interrupt((len(values) - 1) * step_s))
    story = [update for update in updates if update is not None]
    by_id = {}
    for update in story:
        by_id.setdefault(update.id, []).append(update)
    for told in by_id.values():
        assert [update.revision for update in told] == list(range(1, len(told) + 1))
        assert [update.is_open for update in told] == [True] * (len(told) - 1) + [False]
        assert [update.score for update in told] == sorted(update.score for update in told)
        assert told[-1].end_pts_s >= told[-1].start_pts_s
        assert told[-1].end_utc >= told[-1].start_utc
    assert [update.id for update in story] == [update.id for told in by_id.values() for update in told]


@given(threshold=st.floats(0.01, 0.99), low=st.floats(0, 1), high=st.floats(0, 1))
def test_more_sensitivity_never_raises_the_threshold(threshold, low, high):
    low, high = sorted((low, high))
    assert threshold_at(threshold, high) <= threshold_at(threshold, low)


@given(sensitivity=st.floats(0, 1))
def test_every_sensitivity_gives_a_rule_that_can_open_and_close(sensitivity):
    from streamkd.events import anomaly_rule

    rule = anomaly_rule(EventsConfig(), CameraConfig(id="c", url="rtsp://h/s", sensitivity=sensitivity))
    assert 0 < rule.close_below < rule.open_at < 1
