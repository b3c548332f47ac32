"""The live path while its model is exchanged, and a model that computes no numbers."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from streamkd.errors import ConflictError
from tests.fakes import GREEN, GREY, RED, FakeEngine, make_frame, tiny_spec
from tests.pipelines import PERIOD_S, camera, pipeline, play, updates_of


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
