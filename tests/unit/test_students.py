"""Many cameras with a gaze in one batch: each is answered as if it were alone, and as its clip is scored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamkd.bundle import FocusSpec
from streamkd.engine.students import Students
from streamkd.errors import ConflictError
from streamkd.evaluate.score import score_clip
from tests.fakes import FakeEngine, make_frame, tiny_spec

FOCUS = FocusSpec(view_size=64)
PLACES = ((0, 0), (30, 50), (44, 4), (20, 30))
FRAMES = 24


def _spec(version="tiny-1", focus=FOCUS):
    return tiny_spec(version, warmup_frames=4).model_copy(update={"focus": focus})


def _views(place):
    """`[T, 64, 84, 3]`: a square flickers red at one place, later at the opposite one."""
    views = np.full((FRAMES, 64, 84, 3), 90, np.uint8)
    for t in range(FRAMES):
        top, left = place if t < FRAMES // 2 else (48 - place[0], 68 - place[1])
        views[t, top : top + 16, left : left + 16] = (250, 20 + 200 * (t % 2), 20 + 200 * (t % 2))
    return views


def step(students, frames):
    """Answers in the order of `frames`."""
    students.begin(frames)
    answers = {}
    while students.in_work:
        answers.update((frame.camera_id, answer) for frame, answer in students.advance())
    return [answers[frame.camera_id] for frame in frames]


def _played(students, clips):
    """Camera i begins at step i; `[T, C]` of each."""
    said = {name: [] for name in clips}
    for at in range(FRAMES + len(clips)):
        frames = [
            replace(make_frame(name, (at - begin) / 5), rgb=clip[at - begin])
            for begin, (name, clip) in enumerate(clips.items())
            if 0 <= at - begin < FRAMES
        ]
        for frame, answer in zip(frames, step(students, frames), strict=True):
            said[frame.camera_id].append(answer.action)
    return {name: np.stack(rows) for name, rows in said.items()}


@pytest.fixture(scope="module")
def clips():
    return {f"cam{i}": _views(place) for i, place in enumerate((*PLACES, PLACES[0]))}


def test_a_camera_among_others_is_answered_as_its_clip_is_scored(clips):
    engine = FakeEngine(_spec())
    for name, rows in _played(Students(engine), clips).items():
        np.testing.assert_allclose(rows, score_clip(engine, clips[name]), atol=1e-6)


@pytest.mark.parametrize("most", [1, 2, 4])
def test_a_camera_is_answered_the_same_whoever_begins_while_it_sees_frames_again(clips, most):
    engine = FakeEngine(_spec())
    students = Students(engine)
    left = {
        name: [replace(make_frame(name, t / 5), rgb=clip[t]) for t in range(FRAMES)] for name, clip in clips.items()
    }
    said = {name: [] for name in clips}
    while any(left.values()) or students.in_work:
        free = [name for name, frames in left.items() if frames and name not in students.in_work]
        free.sort(key=lambda name: -len(left[name]))  # who is behind
        students.begin([left[name].pop(0) for name in free[: most - len(students.in_work)]])
        for frame, answer in students.advance():
            said[frame.camera_id].append(answer.action)
    assert max(engine.batches) == most
    for name, rows in said.items():
        np.testing.assert_allclose(np.stack(rows), score_clip(FakeEngine(_spec()), clips[name]), atol=1e-6)


class Counting(FakeEngine):
    """Counts the frames that the network was run on."""

    frames = 0

    def step(self, rgb, states):
        self.frames += len(rgb)
        return super().step(rgb, states)


def test_a_frame_that_shows_what_the_last_one_did_gets_its_answer_again():
    engine = Counting(_spec(focus=None))
    students = Students(engine)
    seen = [step(students, [make_frame("a", n / 5)])[0] for n in range(6)][-1]
    (again,) = step(students, [replace(make_frame("a", 2.0), same_as_s=1.0)])
    assert (engine.frames, again.repeated, seen.repeated) == (6, True, False)
    np.testing.assert_array_equal(again.action, seen.action)


def test_the_other_cameras_of_a_batch_go_on():
    engine = Counting(_spec(focus=None))
    students = Students(engine)
    for n in range(6):
        step(students, [make_frame("a", n / 5), make_frame("b", n / 5)])
    answers = step(students, [replace(make_frame("a", 2.0), same_as_s=1.0), make_frame("b", 1.2)])
    assert (engine.frames, [answer.repeated for answer in answers]) == (13, [True, False])


@pytest.mark.parametrize("why", ["another frame was the last", "it is warming", "the state was discarded", "a swap"])
def test_where_the_last_answer_does_not_hold_the_student_looks(why):
    engine = Counting(_spec(focus=None))
    students = Students(engine)
    for n in range(3 if why == "it is warming" else 6):
        step(students, [make_frame("a", n / 5)])
    same_as_s = {"another frame was the last": 0.8, "it is warming": 0.4}.get(why, 1.0)
    if why == "the state was discarded":
        students.discard("a")
    if why == "a swap":
        students.swap(FakeEngine(_spec("tiny-2", focus=None)))
    before = engine.frames
    (answer,) = step(students, [replace(make_frame("a", 2.0), same_as_s=same_as_s)])
    assert (engine.frames - before, answer.repeated) == (1, False)


def test_cameras_that_look_elsewhere_at_once_see_their_last_frames_in_one_batch(clips):
    engine = FakeEngine(_spec())
    students = Students(engine)
    for t in range(FOCUS.settle_frames):
        step(students, [replace(make_frame(name, t / 5), rgb=clip[t]) for name, clip in clips.items()])
    assert engine.batches == [len(clips)] * (2 * FOCUS.settle_frames - 1)


def test_during_a_swap_the_next_version_settles_its_own_gaze(clips):
    first, second = FakeEngine(_spec()), FakeEngine(_spec("tiny-2"), bias=0.5)
    students, clip = Students(first), clips["cam1"]
    said = []
    for t in range(FRAMES):
        if t == 4:
            students.swap(second)
        said.append(step(students, [replace(make_frame("cam", t / 5), rgb=clip[t])])[0])
    alone = score_clip(second, clip[4:])
    swapped = [t for t in range(FRAMES) if said[t].spec is second.spec]
    assert swapped[0] == 4 + second.spec.warmup_frames
    np.testing.assert_allclose([said[t].action for t in swapped], alone[swapped[0] - 4 :], atol=1e-6)


def test_a_swap_is_the_same_whoever_begins_while_others_see_frames_again(clips):
    first, second = FakeEngine(_spec()), FakeEngine(_spec("tiny-2"), bias=0.5)
    together, apart = Students(first), Students(first)
    said = {name: [] for name in clips}
    expected = {name: [] for name in clips}
    for t in range(FRAMES):
        if t == 4:
            together.swap(second)
            apart.swap(second)
        frames = [replace(make_frame(name, t / 5), rgb=clip[t]) for name, clip in clips.items()]
        for frame, answer in zip(frames, step(together, frames), strict=True):
            expected[frame.camera_id].append((answer.spec.version, answer.action))
        while frames or apart.in_work:
            apart.begin([frames.pop() for _ in range(min(len(frames), 2))])
            for frame, answer in apart.advance():
                said[frame.camera_id].append((answer.spec.version, answer.action))
    for name, rows in expected.items():
        assert [version for version, _ in said[name]] == [version for version, _ in rows]
        np.testing.assert_allclose([a for _, a in said[name]], [a for _, a in rows], atol=1e-6)


def test_cameras_in_work_and_their_model_stay_as_they_are():
    students = Students(FakeEngine(_spec(focus=None)))
    students.begin([make_frame("a", 0.0)])
    with pytest.raises(ValueError, match="in work"):
        students.discard("a")
    with pytest.raises(ValueError, match="in work"):
        students.swap(FakeEngine(_spec("tiny-2", focus=None)))


def test_a_version_without_a_gaze_cannot_take_over_from_one_with_a_gaze():
    with pytest.raises(ConflictError, match="shorter side"):
        Students(FakeEngine(_spec())).swap(FakeEngine(_spec("tiny-2", focus=None)))
