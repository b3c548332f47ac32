"""The live path as a whole: warm-up, events, gaps, cameras that come and go, the swap of the model."""

from __future__ import annotations

import gc
import weakref
from datetime import UTC, datetime

import numpy as np
import pytest

from streamkd.clock import FakeClock
from streamkd.config import CameraConfig, EventsConfig
from streamkd.errors import ConflictError, NotFoundError
from streamkd.pipeline import Pipeline
from streamkd.types import EventKind
from tests.fakes import GREEN, GREY, RED, FakeEngine, make_frame, tiny_spec

EVENTS = EventsConfig(smoothing_s=0.6, min_frames=2, close_after_s=1.0, anomaly_warmup_s=5.0)
PERIOD_S = 0.2


def camera(camera_id="cam", **changes):
    return CameraConfig(id=camera_id, url="rtsp://h/s", **changes)


def pipeline(engine=None, *cameras, events=EVENTS):
    built = Pipeline(engine or FakeEngine(), events, FakeClock(), epoch="e1")
    for config in cameras or (camera(),):
        built.add_camera(config)
    return built


def play(subject, colours, *, camera_id="cam", segment=0, start=0, greys=None):
    """Feed one camera; returns the results."""
    results = []
    for index, colour in enumerate(colours):
        grey = greys[index] if greys is not None else None
        frame = make_frame(camera_id, (start + index) * PERIOD_S, colour, segment=segment, grey=grey)
        results.extend(subject.process([frame]))
    return results


def updates_of(results):
    return [update for result in results for update in result.updates]


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


# --- anomalies


def moving(count, *, by):
    """A cell that jumps by `by` grey levels at every frame."""
    still = np.full((240, 360), 100, np.uint8)
    moved = still.copy()
    moved[:15, :15] += by
    return [moved if index % 2 else still for index in range(count)]


def unusual(subject, **options):
    normal = play(subject, [GREY] * 250, greys=moving(250, by=4))
    odd = play(subject, [GREY] * 30, start=250, greys=moving(30, by=120), **options)
    back = play(subject, [GREY] * 60, start=280, greys=moving(60, by=4))
    return normal, odd, back


def test_unusual_motion_becomes_an_event_that_ends():
    normal, odd, back = unusual(pipeline())
    assert updates_of(normal) == []
    opened = updates_of(odd)[0]
    assert (opened.kind, opened.label, opened.is_open) == (EventKind.ANOMALY, "unusual_motion", True)
    assert not updates_of(back)[-1].is_open


def test_a_change_that_stays_becomes_normal():
    subject = pipeline(events=EVENTS.model_copy(update={"max_duration_s": 60.0}))
    play(subject, [GREY] * 250, greys=moving(250, by=4))
    told = updates_of(play(subject, [GREY] * 3000, start=250, greys=moving(3000, by=60)))
    assert len({update.id for update in told}) <= 2
    assert not told[-1].is_open


def test_the_anomaly_score_is_unknown_at_first():
    assert play(pipeline(), [GREY] * 10)[-1].anomaly_score is None


def test_a_result_says_whether_the_anomaly_threshold_is_certified():
    generous = EVENTS.model_copy(update={"anomaly_false_alarms_per_day": 5000.0})
    known = [play(pipeline(events=events), [GREY] * 200)[-1].anomaly_certified for events in (EVENTS, generous)]
    assert known == [False, True]


def test_no_anomaly_event_where_they_are_off():
    assert updates_of(unusual(pipeline(None, camera(anomalies=False)))[1]) == []


def test_turning_anomalies_off_ends_an_open_one():
    subject = pipeline()
    play(subject, [GREY] * 250, greys=moving(250, by=4))
    play(subject, [GREY] * 30, start=250, greys=moving(30, by=120))
    (closed,) = subject.update_camera(camera(anomalies=False))
    assert not closed.is_open


# --- a model that computes no numbers


class BrokenEngine(FakeEngine):
    """Gives NaN for every picture that is green."""

    def step(self, rgb, states):
        output, after = super().step(rgb, states)
        for row in np.flatnonzero(rgb[:, 0, 0, 1] == 255):
            output.action[row] = np.nan
            after[row]["level"][:] = np.nan
        return output, after


def test_after_nan_a_camera_begins_anew():
    results = play(pipeline(BrokenEngine()), [RED, GREEN, RED, RED, RED, RED, RED])
    assert [result.warming for result in results] == [True, True, True, True, True, False, False]
    assert all(np.isfinite(list(result.scores.values())).all() for result in results)


def test_nan_ends_an_open_event():
    subject = pipeline(BrokenEngine())
    opened = updates_of(play(subject, [RED] * 8))
    closed = updates_of(play(subject, [GREEN], start=8))
    assert [update.id for update in closed if update.end_utc] == [opened[0].id]


