"""Anomalies on the live path: unusual motion, and what is certified."""

from __future__ import annotations

import numpy as np

from streamkd.types import EventKind
from tests.fakes import GREY
from tests.pipelines import EVENTS, camera, pipeline, play, updates_of


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
