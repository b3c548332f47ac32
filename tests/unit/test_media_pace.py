"""What is left of a camera that overload has slowed."""

from __future__ import annotations

import pytest

from streamkd.media.pace import KEYFRAMES_PACE, SPARSE_S, Thinning, thin_out
from streamkd.pipeline import GAP_S


@pytest.mark.parametrize("apart_s", [2.0, 10.0, None])
def test_at_the_first_pace_everything_is_left(apart_s):
    assert thin_out(0, apart_s) == Thinning()


@pytest.mark.parametrize(("pace", "share"), [(1, 0.5), (2, 0.25)])
def test_the_first_part_of_each_group_is_left_or_where_that_would_be_too_far_apart_frames_further_apart(pace, share):
    assert thin_out(pace, 2.0) == Thinning(group_share=share)
    assert thin_out(pace, 10.0) == thin_out(pace, None) == Thinning(rate_share=share)


@pytest.mark.parametrize(
    ("pace", "apart_s", "expected"),
    [(KEYFRAMES_PACE - 1, 2.0, False), (KEYFRAMES_PACE, 2.0, True), (KEYFRAMES_PACE, None, True)],
)
def test_the_slowest_pace_is_keyframes_only(pace, apart_s, expected):
    assert thin_out(pace, apart_s).keyframes_only == expected


def test_a_camera_is_not_slowed_to_answers_that_do_not_belong_together():
    assert SPARSE_S == GAP_S
    assert thin_out(KEYFRAMES_PACE, GAP_S + 1.0) == Thinning(rate_share=0.25)
