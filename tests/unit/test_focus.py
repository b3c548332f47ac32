"""Where in the picture something happens, and the gaze that follows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkd.bundle import FocusSpec
from streamkd.engine.gaze import Gaze, first_corner, gaze_clip, gaze_stretches
from streamkd.focus import CELL, busiest, focus_clip, frame_energy, motion_energy, to_cells, view_shape
from streamkd.models.student import student_spec

if TYPE_CHECKING:
    from streamkd.types import UInt8Array

SPEC = student_spec("s", ("normal", "fight"), input_size=64, focus=FocusSpec(view_size=128))


def _blinking(frames: int, top: int, left: int, *, height: int = 128, width: int = 176, side: int = 16) -> UInt8Array:
    """A grey scene in which one square alternates between dark and bright."""
    made = np.full((frames, height, width, 3), 100, np.uint8)
    made[::2, top : top + side, left : left + side] = 20
    made[1::2, top : top + side, left : left + side] = 220
    return made


def test_cells_are_means_of_a_smooth_picture() -> None:
    frame = np.repeat(np.arange(64, dtype=np.uint8)[:, None, None], 48, axis=1).repeat(3, axis=2)
    cells = to_cells(frame)
    assert cells.shape == (16, 12)
    np.testing.assert_allclose(cells[:, 0], np.arange(16) * 4 + 1.0)


def test_noise_below_the_floor_is_no_motion() -> None:
    rng = np.random.default_rng(0)
    before, after = (100 + rng.uniform(-3, 3, (20, 20)).astype(np.float32) for _ in range(2))
    assert not frame_energy(before, after).any()


def test_the_window_contains_what_moves() -> None:
    top, left = busiest(motion_energy(_blinking(6, 80, 120)), 16)
    assert top * CELL <= 80
    assert (top + 16) * CELL >= 96
    assert left * CELL <= 120
    assert (left + 16) * CELL >= 136


def test_a_still_scene_is_looked_at_in_its_middle() -> None:
    assert busiest(np.zeros((32, 44), np.float32), 16) == (8, 14)


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.tuples(st.integers(8, 14), st.integers(8, 14)))
@settings(max_examples=30, deadline=None)
def test_no_window_has_more_energy(seed: int, side: int, shape: tuple[int, int]) -> None:
    energy = np.random.default_rng(seed).uniform(0, 1, shape).astype(np.float32)
    top, left = busiest(energy, side)
    most = max(
        energy[i : i + side, j : j + side].sum() for i in range(shape[0] - side + 1) for j in range(shape[1] - side + 1)
    )
    assert energy[top : top + side, left : left + side].sum() == pytest.approx(most, rel=1e-5)


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((640, 480), (428, 320)),
        ((1920, 1080), (568, 320)),
        ((480, 640), (320, 428)),
        ((64, 64), (320, 320)),
        ((1920, 16), (1280, 320)),
    ],
)
def test_views_keep_their_proportions(size: tuple[int, int], shape: tuple[int, int]) -> None:
    assert view_shape(*size, 320) == shape


@pytest.mark.parametrize(("input_size", "view_size"), [(128, 64), (62, 128), (64, 126)])
def test_a_window_that_does_not_fit_is_refused(input_size: int, view_size: int) -> None:
    told = SPEC.model_dump() | {"input_size": input_size, "focus": {"view_size": view_size}}
    with pytest.raises(ValueError, match="input_size <= view_size"):
        type(SPEC).model_validate(told)


def test_a_clip_through_the_window_does_not_keep_the_views() -> None:
    assert gaze_clip(_blinking(4, 100, 140), SPEC).base is None


def test_a_clip_for_a_teacher_is_cut_where_it_moves() -> None:
    seen = focus_clip(_blinking(6, 8, 8), 64)
    assert seen.shape == (6, 64, 64, 3)
    assert seen[1].max() == 220


def test_without_a_focus_the_whole_picture_is_seen() -> None:
    view = np.zeros((64, 64, 3), np.uint8)
    assert Gaze(SPEC.model_copy(update={"focus": None})).look(view).rgb is view


def test_a_picture_of_the_input_size_is_seen_whole() -> None:
    views = _blinking(8, 10, 10, height=64, width=64)
    np.testing.assert_array_equal(gaze_clip(views, SPEC), views)


def test_the_gaze_settles_on_what_moves_and_shows_the_frames_before_again() -> None:
    gaze, views = Gaze(SPEC), _blinking(4, 100, 140)
    glances = [gaze.look(view) for view in views]
    assert [glance.moved for glance in glances] == [False, False, True, False]
    assert len(glances[2].again) == 2
    top, left = gaze.corner_px
    np.testing.assert_array_equal(glances[2].again[0], views[0, top : top + 64, left : left + 64])


def test_the_gaze_moves_on_when_clearly_more_happens_elsewhere() -> None:
    gaze = Gaze(SPEC)
    for view in _blinking(10, 0, 0):
        gaze.look(view)
    before = gaze.corner_px
    for view in _blinking(12, 110, 150):
        gaze.look(view)
    assert gaze.corner_px[0] + 64 >= 110
    assert gaze.corner_px != before


def test_the_gaze_stays_where_little_more_happens_elsewhere() -> None:
    gaze, views = Gaze(SPEC), _blinking(24, 0, 0)
    for view in views[:10]:
        gaze.look(view)
    before = gaze.corner_px
    both = views.copy()
    both[::2, 110:126, 150:166] = 20
    both[1::2, 110:126, 150:166] = 225
    for view in both[10:]:
        gaze.look(view)
    assert gaze.corner_px == before


def test_after_a_cut_the_gaze_settles_anew() -> None:
    gaze = Gaze(SPEC)
    for view in _blinking(10, 0, 0):
        gaze.look(view)
    after = _blinking(6, 100, 140).astype(np.int16) + 60
    glances = [gaze.look(view) for view in after.clip(0, 255).astype(np.uint8)]
    assert [glance.moved for glance in glances[:3]] == [False, False, True]
    assert len(glances[2].again) == 2
    assert gaze.corner_px[0] > 0


def test_frames_that_show_what_the_last_one_did_are_among_the_last_but_kept_only_once() -> None:
    assert SPEC.focus is not None
    soon = SPEC.model_copy(update={"focus": SPEC.focus.model_copy(update={"decay": 0.5})})
    gaze, views = Gaze(soon), _blinking(10, 0, 0)
    for view in views:
        gaze.look(view)
    for _ in range(SPEC.warmup_frames - 1):
        gaze.look_again()
    then = _blinking(12, 110, 150)
    count, moved = next((n, glance) for n, glance in enumerate(map(gaze.look, then)) if glance.moved)
    last = [views[-1]] * SPEC.warmup_frames + list(then[:count])
    top, left = gaze.corner_px
    shown = [view[top : top + 64, left : left + 64] for view in last[-SPEC.warmup_frames :]]
    np.testing.assert_array_equal(np.stack(moved.again), np.stack(shown))
    assert 0 < count < SPEC.warmup_frames


def test_before_the_first_frame_nothing_is_looked_at_again() -> None:
    gaze = Gaze(SPEC)
    gaze.look_again()
    assert gaze.look(_blinking(1, 0, 0)[0]).again == ()


def test_training_cuts_the_window_that_the_live_path_takes() -> None:
    views = _blinking(10, 100, 140)
    gaze = Gaze(SPEC)
    live = [gaze.look(view).rgb for view in views]
    np.testing.assert_array_equal(gaze_clip(views, SPEC)[2:], np.stack(live[2:]))
    assert first_corner(views, SPEC) == gaze.corner_px


def test_a_recording_is_cut_into_stretches_where_the_gaze_moves() -> None:
    views = np.concatenate([_blinking(10, 0, 0), _blinking(12, 110, 150)])
    (start, first), (moved, second) = gaze_stretches(views, SPEC)
    assert start == 0
    assert moved + len(second) == len(views)
    np.testing.assert_array_equal(first, views[: len(first), :64, :64])
    assert moved + SPEC.warmup_frames == len(first)


def test_a_still_recording_is_one_stretch() -> None:
    ((first, frames),) = gaze_stretches(np.zeros((6, 128, 176, 3), np.uint8), SPEC)
    assert (first, len(frames)) == (0, 6)
