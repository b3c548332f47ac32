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


def _played(students, clips):
    """Camera i begins at step i; `[T, C]` of each."""
    said = {name: [] for name in clips}
    for step in range(FRAMES + len(clips)):
        frames = [
            replace(make_frame(name, (step - begin) / 5), rgb=clip[step - begin])
            for begin, (name, clip) in enumerate(clips.items())
            if 0 <= step - begin < FRAMES
        ]
        for frame, answer in zip(frames, students.step(frames) if frames else [], strict=True):
            said[frame.camera_id].append(answer.action)
    return {name: np.stack(rows) for name, rows in said.items()}


@pytest.fixture(scope="module")
def clips():
    return {f"cam{i}": _views(place) for i, place in enumerate((*PLACES, PLACES[0]))}


def test_a_camera_among_others_is_answered_as_its_clip_is_scored(clips):
    engine = FakeEngine(_spec())
    for name, rows in _played(Students(engine), clips).items():
        np.testing.assert_allclose(rows, score_clip(engine, clips[name]), atol=1e-6)


def test_cameras_that_look_elsewhere_at_once_see_their_last_frames_in_one_batch(clips):
    engine = FakeEngine(_spec())
    students = Students(engine)
    for t in range(FOCUS.settle_frames):
        students.step([replace(make_frame(name, t / 5), rgb=clip[t]) for name, clip in clips.items()])
    assert engine.batches == [len(clips)] * (2 * FOCUS.settle_frames - 1)


def test_during_a_swap_the_next_version_settles_its_own_gaze(clips):
    first, second = FakeEngine(_spec()), FakeEngine(_spec("tiny-2"), bias=0.5)
    students, clip = Students(first), clips["cam1"]
    said = []
    for t in range(FRAMES):
        if t == 4:
            students.swap(second)
        said.append(students.step([replace(make_frame("cam", t / 5), rgb=clip[t])])[0])
    alone = score_clip(second, clip[4:])
    swapped = [t for t in range(FRAMES) if said[t].spec is second.spec]
    assert swapped[0] == 4 + second.spec.warmup_frames
    np.testing.assert_allclose([said[t].action for t in swapped], alone[swapped[0] - 4 :], atol=1e-6)


def test_a_version_without_a_gaze_cannot_take_over_from_one_with_a_gaze():
    with pytest.raises(ConflictError, match="shorter side"):
        Students(FakeEngine(_spec())).swap(FakeEngine(_spec("tiny-2", focus=None)))
