"""The watch after a swap: an exact test, and what it decides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, poisson

from streamkd.refresh.watch import LOOKS, Alarms, WatchLimits, chance_at_rate, chance_of_as_many, too_many

counts = st.integers(0, 300)
seconds = st.floats(1.0, 1e5)
alarms = st.builds(Alarms, counts, seconds)
ratios = st.floats(1.0, 5.0)
LIMITS = WatchLimits(alarms_per_hour=0.0)  # the parent's rate alone decides
TOLERANT = WatchLimits()
HOUR_S = 3600.0


@given(alarms, alarms, ratios)
def test_the_chance_is_the_binomial_tail(before, after, ratio):
    share = ratio * after.watched_s / (before.watched_s + ratio * after.watched_s)
    tail = binom.sf(after.events - 1, before.events + after.events, share)
    assert chance_of_as_many(before, after, ratio) == pytest.approx(tail, rel=1e-6, abs=1e-12)


@given(alarms, alarms, ratios, st.integers(1, 20))
def test_more_events_are_less_likely(before, after, ratio, more):
    worse = Alarms(after.events + more, after.watched_s)
    assert chance_of_as_many(before, worse, ratio) <= chance_of_as_many(before, after, ratio) + 1e-12


@given(alarms, st.integers(1, 300), seconds, ratios)
def test_a_shorter_watch_with_as_many_events_is_less_likely(before, events, watched_s, ratio):
    fast, slow = Alarms(events, watched_s), Alarms(events, 2.0 * watched_s)
    assert chance_of_as_many(before, fast, ratio) <= chance_of_as_many(before, slow, ratio) + 1e-12


@given(st.dictionaries(st.sampled_from("abcd"), alarms), st.dictionaries(st.sampled_from("abcd"), alarms))
def test_no_more_than_the_ratio_allows_is_never_taken_back(before, after):
    calm = {
        name: Alarms(
            min(one.events, int(LIMITS.ratio * before[name].events * one.watched_s / before[name].watched_s)),
            one.watched_s,
        )
        for name, one in after.items()
        if name in before
    }
    assert too_many(before, calm, LIMITS) is None


@given(st.dictionaries(st.sampled_from("abcd"), alarms))
def test_without_a_time_before_nothing_is_concluded(after):
    assert too_many({}, after, LIMITS) is None
    assert too_many(dict.fromkeys(after, Alarms(0, 0.0)), after, LIMITS) is None


def test_a_flood_is_named():
    before = {"gate": Alarms(2, 3600.0), "yard": Alarms(3, 3600.0)}
    after = {"gate": Alarms(30, 450.0), "yard": Alarms(1, 450.0)}
    reason = too_many(before, after, LIMITS)
    assert reason is not None
    assert reason.startswith("camera gate raised 30 action events in 7.5 min, 2 action events in 60.0 min before")


def test_fewer_alarms_are_no_reason():
    assert too_many({"gate": Alarms(100, 3600.0)}, {"gate": Alarms(0, 3600.0)}, LIMITS) is None


@given(alarms, st.floats(0.1, 400.0))
def test_the_chance_at_a_rate_is_the_poisson_tail(after, per_hour):
    tail = poisson.sf(after.events - 1, per_hour * after.watched_s / HOUR_S)
    assert chance_at_rate(after, per_hour) == pytest.approx(tail, rel=1e-6, abs=1e-9)


@given(
    st.dictionaries(st.sampled_from("abcd"), alarms),
    st.dictionaries(st.sampled_from("abcd"), alarms),
    st.floats(0.0, 400.0),
    st.floats(0.0, 400.0),
)
def test_who_tolerates_more_takes_back_less(before, after, some, more):
    strict, lenient = (
        too_many(before, after, WatchLimits(alarms_per_hour=rate)) for rate in (min(some, more), max(some, more))
    )
    assert lenient is None or strict is not None


def test_a_flood_after_a_blind_parent_is_named():
    reason = too_many({"gate": Alarms(0, HOUR_S)}, {"gate": Alarms(15, 450.0)}, TOLERANT)
    assert reason is not None
    assert "or at 12 an hour if that is more" in reason


def taken_back_share(before_rate: float, after_rate: float, limits: WatchLimits) -> float:
    """How often a watch takes a model back; alarms an hour of the two models, on each of four cameras."""
    rng, rounds, cameras = np.random.default_rng(0), 2000, ("a", "b", "c", "d")
    taken_back = 0
    for _ in range(rounds):
        before = {name: Alarms(int(rng.poisson(before_rate)), HOUR_S) for name in cameras}
        seen, last = dict.fromkeys(cameras, 0), 0.0
        for look in LOOKS:
            seen = {name: count + int(rng.poisson(after_rate * (look - last))) for name, count in seen.items()}
            last = look
            after = {name: Alarms(count, look * HOUR_S) for name, count in seen.items()}
            if too_many(before, after, limits) is not None:
                taken_back += 1
                break
    return taken_back / rounds


def test_a_model_with_twice_the_rate_is_kept_as_often_as_promised():
    assert taken_back_share(5.0, LIMITS.ratio * 5.0, LIMITS) <= 1.0 - LIMITS.confidence


@pytest.mark.parametrize("parent", [0.0, 1.0, 5.0])
def test_a_healed_model_at_a_tolerated_rate_is_kept_as_often_as_promised(parent):
    assert taken_back_share(parent, TOLERANT.alarms_per_hour, TOLERANT) <= 1.0 - TOLERANT.confidence


def test_without_a_tolerated_rate_a_healed_model_on_a_busy_site_would_go():
    assert taken_back_share(0.0, 40.0, LIMITS) > 0.99
    assert taken_back_share(0.0, 40.0, WatchLimits(alarms_per_hour=40.0)) <= 0.01


@pytest.mark.parametrize("parent", [0.0, 5.0])
def test_a_flood_is_taken_back_whatever_the_parent_raised(parent):
    assert taken_back_share(parent, 60.0, TOLERANT) > 0.99
