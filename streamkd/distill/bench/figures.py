"""What the report says of each row, from the file of results and from nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streamkd.distill.bench.results import DataFacts, Results, scores
from streamkd.distill.bench.rows import BASELINE, BY_NAME
from streamkd.evaluate.calibrate import fit_temperature
from streamkd.evaluate.goals import (
    Estimate,
    ZeroAlarmRecall,
    auc_estimate,
    gap_closed,
    paired_gain,
    recall_at_zero_false_alarms,
    seed_auc,
)
from streamkd.evaluate.metrics import ActionMetrics, action_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RowFigures:
    """Everything that the report says of one row at one budget."""

    name: str
    seeds: int
    auc: Estimate
    gain: Estimate | None
    closed: float | None
    float_auc: float | None
    metrics: ActionMetrics
    zero: ZeroAlarmRecall
    long_auc: float | None
    delay_s: float | None
    detected: str
    false_events: str
    took_s: float
    scores: NDArray[np.float64]  # [S, N] int8


def budgets(results: Results) -> list[str]:
    """The budgets that were used, in order of their first use."""
    return list(dict.fromkeys(str(one["budget"]) for one in results.entries))


def row_figures(results: Results, budget: str) -> list[RowFigures]:
    """Figures of all rows at one budget, in order of their first entry; clips that none has scored are left out."""
    facts = need_facts(results)
    found: dict[str, RowFigures] = {}
    names = list(dict.fromkeys(one["row"] for one in results.entries if one["budget"] == budget))
    ordered = [BASELINE, *(name for name in names if name != BASELINE)] if BASELINE in names else names
    for name in ordered:
        entries = [one for one in results.entries if (one["row"], one["budget"]) == (name, budget)]
        base = BY_NAME[name].against if name in BY_NAME else BASELINE
        against = found.get(base) if base != name else None
        if base not in found and base != name:
            others = [one for one in results.entries if (one["row"], one["budget"]) == (base, budget)]
            against = _figures(facts, base, others, None) if others else None
        found[name] = _figures(facts, name, entries, against)
    return list(found.values())


def _figures(facts: DataFacts, name: str, entries: Sequence[dict[str, Any]], against: RowFigures | None) -> RowFigures:
    int8 = scores(entries, "int8", len(facts.files))
    kept = np.asarray(np.isfinite(int8).all(axis=0))
    positive, sources = facts.positive[kept], [one for one, keep in zip(facts.sources, kept, strict=True) if keep]
    alarm = scores(entries, "alarm", len(facts.files))[:, kept].mean(axis=0)
    normal_s = float(facts.seconds[kept & ~facts.positive].sum())
    auc = auc_estimate(int8[:, kept], positive, sources)
    gain, closed = None, None
    if against is not None and bool((np.isfinite(against.scores).all(axis=0) >= kept).all()):
        gain = paired_gain(int8[:, kept], against.scores[:, kept], positive, sources)
        teacher = seed_auc(facts.teacher[kept], positive)
        alone = seed_auc(against.scores[:, kept], positive)
        competes = name not in BY_NAME or BY_NAME[name].competes
        if auc.value is not None and teacher is not None and alone is not None and competes:
            closed = gap_closed(auc.value, alone, teacher)
    delays = [one["delay"] for one in entries if "delay" in one]
    medians = [one["median_s"] for one in delays]
    return RowFigures(
        name,
        len(entries),
        auc,
        gain,
        closed,
        seed_auc(scores(entries, "float", len(facts.files))[:, kept], positive),
        clip_metrics(int8[:, kept].mean(axis=0), positive, facts.folds[kept]),
        recall_at_zero_false_alarms(alarm, positive, normal_s),
        mean_of([one["long"]["roc_auc"] for one in entries if "long" in one]),
        None if not medians or None in medians else float(np.mean(medians)),
        _share([(one["detected"], one["junctions"]) for one in delays]),
        _share([(one["false_events"], one["negatives"]) for one in delays]),
        float(np.mean([one["took_s"] for one in entries])),
        int8,
    )


def clip_metrics(values: NDArray[np.float64], positive: NDArray[np.bool_], folds: NDArray[np.int64]) -> ActionMetrics:
    """Figures of mean probabilities `[N]`, each fold scaled by the temperature that suits the others."""
    clipped = values.clip(1e-6, 1 - 1e-6)
    logits = np.stack([np.log(1 - clipped), np.log(clipped)], axis=1)
    probs = np.zeros_like(logits)
    for fold in sorted(set(folds.tolist())):
        rest, here = folds != fold, folds == fold
        use = rest if rest.any() else here
        scale = fit_temperature([row[None] for row in logits[use]], positive[use].astype(int).tolist(), 0)
        raised = np.exp(logits[here] / scale)
        probs[here] = raised / raised.sum(axis=1, keepdims=True)
    return action_metrics(probs, positive.astype(np.int64), ("normal", "action"), "normal")


def chosen_on_other_folds(facts: DataFacts, rows: Sequence[RowFigures]) -> tuple[NDArray[np.float64], dict[int, str]]:
    """Scores `[N]` of the row that is best on the other folds, and which that was for each fold.

    What the best row of a table gives is flattered by the choice. Here the clips of a fold take no part in it.
    """
    scored = np.full(len(facts.files), np.nan)
    names: dict[int, str] = {}
    for fold in sorted(set(facts.folds.tolist())):
        rest, here = facts.folds != fold, facts.folds == fold
        areas = [seed_auc(row.scores[:, rest], facts.positive[rest]) or 0.0 for row in rows]
        best = rows[int(np.argmax(areas))]
        names[int(fold)] = best.name
        scored[here] = best.scores[:, here].mean(axis=0)
    return scored, names


def mean_of(values: Sequence[float | None]) -> float | None:
    """Of those that are known."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _share(pairs: Sequence[tuple[int, int]]) -> str:
    if not pairs:
        return "-"
    some, of = (sum(one[k] for one in pairs) for k in (0, 1))
    return f"{100 * some / of:.0f} % of {of // len(pairs)}" if of else "-"


def need_facts(results: Results) -> DataFacts:
    """The line about the data."""
    if results.facts is None:
        raise ValueError("results without a line about the data")
    return results.facts


__all__ = [
    "RowFigures",
    "budgets",
    "chosen_on_other_folds",
    "clip_metrics",
    "mean_of",
    "need_facts",
    "row_figures",
]
