"""Naps end before the picture is there; where one did not, the next ends earlier."""

from __future__ import annotations

import pytest

from streamkd.media.nap import EARLIEST_S, EARLY_S, Nap

INTERVAL_S = 0.2


def live(nap, *, true_delay_s, known_delay_s, pictures=100):
    """A camera whose pictures arrive `true_delay_s` after their PTS; gives what the reader takes for the delay."""
    believed_s, now_s = known_delay_s, known_delay_s
    for number in range(1, pictures + 1):
        pts_s = number * INTERVAL_S
        woke_s = now_s + nap.length_s(pts_s, pts_s + believed_s, now_s)
        there_s = pts_s + true_delay_s
        now_s = max(woke_s, there_s)
        nap.saw(pts_s, now_s - woke_s)
        believed_s = min(believed_s, now_s - pts_s)
    return believed_s


@pytest.mark.parametrize("late_s", [0.0, 0.01, 0.1, 0.4])
def test_a_delay_of_the_first_second_does_not_last(late_s):
    assert live(Nap(), true_delay_s=0.05, known_delay_s=0.05 + late_s) == pytest.approx(0.05, abs=1e-6)


def test_once_the_true_time_is_known_it_sleeps_as_long_as_it_may():
    nap = Nap()
    live(nap, true_delay_s=0.05, known_delay_s=0.3)
    assert nap.early_s == EARLY_S


def test_it_wakes_before_what_is_expected():
    assert Nap().length_s(1.0, 10.1, 10.0) == pytest.approx(0.1 - EARLY_S)


def test_it_is_bounded_by_what_a_frame_may_be_late():
    assert Nap(0.1).length_s(1.0, 20.0, 10.0) == pytest.approx(0.1)


def test_what_is_about_to_come_is_waited_for_in_the_kernel():
    assert Nap().length_s(1.0, 10.005, 10.0) == 0.0


def test_pictures_that_are_not_needed_may_lie_there():
    nap = Nap()
    nap.length_s(1.0, 10.2, 10.0)
    nap.saw(0.93, 0.0)
    assert nap.early_s == EARLY_S


def test_however_often_it_is_late_it_does_not_give_up_sleeping_for_good():
    nap = Nap()
    for number in range(100):
        nap.length_s(float(number), 1000.0, 0.0)
        nap.saw(float(number), 0.0)
    assert nap.early_s == EARLIEST_S