def test_nan_of_one_camera_is_not_another_ones():
    subject = pipeline(BrokenEngine(), camera("a"), camera("b"))
    for index in range(6):
        pair = [make_frame("a", index * PERIOD_S, GREEN), make_frame("b", index * PERIOD_S, RED)]
        results = subject.process(pair)
    assert [result.warming for result in results] == [True, False]


def test_a_model_that_gives_nan_never_takes_over():
    subject = pipeline(FakeEngine())
    play(subject, [GREEN] * 6)
    subject.swap(BrokenEngine(tiny_spec(version="broken")))
    assert {result.model_version for result in play(subject, [GREEN] * 8, start=6)} == {"tiny-1"}


# --- swap


def other(version="tiny-2", **options):
    return FakeEngine(tiny_spec(version, **options))


def test_the_old_model_answers_until_the_new_one_is_warm():
    subject = pipeline()
    play(subject, [GREY] * 5)
    subject.swap(other())
    results = play(subject, [GREY] * 5, start=5)
    assert [result.model_version for result in results] == ["tiny-1"] * 3 + ["tiny-2"] * 2
    assert not any(result.warming for result in results)


def test_the_new_model_has_seen_the_same_frames():
    subject = pipeline()
    play(subject, [GREY] * 5)
    subject.swap(other())
    swapped = play(subject, [RED] * 5, start=5)[-1]
    alone = play(pipeline(other()), [RED] * 5)[-1]
    assert swapped.scores == pytest.approx(alone.scores)


def test_a_swap_is_pending_until_every_camera_has_moved():
    subject = pipeline(None, camera("a"), camera("b"))
    for name in "ab":
        play(subject, [GREY] * 5, camera_id=name)
    subject.swap(other())
    moved = play(subject, [GREY] * 5, camera_id="a", start=5)[-1]
    assert (subject.swap_pending, moved.model_version) == (True, "tiny-2")
    play(subject, [GREY] * 5, camera_id="b", start=5)
    assert not subject.swap_pending


def test_the_old_model_is_let_go():
    engine = FakeEngine()
    gone = weakref.ref(engine)
    subject = pipeline(engine)
    play(subject, [GREY] * 5)
    subject.swap(other())
    del engine
    play(subject, [GREY] * 4, start=5)
    gc.collect()
    assert gone() is None


def test_a_camera_without_a_stream_does_not_hold_the_swap_back():
    subject = pipeline()
    play(subject, [GREY] * 5)
    subject.camera_gone("cam")
    subject.swap(other())
    assert not subject.swap_pending


def test_a_new_segment_starts_on_the_new_model():
    subject = pipeline()
    play(subject, [GREY] * 5)
    subject.swap(other())
    assert play(subject, [GREY], segment=1)[0].model_version == "tiny-2"


def test_a_camera_added_during_a_swap_starts_on_the_new_model():
    subject = pipeline()
    play(subject, [GREY] * 5)
    subject.swap(other())
    subject.add_camera(camera("late"))
    assert play(subject, [GREY], camera_id="late")[0].model_version == "tiny-2"


def test_an_open_event_goes_on_across_a_swap():
    subject = pipeline()
    before = updates_of(play(subject, [RED] * 10))
    subject.swap(other())
    after = updates_of(play(subject, [RED] * 10 + [GREY] * 30, start=10))
    assert {update.id for update in before} == {update.id for update in after}
    assert sum(not update.is_open for update in after) == 1


def test_an_event_ends_where_the_new_model_does_not_know_its_label():
    subject = pipeline()
    play(subject, [RED] * 10)
    subject.swap(other(classes=("normal", "fall")))
    told = updates_of(play(subject, [RED] * 4, start=10))
    assert [(update.label, update.is_open) for update in told if not update.is_open] == [("fight", False)]


def test_a_swap_back_keeps_the_state_of_cameras_that_had_not_moved():
    first = FakeEngine()
    subject = pipeline(first)
    play(subject, [GREY] * 5)
    subject.swap(other())
    play(subject, [GREY] * 2, start=5)
    subject.swap(first)
    results = play(subject, [GREY] * 5, start=7)
    assert {(result.model_version, result.warming) for result in results} == {("tiny-1", False)}
    assert not subject.swap_pending


def test_a_swap_overtakes_a_pending_one():
    subject = pipeline()
    play(subject, [GREY] * 5)
    subject.swap(other("tiny-2"))
    play(subject, [GREY] * 2, start=5)
    subject.swap(other("tiny-3"))
    versions = [result.model_version for result in play(subject, [GREY] * 5, start=7)]
    assert versions == ["tiny-1"] * 3 + ["tiny-3"] * 2


def test_a_swap_to_the_present_version_changes_nothing():
    subject = pipeline()
    play(subject, [GREY] * 5)
    subject.swap(FakeEngine())
    assert not subject.swap_pending


def test_a_model_of_another_input_size_is_refused():
    with pytest.raises(ConflictError, match="64 px"):
        pipeline().swap(other(input_size=64))
