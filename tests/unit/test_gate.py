"""The gate's decision on synthetic scores: who may pass and who must not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from streamkd.refresh.bounds import mean_bounds, unit_means
from streamkd.refresh.gate import AS_FILMED, OPERATORS, GateEvidence, GateLimits, Paired, agreement, decide

LIMITS = GateLimits()


def two_class(foreground):
    foreground = np.clip(foreground, 0.0, 1.0)
    return np.stack([1.0 - foreground, foreground], axis=1)


def paired(name, rng, *, units, gain=0.0, spread=0.02, per_unit=2, hard=False):
    """Parent and candidate around a reference; `gain` moves the candidate towards it (or away, if negative)."""
    n = units * per_unit
    truth = rng.random(n)
    reference = (truth > 0.5).astype(float) if hard else truth
    error = rng.uniform(0.25, 0.45, n) * np.where(reference > 0.5, -1, 1)
    candidate_error = error * (1.0 - gain) + rng.normal(0, spread, n)
    return Paired(
        name=name,
        units=tuple(f"{name}-{i // per_unit}" for i in range(n)),
        reference=two_class(reference),
        parent=two_class(reference + error),
        candidate=two_class(reference + candidate_error),
    )


def evidence(seed=0, *, anchor_gain=0.05, site_gains=(0.4,), site_units=10):
    rng = np.random.default_rng(seed)
    anchors = [paired(AS_FILMED, rng, units=6, gain=anchor_gain, hard=True)]
    anchors += [paired(f"group{i}", rng, units=6, gain=anchor_gain, hard=True) for i in range(len(site_gains))]
    site = [paired(f"group{i}", rng, units=site_units, gain=g, per_unit=1) for i, g in enumerate(site_gains)]
    times = rng.uniform(1.9, 2.1, 40)
    return GateEvidence(tuple(anchors), tuple(site), times, times * rng.uniform(0.97, 1.03, 40))


def shown(case, seed=0):
    return decide(case, LIMITS, seed=seed)


def failed_parts(report):
    return {check.part for check in report.checks if not check.passed}


def test_a_better_candidate_passes():
    report = shown(evidence())
    assert report.passed, report.reason


def test_an_identical_candidate_is_refused_for_lack_of_benefit():
    case = evidence()
    same = [replace(one, candidate=one.parent) for one in (*case.anchors, *case.site)]
    count = len(case.anchors)
    report = shown(replace(case, anchors=tuple(same[:count]), site=tuple(same[count:])))
    assert not report.passed
    assert failed_parts(report) == {"benefit"}


def test_worse_on_human_labels_is_refused_however_much_the_judges_like_it():
    report = shown(evidence(anchor_gain=-0.3, site_gains=(0.8,)))
    assert not report.passed
    assert failed_parts(report) == {"safety"}


def test_good_on_average_but_bad_in_one_camera_group_is_refused():
    report = shown(evidence(site_gains=(0.8, 0.8, 0.8, -0.6)))
    assert not report.passed
    assert [check.group for check in report.checks if check.part == "safety" and not check.passed] == ["group3"]


def test_bad_in_the_look_of_one_camera_group_is_refused():
    case = evidence(site_gains=(0.5, 0.5))
    rng = np.random.default_rng(1)
    dark = paired("group1", rng, units=6, gain=-0.4, hard=True)
    report = shown(replace(case, anchors=(*case.anchors[:2], dark)))
    assert not report.passed


def test_shuffled_answers_are_refused():
    case = evidence()
    rng = np.random.default_rng(2)
    wrong = [replace(one, candidate=rng.permutation(one.candidate)) for one in (*case.anchors, *case.site)]
    count = len(case.anchors)
    report = shown(replace(case, anchors=tuple(wrong[:count]), site=tuple(wrong[count:])))
    assert not report.passed


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_constant_answers_are_refused(value):
    case = evidence()
    flat = [replace(one, candidate=two_class(np.full(len(one.units), value))) for one in (*case.anchors, *case.site)]
    count = len(case.anchors)
    report = shown(replace(case, anchors=tuple(flat[:count]), site=tuple(flat[count:])))
    assert not report.passed


@pytest.mark.parametrize("value", [np.nan, np.inf, 3.0])
def test_values_that_are_no_probabilities_are_refused(value):
    case = evidence()
    candidate = case.site[0].candidate.copy()
    candidate[0, 0] = value
    report = shown(replace(case, site=(replace(case.site[0], candidate=candidate),)))
    assert not report.passed
    assert failed_parts(report) == {"sane"}


def test_a_slower_candidate_is_refused():
    case = evidence()
    report = shown(replace(case, candidate_ms=case.parent_ms * 1.3))
    assert not report.passed
    assert failed_parts(report) == {"speed"}


def test_worse_calibration_is_refused():
    case = evidence()
    one = case.anchors[0]
    parent = two_class(np.where(one.reference[:, 1] > 0.5, 0.9, 0.1))
    right = np.arange(len(parent)) % 2 != 0  # half are wrong, and as sure as the others
    candidate = np.where(right[:, None], parent, parent[:, ::-1])
    sure = Paired(AS_FILMED, one.units, one.reference, parent, candidate)
    limits = replace(LIMITS, safety_margin=1.0)
    report = decide(replace(case, anchors=(sure, *case.anchors[1:])), limits, seed=0)
    assert "calibration" in failed_parts(report)


def test_too_few_held_out_moments_are_not_enough_evidence():
    report = shown(evidence(site_units=4, site_gains=(0.9,)))
    assert not report.passed
    assert "not enough evidence" in report.reason


def test_no_anchor_clips_are_not_enough_evidence():
    report = shown(replace(evidence(), anchors=()))
    assert not report.passed
    assert "not enough evidence" in report.reason


def test_no_footage_is_not_enough_evidence():
    report = shown(replace(evidence(), site=()))
    assert not report.passed
    assert "not enough evidence" in report.reason


def test_repetitions_of_one_moment_are_no_further_evidence():
    case = evidence(site_gains=(0.9,), site_units=4)
    one = case.site[0]
    parts = (np.tile(part, (5, 1)) for part in (one.reference, one.parent, one.candidate))
    many = Paired(one.name, one.units * 5, *parts)
    assert not shown(replace(case, site=(many,))).passed


def test_a_camera_group_without_footage_does_not_block_the_others():
    case = evidence(site_gains=(0.6, 0.6))
    rng = np.random.default_rng(3)
    report = shown(replace(case, site=(case.site[0], paired("group1", rng, units=2, per_unit=1))))
    assert report.passed, report.reason


def test_the_report_is_json_without_infinities():
    case = evidence(site_units=1)
    text = json.dumps(shown(case).as_json(), allow_nan=False)
    assert json.loads(text)["passed"] is False


def test_agreement_is_one_minus_half_of_briers_score():
    probs, reference = np.array([[0.3, 0.7]]), np.array([[0.0, 1.0]])
    assert agreement(probs, reference) == pytest.approx([1 - 0.5 * (0.09 + 0.09)])


def test_every_unit_counts_alike():
    means = unit_means(np.array([1.0, 1.0, 1.0, 4.0]), ("a", "a", "a", "b"))
    assert means.tolist() == [1.0, 4.0]


def test_one_unit_proves_nothing():
    bounds = mean_bounds(np.array([0.5]), 0.95, np.random.default_rng(0))
    assert bounds.low == -np.inf


DRAWS = {
    "normal": lambda rng, n: rng.normal(0, 1, n),
    "uniform": lambda rng, n: rng.uniform(-1, 1, n),
    "heavy-tailed": lambda rng, n: rng.standard_t(3, n),
}


@pytest.mark.parametrize("n", [5, 6, 10, 25])
@pytest.mark.parametrize("draw", sorted(DRAWS))
def test_the_lower_bound_of_few_units_holds_as_often_as_it_says(n, draw):
    """A null candidate has a true mean of 0: a bound above 0 is a false accept; 5 % and three standard errors."""
    rng = np.random.default_rng(n)
    rounds = 1000
    false = sum(mean_bounds(DRAWS[draw](rng, n), 0.95, rng, rounds=500).low > 0 for _ in range(rounds))
    assert false / rounds <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / rounds)


@pytest.mark.slow
def test_candidates_that_only_differ_by_noise_seldom_pass():
    """The whole decision, over four camera groups: at most 5 % of null candidates, three standard errors on top."""
    rounds, passed = 300, 0
    limits = replace(LIMITS, rounds=500)
    for seed in range(rounds):
        passed += decide(evidence(seed, anchor_gain=0.0, site_gains=(0.0,) * 4), limits, seed=seed).passed
    assert passed / rounds <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / rounds)


def with_operators(gain, *, units=10):
    told = paired(OPERATORS, np.random.default_rng(7), units=units, gain=gain, per_unit=1, hard=True)
    return replace(evidence(), operators=told)


def test_a_candidate_that_loses_what_operators_confirmed_is_refused():
    report = shown(with_operators(-0.6))
    assert not report.passed
    assert "events that operators judged" in report.reason


def test_a_candidate_that_agrees_with_the_operators_passes():
    assert shown(with_operators(0.2)).passed


def test_a_few_judged_events_decide_nothing():
    assert shown(with_operators(-0.6, units=4)).passed


def test_nonsense_on_judged_events_is_refused():
    case = with_operators(0.2)
    broken = replace(case.operators, candidate=np.full_like(case.operators.candidate, np.nan))
    assert failed_parts(shown(replace(case, operators=broken))) == {"sane"}
