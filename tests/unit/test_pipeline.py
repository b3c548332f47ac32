"""The live path as a whole: warm-up, events, gaps, cameras that come and go."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from streamkd.clock import FakeClock
from streamkd.errors import ConflictError, NotFoundError
from streamkd.pipeline import Pipeline
from streamkd.types import EventKind
from tests.fakes import GREEN, GREY, RED, FakeEngine, make_frame, tiny_spec
from tests.pipelines import EVENTS, PERIOD_S, camera, pipeline, play, updates_of

# --- scores


def test_every_known_frame_has_a_result_in_order():
    subject = pipeline(None, camera("a"), camera("b"))
    results = subject.process([make_frame("b"), make_frame("gone"), make_frame("a")])
    assert [result.camera_id for result in results] == ["b", "a"]


def test_all_cameras_share_one_batch():
    engine = FakeEngine()
    subject = pipeline(engine, camera("a"), camera("b"), camera("c"))
    subject.process([make_frame(name) for name in "abc"])
    assert engine.batches == [3]


def test_two_frames_of_one_camera_are_refused():
    with pytest.raises(ValueError, match="at most one frame"):
        pipeline().process([make_frame(pts_s=0.0), make_frame(pts_s=0.2)])


def test_a_camera_s_next_frame_waits_until_it_has_its_result():
    subject = pipeline()
    subject.begin([make_frame(pts_s=0.0)])
    with pytest.raises(ValueError, match="at most one frame"):
        subject.begin([make_frame(pts_s=0.2)])
    with pytest.raises(ValueError, match="others are in work"):
        subject.process([])
    ((frame, result),) = subject.advance()
    assert (frame.pts_s, result.pts_s, list(subject.in_work)) == (0.0, 0.0, [])


def test_nothing_to_do_is_nothing_done():
    assert pipeline().process([]) == []


def test_a_result_names_every_class():
    (result,) = play(pipeline(), [RED])
    assert set(result.scores) == {"normal", "fight"}
    assert len(result.forecast) == 2


def test_it_warms_for_as_many_frames_as_the_spec_says():
    assert [result.warming for result in play(pipeline(), [GREY] * 5)] == [True, True, True, False, False]


def test_the_action_is_the_best_foreground_class():
    engine = FakeEngine(tiny_spec(classes=("normal", "fight", "fall")))
    result = play(pipeline(engine), [GREEN] * 8)[-1]
    assert result.action == "fall"
    assert result.action_score > 0.9


def test_the_action_score_is_the_causal_mean():
    results = play(pipeline(), [GREY] * 6 + [RED] * 2)
    raw = [result.scores["fight"] for result in results]
    assert results[-1].action_score == pytest.approx(np.mean(raw[-3:]), abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "opens_at"), [({}, 0.5), ({"sensitivity": 1.0}, 0.119), ({"labels": ("fall",)}, None)]
)
def test_a_result_says_at_which_score_its_action_opens_an_event(settings, opens_at):
    result = play(pipeline(None, camera(**settings)), [GREY] * 6)[-1]
    assert result.action_opens_at == (opens_at if opens_at is None else pytest.approx(opens_at, abs=1e-3))


# --- action events


def test_a_fight_becomes_one_event_that_ends():
    results = play(pipeline(), [GREY] * 5 + [RED] * 15 + [GREY] * 25)
    told = updates_of(results)
    assert len({update.id for update in told}) == 1
    assert (told[0].is_open, told[-1].is_open) == (True, False)
    assert (told[0].kind, told[0].label, told[0].camera_id, told[0].epoch) == (EventKind.ACTION, "fight", "cam", "e1")


def test_nothing_opens_while_warming():
    results = play(pipeline(), [RED] * 3)
    assert updates_of(results) == []


def test_no_event_of_a_label_that_is_not_wanted():
    assert updates_of(play(pipeline(None, camera(labels=())), [RED] * 30)) == []


def test_sensitivity_decides():
    engine = FakeEngine(bias=-4.5)  # red alone settles at 0.38
    told = [updates_of(play(pipeline(engine, camera(sensitivity=s)), [RED] * 30)) for s in (0.5, 1.0)]
    assert [bool(updates) for updates in told] == [False, True]


def test_a_live_event_is_dated_by_the_arrival_of_its_frames():
    clock = FakeClock(start_s=50.0, utc=datetime(2026, 3, 1, tzinfo=UTC))
    subject = Pipeline(FakeEngine(), EVENTS, clock)
    subject.add_camera(camera())
    told = []
    for index in range(10):
        frame = make_frame("cam", index * PERIOD_S, RED, received_s=clock.monotonic_s() - 0.1)
        told += updates_of(subject.process([frame]))
        clock.advance(PERIOD_S)
    start_s = told[0].start_pts_s
    assert (told[0].start_utc - datetime(2026, 3, 1, tzinfo=UTC)).total_seconds() == pytest.approx(start_s - 0.1)


# --- gaps


def test_a_new_segment_warms_again():
    subject = pipeline()
    play(subject, [GREY] * 6)
    assert play(subject, [GREY], segment=1)[0].warming


def test_a_new_segment_discards_the_state():
    subject = pipeline()
    play(subject, [RED] * 10)
    fresh = play(pipeline(), [RED])[0]
    assert play(subject, [RED], segment=1)[0].scores == fresh.scores


def test_a_new_segment_ends_an_open_event_at_its_last_frame():
    subject = pipeline()
    play(subject, [GREY] * 4 + [RED] * 11)
    (closed,) = play(subject, [RED], segment=1)[0].updates
    assert closed.end_pts_s == pytest.approx(14 * PERIOD_S)


def test_a_long_pause_within_a_segment_is_a_gap():
    subject = pipeline()
    play(subject, [RED] * 10)
    assert play(subject, [RED], start=30)[0].warming


def test_a_long_pause_is_none_where_the_student_holds_its_state():
    subject = pipeline(FakeEngine(tiny_spec().model_copy(update={"gap_policy": "hold"})))
    play(subject, [RED] * 10)
    assert not play(subject, [RED], start=30)[0].warming


def test_a_camera_that_is_gone_ends_its_event_at_once():
    subject = pipeline()
    play(subject, [RED] * 10)
    (closed,) = subject.camera_gone("cam")
    assert not closed.is_open


def test_a_camera_that_is_gone_twice_tells_it_once():
    subject = pipeline()
    play(subject, [RED] * 10)
    subject.camera_gone("cam")
    assert subject.camera_gone("cam") == []


def test_a_flapping_camera_does_not_open_an_event_at_every_return():
    subject = pipeline(None, camera(cooldown_s=60.0))
    told = [updates_of(play(subject, [RED] * 10, segment=segment)) for segment in range(5)]
    assert len({update.id for updates in told for update in updates}) == 1


def test_a_pause_within_a_segment_does_not_end_a_cool_down():
    subject = pipeline(None, camera(cooldown_s=60.0))
    told = [updates_of(play(subject, [RED] * 10, start=1000 + 30 * turn)) for turn in range(5)]
    assert len({update.id for updates in told for update in updates}) == 1


# --- cameras


def test_a_camera_can_not_be_added_twice():
    with pytest.raises(ConflictError, match="cam is analysed already"):
        pipeline().add_camera(camera())


def test_an_unknown_camera_can_not_be_updated():
    with pytest.raises(NotFoundError, match="other"):
        pipeline().update_camera(camera("other"))


def test_removing_a_camera_ends_its_events():
    subject = pipeline()
    play(subject, [RED] * 10)
    (closed,) = subject.remove_camera("cam")
    assert not closed.is_open
    assert subject.process([make_frame("cam")]) == []


def test_removing_an_unknown_camera_is_no_error():
    assert pipeline().remove_camera("other") == []


def test_an_update_keeps_the_state():
    subject = pipeline()
    play(subject, [RED] * 10)
    subject.update_camera(camera(sensitivity=0.9))
    assert not play(subject, [RED], start=10)[0].warming


def test_an_update_ends_events_of_labels_that_are_not_wanted_any_more():
    subject = pipeline()
    play(subject, [RED] * 10)
    (closed,) = subject.update_camera(camera(labels=()))
    assert (closed.label, closed.is_open) == ("fight", False)


def test_a_camera_that_is_added_again_has_events_of_its_own():
    clock = FakeClock()
    subject = Pipeline(FakeEngine(), EVENTS, clock, epoch="e1")
    ids = set()
    for _ in range(2):
        subject.add_camera(camera())
        for index in range(10):
            frame = make_frame("cam", index * PERIOD_S, RED, received_s=clock.monotonic_s())
            ids |= {update.id for update in updates_of(subject.process([frame]))}
        subject.remove_camera("cam")
        clock.advance(100.0)
    assert len(ids) == 2
