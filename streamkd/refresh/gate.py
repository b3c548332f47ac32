"""The gate: may this candidate replace its parent? Pure arithmetic on scores; the evidence is gathered elsewhere.

Two parts, because a teacher must not judge its own pupil (docs/decisions/: the two-part gate):

- *safety*: on clips with human labels, as filmed and in the look of each camera group, the candidate is not worse than
  its parent by more than a margin; on the site's held-out clips it does not drift from the judges in any camera group;
- *benefit*: on the site's held-out clips it is nearer than its parent to judges that made none of the training labels,
  in at least one camera group.

Safety must hold everywhere, so every part is tested at the full level: the chance to pass a candidate that is unsafe
somewhere stays below `1 - confidence` (intersection-union test, Berger 1982). Benefit has to show somewhere only, so
the level is shared between the groups (Bonferroni).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from streamkd.refresh.bounds import MeanBounds, mean_bounds, unit_means

if TYPE_CHECKING:
    from numpy.typing import NDArray

Part = Literal["sane", "safety", "benefit", "speed", "calibration"]
AS_FILMED = "as filmed"
OPERATORS = "judged by operators"


@dataclass(frozen=True, slots=True)
class GateLimits:
    """What the gate demands.

    Attributes:
        safety_margin: Loss of agreement with human labels (0..1 scale of `agreement`) that is still accepted.
        site_margin: Loss of agreement with the judges that is still accepted in a camera group; wider, because a site
            gives few clips a group, and because the judges are no humans.
        confidence: Of the bounds.
        max_slowdown: CPU time of a step, candidate to parent.
        max_ece_rise: Rise of the expected calibration error on the anchor clips. Coarse: a few dozen clips can't say
            more, and `agreement` is a proper score that contains calibration already.
        min_units: Fewer independent sources or moments than this prove nothing.
        rounds: Bootstrap draws.
    """

    safety_margin: float = 0.02
    site_margin: float = 0.05
    confidence: float = 0.95
    max_slowdown: float = 1.15
    max_ece_rise: float = 0.10
    min_units: int = 5
    rounds: int = 4000


@dataclass(frozen=True, slots=True)
class Paired:
    """What parent and candidate say about the same N clips.

    Attributes:
        name: Camera group; for anchor clips the group whose look they have, or `AS_FILMED`.
        units: Per clip the independent unit it belongs to: a source, or a moment at a site.
        reference: `[N, C]` what is true (one-hot) or what the judges say.
        parent: `[N, C]` probabilities.
        candidate: `[N, C]` probabilities.
    """

    name: str
    units: tuple[str, ...]
    reference: NDArray[np.float64]
    parent: NDArray[np.float64]
    candidate: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class GateEvidence:
    """All that the gate looks at.

    Attributes:
        anchors: Clips with human labels; the first entry as filmed, the others in the look of a camera group.
        site: Held-out clips of the site, one entry per camera group.
        parent_ms: `[K]` CPU milliseconds of K steps, measured in turns with
        candidate_ms: `[K]`.
        classes: What the columns are.
        background: Which of them is no action.
        operators: Events that operators have confirmed or rejected, all cameras together; None where there are none.
    """

    anchors: tuple[Paired, ...]
    site: tuple[Paired, ...]
    parent_ms: NDArray[np.float64]
    candidate_ms: NDArray[np.float64]
    classes: tuple[str, ...] = ("normal", "fight")
    background: str = "normal"
    operators: Paired | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its answer.

    Attributes:
        part: Which part of the gate it belongs to.
        group: Camera group or look, "" where it is about the model as a whole.
        passed: Whether this check alone is satisfied.
        reason: One line for people.
        value: What was measured.
        low: Lower bound of the value, where it has one.
        high: Upper bound of the value.
        limit: What value or bound is compared with.
        units: Independent units behind it.
    """

    part: Part
    group: str
    passed: bool
    reason: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    units: int = 0


@dataclass(frozen=True, slots=True)
class GateReport:
    """The decision and everything behind it.

    Attributes:
        passed: Whether the candidate may replace its parent.
        reason: One line for people.
        checks: In the order in which they were made.
        figures: Reported, not decided on (ROC AUC on the anchor clips, …).
        seed: Of the bootstrap.
    """

    passed: bool
    reason: str
    checks: tuple[Check, ...]
    figures: dict[str, float] = field(default_factory=dict)
    seed: int = 0

    def as_json(self) -> dict[str, Any]:
        """Plain values only; a bound that is infinite becomes None, which JSON can hold."""
        raw = asdict(self)
        raw["checks"] = [{name: _jsonable(value) for name, value in asdict(check).items()} for check in self.checks]
        raw["figures"] = {name: _jsonable(value) for name, value in self.figures.items()}
        return raw


