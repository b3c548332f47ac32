"""Under pressure rates fall, fairly and by priority; without it they come back; nothing swings."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkd_service.runtime.overload import SLOWEST, Governor, Losses, paces

fleets = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(-3, 3), min_size=1, max_size=30)
EVERY_S = 0.3


def run(governor, fleet, pressures, start_s=0.0):
    return [governor.step(pressure, fleet, start_s + EVERY_S * n) for n, pressure in enumerate(pressures)]


@given(fleet=fleets, lowered=st.integers(0, 120))
def test_as_many_paces_as_asked_for_are_taken(fleet, lowered):
    found = paces(fleet, lowered)
    assert sum(found.values()) == min(lowered, SLOWEST * len(fleet))
    assert all(0 <= pace <= SLOWEST for pace in found.values())


@given(fleet=fleets, lowered=st.integers(0, 120))
def test_a_higher_priority_is_never_slower(fleet, lowered):
    found = paces(fleet, lowered)
    for one, pace in found.items():
        assert all(found[other] == SLOWEST for other in fleet if pace and fleet[other] < fleet[one])


@given(fleet=fleets, lowered=st.integers(0, 120))
def test_equals_differ_by_a_pace_at_most(fleet, lowered):
    found = paces(fleet, lowered)
    for priority in set(fleet.values()):
        same = [found[name] for name in fleet if fleet[name] == priority]
        assert max(same) - min(same) <= 1


@given(fleet=fleets)
def test_lasting_pressure_slows_everybody_in_the_end(fleet):
    assert set(run(Governor(), fleet, [2.0] * 200)[-1].values()) == {SLOWEST}


@given(fleet=fleets, pressures=st.lists(st.floats(0.0, 0.8), max_size=100))
def test_without_pressure_nobody_is_slowed(fleet, pressures):
    assert not any(any(found.values()) for found in run(Governor(), fleet, pressures))


@given(fleet=fleets)
def test_rates_come_back_later_than_they_went(fleet):
    governor = Governor()
    run(governor, fleet, [1.0] * 20)
    calm = run(governor, fleet, [0.1] * 3000, start_s=6.0)
    assert any(calm[int(5.0 / EVERY_S)].values())
    assert not any(calm[-1].values())


@given(fleet=fleets)
def test_between_the_limits_nothing_changes(fleet):
    governor = Governor()
    slowed = run(governor, fleet, [1.0] * 10)[-1]
    assert run(governor, fleet, [0.75] * 200, start_s=3.0)[-1] == slowed


def test_a_rise_that_was_too_much_is_tried_again_later_each_time():
    governor, fleet = Governor(), dict.fromkeys("abcdefghij", 0)
    lowered, rises_s = 0, []
    for step in range(4000):
        # Room for all but three paces: one less, and frames come too late.
        found = governor.step(1.0 if step < 10 or lowered < 3 else 0.3, fleet, EVERY_S * step)
        if sum(found.values()) < lowered:
            rises_s.append(EVERY_S * step)
        lowered = sum(found.values())
    waits_s = [later - earlier for earlier, later in pairwise(rises_s)]
    assert len(waits_s) >= 4
    assert waits_s[-1] > 4 * min(waits_s)


@given(fleet=fleets)
def test_a_hiccup_slows_nobody(fleet):
    assert not any(any(found.values()) for found in run(Governor(), fleet, [0.1, 3.0, 3.0, 0.1] * 20))


def test_rates_come_back_ever_faster_while_that_goes_well():
    governor, fleet = Governor(), {f"cam-{n}": 0 for n in range(100)}
    lowered = [sum(found.values()) for found in run(governor, fleet, [3.0] * 100 + [0.1] * 200)][100:]
    rises = [before - after for before, after in pairwise(lowered) if after < before]
    assert rises[:4] == [12, 24, 48, 48]
    assert lowered[int(30.0 / EVERY_S)] == 0


def test_the_share_that_is_taken_stays_when_cameras_leave_because_they_are_still():
    governor, fleet = Governor(), {f"cam-{n}": 0 for n in range(60)}
    taken = sum(run(governor, fleet, [1.0] * 20)[-1].values())
    moving = dict(list(fleet.items())[:12])
    assert sum(governor.step(0.75, moving, 6.0).values()) == round(taken * 12 / 60)
    assert governor.step(0.75, {}, 6.3) == {}


def test_the_harder_it_is_pressed_the_more_is_let_go():
    fleet = {f"cam-{n}": 0 for n in range(100)}
    first = [sum(run(Governor(), fleet, [pressure] * 10)[-1].values()) for pressure in (0.81, 1.0, 1.2, 5.0)]
    assert first == sorted(first)
    assert first[0] == 11
    assert first[-1] == 90


@given(fleet=fleets, pressure=st.floats(0.85, 3.0))
def test_rates_are_not_lowered_again_before_it_shows_what_that_did(fleet, pressure):
    lowered = [sum(found.values()) for found in run(Governor(), fleet, [pressure] * 100)]
    changes = [number for number, (before, after) in enumerate(pairwise(lowered)) if after > before]
    assert all((later - earlier) * EVERY_S >= 2.4 for earlier, later in pairwise(changes))


COUNTS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=60)


@given(looks=COUNTS)
def test_losses_are_pressure_between_bounds(looks):
    losses, due, lost = Losses(), 0, 0
    for number, (kept, gone) in enumerate(looks):
        due, lost = due + kept + gone, lost + gone
        assert 0.0 <= losses.pressure(due, lost, EVERY_S * number) <= 2.6


def said_of(losing, seconds=12.0):
    """Pressure over time, of ten frames due at each look and a share of them lost that depends on the time."""
    losses, lost, said = Losses(), 0.0, []
    for n in range(round(seconds / EVERY_S)):
        lost += 10 * losing(EVERY_S * n)
        said.append(losses.pressure(10 * (n + 1), lost, EVERY_S * n))
    return said


def test_a_tenth_of_the_frames_lost_is_where_rates_are_lowered():
    assert said_of(lambda _: 0.1)[-1] == pytest.approx(0.8)


def test_losses_count_once_they_last_and_no_longer_than_they_do():
    said = said_of(lambda at_s: 0.9 if at_s < 10.0 else 0.0, 14.0)
    assert all(pressure == 0.0 for pressure in said[: int(6.0 / EVERY_S)])
    assert said[int(9.0 / EVERY_S)] == pytest.approx(2.4)
    assert all(pressure == 0.0 for pressure in said[int(12.5 / EVERY_S) :])


@pytest.mark.parametrize("begins_s", [0.0, 5.0, 20.0])
def test_a_burst_of_losses_slows_nobody(begins_s):
    said = said_of(lambda at_s: 0.9 if begins_s <= at_s < begins_s + 3.5 else 0.01, 40.0)
    fleet = dict.fromkeys("abcdefgh", 0)
    assert not any(any(found.values()) for found in run(Governor(), fleet, said))


def test_where_a_camera_goes_counting_begins_anew():
    losses = Losses()
    said = [losses.pressure(1000 + 10 * n, 100 + 5 * n, EVERY_S * n) for n in range(25)]
    again = [losses.pressure(500 + 10 * n, 50 + 10 * n, 10.0 + EVERY_S * n) for n in range(25)]
    assert said[-1] == pytest.approx(1.6)
    assert all(pressure == 0.0 for pressure in again[:20])
    assert again[-1] == pytest.approx(2.6)


@given(fleet=fleets)
def test_where_most_frames_are_lost_rates_fall_though_the_others_come_in_time(fleet):
    governor, losses = Governor(), Losses()
    for n in range(60):
        found = governor.step(max(0.4, losses.pressure(100 * n, 60 * n, EVERY_S * n)), fleet, EVERY_S * n)
    assert any(found.values())
