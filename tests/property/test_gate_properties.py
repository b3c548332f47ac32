"""What holds for the gate's statistics whatever the numbers are."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkd.refresh.bounds import mean_bounds
from streamkd.refresh.gate import AS_FILMED, GateEvidence, GateLimits, Paired, decide

values = st.lists(st.floats(-1, 1, allow_nan=False, width=32), min_size=2, max_size=30).map(np.array)
seeds = st.integers(0, 2**31)


def bounds_of(x, seed, level=0.95):
    return mean_bounds(np.asarray(x, dtype=np.float64), level, np.random.default_rng(seed), rounds=200)


@given(values, seeds)
def test_the_mean_lies_between_its_bounds(x, seed):
    found = bounds_of(x, seed)
    assert found.low <= found.mean + 1e-9
    assert found.mean <= found.high + 1e-9


@given(values, seeds)
def test_the_same_seed_gives_the_same_bounds(x, seed):
    assert bounds_of(x, seed) == bounds_of(x, seed)


@given(values, seeds, st.floats(0, 1, width=32))
def test_adding_a_constant_moves_the_bounds_by_it(x, seed, shift):
    before, after = bounds_of(x, seed), bounds_of(np.asarray(x, np.float64) + shift, seed)
    assert np.isclose(after.low, before.low + shift, atol=1e-6)


@given(values, seeds)
def test_more_confidence_means_wider_bounds(x, seed):
    assert bounds_of(x, seed, 0.99).low <= bounds_of(x, seed, 0.9).low + 1e-12


@given(values, seeds)
def test_the_other_side_is_the_mirror(x, seed):
    plain, mirrored = bounds_of(x, seed), bounds_of(-np.asarray(x, np.float64), seed)
    assert np.isclose(plain.low, -mirrored.high, atol=1e-6)


probabilities = st.integers(5, 20).flatmap(
    lambda n: st.tuples(*[st.lists(st.floats(0, 1, width=32), min_size=n, max_size=n) for _ in range(3)])
)


def as_paired(name, columns):
    reference, parent, candidate = (np.stack([1 - np.array(c), np.array(c)], axis=1) for c in columns)
    return Paired(name, tuple(map(str, range(len(reference)))), np.round(reference), parent, candidate)


def decided(columns, seed, *, candidate=None, limits=None):
    one = as_paired(AS_FILMED, columns)
    if candidate is not None:
        one = Paired(one.name, one.units, one.reference, one.parent, candidate)
    site = Paired("default", one.units, one.reference, one.parent, one.candidate)
    times = np.ones(10)
    case = GateEvidence((one,), (site,), times, times)
    return decide(case, limits or GateLimits(rounds=200), seed=seed)


@given(probabilities, seeds)
@settings(max_examples=50)
def test_a_decision_is_deterministic(columns, seed):
    assert decided(columns, seed).as_json() == decided(columns, seed).as_json()


@given(probabilities, seeds)
@settings(max_examples=50)
def test_nobody_passes_without_a_benefit_whose_lower_bound_is_above_zero(columns, seed):
    report = decided(columns, seed)
    benefits = [check.low for check in report.checks if check.part == "benefit" and check.low is not None]
    assert not report.passed or max(benefits) > 0


@given(probabilities, seeds)
@settings(max_examples=50)
def test_the_parent_itself_never_passes(columns, seed):
    parent = np.stack([1 - np.array(columns[1]), np.array(columns[1])], axis=1)
    assert not decided(columns, seed, candidate=parent).passed