def agreement(probs: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """`1 - |p - q|^2 / 2` per clip, 0..1: one minus half of Brier's score, against hard or soft references.

    A proper score: it is highest in expectation for `p = E[q]`. With two classes it is `1 - (p - q)^2`. Bounded, so
    that no single clip rules the mean, and smoother than ROC AUC on a few dozen clips.

    Args:
        probs: `[N, C]`.
        reference: `[N, C]`.
    """
    return np.asarray(1.0 - 0.5 * np.square(probs - reference).sum(axis=1), dtype=np.float64)


def decide(evidence: GateEvidence, limits: GateLimits, *, seed: int) -> GateReport:
    """Judge a candidate. The same evidence, limits and seed give the same report."""
    broken = _broken(evidence)
    if broken is not None:
        return GateReport(passed=False, reason=f"Refused: {broken.reason}", checks=(broken,), seed=seed)
    rng = np.random.default_rng(seed)
    safety = [_safety(one, limits, rng) for one in evidence.anchors]
    if not safety:
        safety = [Check("safety", "", passed=False, reason="not enough evidence: there are no anchor clips")]
    guarded = [_site_safety(one, limits, rng) for one in evidence.site]
    benefit = [_benefit(one, limits, rng, groups=len(evidence.site)) for one in evidence.site]
    whole = [_speed(evidence, limits), *(_calibration(one, limits) for one in evidence.anchors[:1])]
    told = [] if evidence.operators is None else [_operator_safety(evidence.operators, limits, rng)]
    musts = [*safety, *guarded, *told, *whole]
    checks = (Check("sane", "", passed=True, reason="every answer is a probability"), *musts, *benefit)
    failed = [check for check in musts if not check.passed]
    if failed:
        reason = f"Refused: {failed[0].reason}{_more(len(failed) - 1)}."
    elif not any(check.passed for check in benefit):
        reason = f"Refused: {_no_benefit(benefit)}."
    else:
        reason = "Passed: " + "; ".join(check.reason for check in benefit if check.passed) + "."
    passed = reason.startswith("Passed")
    return GateReport(passed=passed, reason=reason, checks=checks, figures=_figures(evidence), seed=seed)


def _broken(evidence: GateEvidence) -> Check | None:
    """A check that failed because an answer is not a probability, or None."""
    for who in ("candidate", "parent"):
        for one in (*evidence.anchors, *evidence.site, *([evidence.operators] if evidence.operators else [])):
            probs = getattr(one, who)
            if not np.isfinite(probs).all():
                return Check("sane", one.name, passed=False, reason=f"the {who} gives values that are not finite")
            if (probs < -1e-4).any() or (np.abs(probs.sum(axis=1) - 1.0) > 1e-3).any():
                return Check("sane", one.name, passed=False, reason=f"the {who} gives values that are no probabilities")
    return None


def _gain(one: Paired) -> NDArray[np.float64]:
    """Per unit, how much nearer to the reference the candidate is: `[U]`."""
    gain = agreement(one.candidate, one.reference) - agreement(one.parent, one.reference)
    return unit_means(gain, one.units)


def _safety(one: Paired, limits: GateLimits, rng: np.random.Generator) -> Check:
    bounds = mean_bounds(_gain(one), limits.confidence, rng, rounds=limits.rounds)
    look = "" if one.name == AS_FILMED else f" in the look of camera group {one.name}"
    if bounds.n < limits.min_units:
        reason = (
            f"not enough evidence: the labelled clips{look} come from {bounds.n} sources, {limits.min_units} needed"
        )
        return Check("safety", one.name, passed=False, reason=reason, units=bounds.n)
    return _within(
        one, bounds, limits.safety_margin, ("no loss", "a loss can't be ruled out"), f"on labelled clips{look}"
    )


def _site_safety(one: Paired, limits: GateLimits, rng: np.random.Generator) -> Check:
    bounds = mean_bounds(_gain(one), limits.confidence, rng, rounds=limits.rounds)
    if bounds.n < limits.min_units:
        # A camera that was away during the harvest must not block the others; the anchor clips in its group's look do
        # stand for it.
        reason = f"camera group {one.name} gave {bounds.n} held-out moments only; judged by labelled clips alone"
        return Check("safety", one.name, passed=True, reason=reason, units=bounds.n)
    where = f"from the judges in camera group {one.name}"
    return _within(one, bounds, limits.site_margin, ("no drift", "drift can't be ruled out"), where)


def _operator_safety(one: Paired, limits: GateLimits, rng: np.random.Generator) -> Check:
    bounds = mean_bounds(_gain(one), limits.confidence, rng, rounds=limits.rounds)
    if bounds.n < limits.min_units:
        reason = f"operators have judged {bounds.n} hours of events with clips only; judged by the rest alone"
        return Check("safety", one.name, passed=True, reason=reason, units=bounds.n)
    words = ("no loss", "a loss can't be ruled out")
    return _within(one, bounds, limits.site_margin, words, "on events that operators judged")


def _within(one: Paired, bounds: MeanBounds, margin: float, words: tuple[str, str], where: str) -> Check:
    """Safe if the lower bound of the gain lies above `-margin`; `words` say so, or that it does not."""
    passed = bounds.low > -margin
    reason = f"{words[0] if passed else words[1]} {where} ({bounds.mean:+.3f}, at least {bounds.low:+.3f})"
    return Check("safety", one.name, passed, reason, bounds.mean, bounds.low, bounds.high, -margin, bounds.n)


def _benefit(one: Paired, limits: GateLimits, rng: np.random.Generator, *, groups: int) -> Check:
    gain = _gain(one)
    level = 1.0 - (1.0 - limits.confidence) / groups
    bounds = mean_bounds(gain, level, rng, rounds=limits.rounds)
    if bounds.n < limits.min_units:
        reason = (
            f"not enough evidence: {bounds.n} held-out moments in camera group {one.name}, {limits.min_units} needed"
        )
        return Check("benefit", one.name, passed=False, reason=reason, units=bounds.n)
    passed = bounds.low > 0.0
    verdict = "nearer to the judges" if passed else "not shown to be nearer to the judges"
    reason = f"{verdict} in camera group {one.name} ({bounds.mean:+.3f}, at least {bounds.low:+.3f})"
    return Check("benefit", one.name, passed, reason, bounds.mean, bounds.low, bounds.high, 0.0, bounds.n)


def _speed(evidence: GateEvidence, limits: GateLimits) -> Check:
    """Median of the ratios of neighbouring measurements: a processor that slows down slows both of a pair."""
    if not len(evidence.candidate_ms) or len(evidence.candidate_ms) != len(evidence.parent_ms):
        return Check("speed", "", passed=False, reason="not enough evidence: no timings")
    ratio = float(np.median(evidence.candidate_ms / evidence.parent_ms))
    passed = math.isfinite(ratio) and ratio <= limits.max_slowdown
    reason = f"{'as fast' if passed else 'slower'}: a step takes {ratio:.2f} times its parent's"
    return Check("speed", "", passed, reason, ratio, limit=limits.max_slowdown, units=len(evidence.parent_ms))


def _calibration(one: Paired, limits: GateLimits) -> Check:
    parent, candidate = _ece(one.parent, one.reference), _ece(one.candidate, one.reference)
    rise = candidate - parent
    passed = rise <= limits.max_ece_rise
    verdict = "calibrated" if passed else "worse calibrated"
    reason = f"{verdict}: calibration error on labelled clips {parent:.3f} before, {candidate:.3f} now"
    return Check("calibration", one.name, passed, reason, rise, limit=limits.max_ece_rise, units=len(set(one.units)))


def _ece(probs: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    from streamkd.evaluate.metrics import expected_calibration_error  # noqa: PLC0415 (scikit-learn takes a moment)

    return expected_calibration_error(probs, reference.argmax(axis=1).astype(np.int64))


def _figures(evidence: GateEvidence) -> dict[str, float]:
    from streamkd.evaluate.metrics import roc_auc  # noqa: PLC0415 (scikit-learn takes a moment)

    figures: dict[str, float] = {}
    for one in evidence.anchors[:1]:
        truth = one.reference.argmax(axis=1)
        for index, name in enumerate(evidence.classes):
            for who in ("parent", "candidate") if name != evidence.background else ():
                area = roc_auc(getattr(one, who)[:, index], truth == index)
                if area is not None:
                    figures[f"anchor_roc_auc_{name}_{who}"] = area
    for kind, parts in (("anchor", evidence.anchors[:1]), ("site", evidence.site)):
        for one in parts:
            for who in ("parent", "candidate"):
                name = f"{kind}_agreement_{who}" if kind == "anchor" else f"{kind}_agreement_{one.name}_{who}"
                figures[name] = float(agreement(getattr(one, who), one.reference).mean())
    return figures


def _no_benefit(benefit: list[Check]) -> str:
    if not benefit:
        return "not enough evidence: no held-out clips from the site"
    known = [check for check in benefit if check.value is not None]
    best = max(known, key=lambda check: check.low if check.low is not None else -math.inf) if known else benefit[0]
    return best.reason


def _more(count: int) -> str:
    return f"; and {count} more" if count > 0 else ""


def _jsonable(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value


__all__ = [
    "AS_FILMED",
    "OPERATORS",
    "Check",
    "GateEvidence",
    "GateLimits",
    "GateReport",
    "Paired",
    "agreement",
    "decide",
]
