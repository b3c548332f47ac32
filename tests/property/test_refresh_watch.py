"""The watch after a swap: an exact test, and what it decides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from streamkd.refresh.watch import LOOKS, Alarms, WatchLimits, chance_of_as_many, too_many

counts = st.integers(0, 300)
seconds = st.floats(1.0, 1e5)
alarms = st.builds(Alarms, counts, seconds)
ratios = st.floats(1.0, 5.0)
LIMITS = WatchLimits()


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


def test_a_model_with_twice_the_rate_is_kept_as_often_as_promised():
    rng = np.random.default_rng(0)
    rounds, hour_s, cameras = 2000, 3600.0, ("a", "b", "c", "d")
    taken_back = 0
    for _ in range(rounds):
        before = {name: Alarms(int(rng.poisson(5.0)), hour_s) for name in cameras}
        seen, last = dict.fromkeys(cameras, 0), 0.0
        for look in LOOKS:
            seen = {name: count + int(rng.poisson(LIMITS.ratio * 5.0 * (look - last))) for name, count in seen.items()}
            last = look
            after = {name: Alarms(count, look * hour_s) for name, count in seen.items()}
            if too_many(before, after, LIMITS) is not None:
                taken_back += 1
                break
    assert taken_back / rounds <= 1.0 - LIMITS.confidence
