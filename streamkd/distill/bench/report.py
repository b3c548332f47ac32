"""docs/results/distillation.md, written from the file of results and from nothing else."""

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

    from streamkd.evaluate.cost import StudentCost

FULL = "full"
RANDOM = "labels only, random split"


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
    facts = _need_facts(results)
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
        if auc.value is not None and teacher is not None and alone is not None and against.name == BASELINE:
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
        _metrics(int8[:, kept].mean(axis=0), positive, facts.folds[kept]),
        recall_at_zero_false_alarms(alarm, positive, normal_s),
        _mean([one["long"]["roc_auc"] for one in entries if "long" in one]),
        None if not medians or None in medians else float(np.mean(medians)),
        _share([(one["detected"], one["junctions"]) for one in delays]),
        _share([(one["false_events"], one["negatives"]) for one in delays]),
        float(np.mean([one["took_s"] for one in entries])),
        int8,
    )


def _metrics(values: NDArray[np.float64], positive: NDArray[np.bool_], folds: NDArray[np.int64]) -> ActionMetrics:
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


def goal_rows(results: Results, budget: str) -> list[tuple[str, str, str, str]]:
    """The table of goals: figure, goal, what was measured, whether it is reached."""
    facts = _need_facts(results)
    rows = row_figures(results, budget)
    base = next((row for row in rows if row.name == BASELINE), None)
    distilled = [row for row in rows if row.name in BY_NAME and BY_NAME[row.name].teacher] or [
        row for row in rows if row.name not in BY_NAME
    ]
    distilled = [row for row in distilled if row.name not in BY_NAME or BY_NAME[row.name].labelled == "all"]
    if base is None or not distilled:
        return []
    full = np.isfinite(base.scores).all()
    teacher = auc_estimate(facts.teacher, facts.positive, facts.sources)
    best = max(distilled, key=lambda row: row.auc.value or 0.0)
    picked, names = chosen_on_other_folds(facts, distilled) if full else (best.scores.mean(axis=0), {})
    kept = np.isfinite(picked)
    positive, sources = facts.positive[kept], [one for one, keep in zip(facts.sources, kept, strict=True) if keep]
    auc = auc_estimate(picked[kept], positive, sources)
    gain = paired_gain(picked[kept], base.scores[:, kept], positive, sources)
    closed = gap_closed(auc.value or 0.0, base.auc.value or 0.0, teacher.value or 0.0)
    lost = (best.float_auc or 0.0) - (best.auc.value or 0.0)
    drop = None if best.long_auc is None else (best.auc.value or 0.0) - best.long_auc
    said = ", ".join(sorted(set(names.values()))) or best.name
    zero = best.zero
    bound = (
        f"{zero.normal_s:.0f} s of normal footage; with none in that, up to {zero.alarms_per_hour_bound:.0f} an hour"
    )
    return [
        ("ROC AUC, teacher", "≥ 0.92", estimate(teacher), _met(teacher.value, 0.92)),
        (f"ROC AUC, student with distillation ({said})", "≥ 0.90", estimate(auc), _met(auc.value, 0.90)),
        (
            "gain over the same student trained on labels alone, paired",
            "≥ +3 points, interval above 0",
            points(gain),
            _yes((gain.value or 0.0) >= 0.03 and (gain.low or 0.0) > 0),
        ),
        (
            "share of the teacher-student gap that distillation closes",
            "> 55 %",
            "gap below 5 points" if closed is None else f"{100 * closed:.0f} %",
            "no goal at this gap" if closed is None else _yes(closed > 0.55),
        ),
        ("int8 against float32", "≤ 0.5 points lost", f"{100 * lost:+.2f} points lost", _yes(lost <= 0.005)),
        (
            f"recall at zero false alarms ({bound})",
            "≥ 50 %",
            f"{100 * zero.recall:.0f} %",
            _yes(zero.recall >= 0.5),
        ),
        (
            "AUC on joined streams of ≥ 10 minutes without a reset, against the clip figure",
            "≤ 1 point lost",
            "not measured" if drop is None else f"{100 * drop:+.1f} points lost ({best.long_auc:.3f})",
            "not measured" if drop is None else _yes(drop <= 0.01),
        ),
        (
            f"median delay, junction to event (opened: {best.detected}; at normal cuts: {best.false_events})",
            "≤ 1.5 s",
            "most are missed" if best.delay_s is None else f"{best.delay_s:.1f} s",
            _yes(best.delay_s is not None and best.delay_s <= 1.5),
        ),
    ]


def markdown(results: Results, machine: str, cost: StudentCost, notes: str = "") -> str:
    """The whole document."""
    facts = _need_facts(results)
    parts = [
        _HEAD.format(machine=machine, n=len(facts.files), sources=len(set(facts.sources)), teacher=facts.teacher_name)
    ]
    for budget in sorted(budgets(results), key=lambda name: not name.startswith(FULL)):
        rows = row_figures(results, budget)
        seeds = sorted({one["seed"] for one in results.entries if one["budget"] == budget})
        parts.append(f"## {budget}\n\nSeeds: {', '.join(map(str, seeds))}. Rows: {len(rows)}.")
        goals = goal_rows(results, budget)
        if goals:
            parts.append(_table(("figure", "goal", "measured", "reached"), goals))
        parts.append(_accuracy_table(rows, facts))
        parts.append(_live_table(rows))
        forecast = _forecast_table(results, budget)
        if forecast:
            parts.append(forecast)
    macs, parameters = cost.macs / 1e6, cost.parameters / 1e6
    parts.append(
        f"## Cost\n\n{parameters:.2f} M parameters (goal ≤ 4.5 M), {macs:.0f} M multiply-accumulates a frame at the "
        "live size (goal ≤ 250 M), counted by `torch.utils.flop_counter`: "
        f"{'reached' if cost.within_goal else 'missed'}."
    )
    if notes:
        parts.append(notes.strip())
    return "\n\n".join(parts) + "\n"


_HEAD = """# Distillation: what each objective is worth

Written by `streamkd bench distillation` from `distillation.jsonl` beside it; run again, it goes on where it stopped.
Machine: {machine}.

{n} clips, {sources} sources, the data set's own folds. Every student figure is that of the int8 trunk of its fold,
streaming, pooled out of fold. Intervals: 95 %, bootstrap over sources of the seed-averaged (paired) figure. Teacher:
{teacher}; a clip is never labelled by heads that saw its source, nor those of the fold that the student is measured on.
Every row of a budget trains for as many epochs on the same clips and copies. Weights of the objectives were not
searched. The best row of a table is flattered by the choice; the table of goals takes, for each fold, the row that is
best on the others. Accuracy, precision, recall, F1 are at 0.5 after a temperature fitted on the other folds."""


def _accuracy_table(rows: Sequence[RowFigures], facts: DataFacts) -> str:
    head = ("row", "ROC AUC", "gain, points", "gap closed", "accuracy", "precision", "recall", "F1", "AP", "ECE", "s")
    lines: list[tuple[str, ...]] = []
    for row in rows:
        m = row.metrics
        closed = "" if row.closed is None else f"{100 * row.closed:.0f} %"
        against = BY_NAME[row.name].against if row.name in BY_NAME else BASELINE
        name = row.name if against == BASELINE or row.gain is None else f"{row.name} (against: {against})"
        figures = (m.accuracy, m.precision, m.recall, m.f1, m.average_precision, m.ece)
        lines.append(
            (
                name,
                estimate(row.auc),
                "" if row.gain is None else points(row.gain),
                closed,
                *(_number(one) for one in figures),
                f"{row.took_s:.0f}",
            )
        )
    teacher = _metrics(facts.teacher, facts.positive, facts.folds)
    figures = (teacher.accuracy, teacher.precision, teacher.recall, teacher.f1, teacher.average_precision, teacher.ece)
    whole = auc_estimate(facts.teacher, facts.positive, facts.sources)
    lines.append(("*teacher*", estimate(whole), "", "", *(_number(one) for one in figures), ""))
    shortcut = facts.shortcut_roc_auc
    lines.append(("*size and frame rate alone*", _number(shortcut), *[""] * 9))
    return _table(head, lines)


def _live_table(rows: Sequence[RowFigures]) -> str:
    head = (
        "row",
        "float AUC",
        "int8 AUC",
        "long streams AUC",
        "recall at 0 false alarms",
        "median delay, s",
        "opened after normal → fight",
        "opened at normal → normal",
    )
    lines = [
        (
            row.name,
            _number(row.float_auc),
            _number(row.auc.value),
            _number(row.long_auc),
            f"{100 * row.zero.recall:.0f} %",
            "most missed" if row.delay_s is None else f"{row.delay_s:.1f}",
            row.detected,
            row.false_events,
        )
        for row in rows
        if row.name != RANDOM
    ]
    return _table(head, lines)


def _forecast_table(results: Results, budget: str) -> str:
    """Behaviour prediction and event detection, mean over the seeds."""
    head = (
        "row",
        "forecast",
        "ROC AUC",
        "same as now",
        "accuracy",
        "same as now",
        "squared error",
        "same as now",
        "mAP",
    )
    lines: list[tuple[str, ...]] = []
    entries = [one for one in results.entries if one["budget"] == budget and one.get("forecast")]
    for name in dict.fromkeys(one["row"] for one in entries):
        mine = [one for one in entries if one["row"] == name]
        maps = [value for one in mine if "long" in one for value in one["long"]["map"].values()]
        for k, first in enumerate(mine[0]["forecast"]):
            keys = ("roc_auc", "roc_auc_same_as_now", "accuracy", "accuracy_same_as_now", "mse", "mse_same_as_now")
            values = [_number(_mean([one["forecast"][k][key] for one in mine])) for key in keys]
            lines.append((name, f"+{first['horizon_s']:g} s", *values, _number(_mean(maps)) if k == 0 else ""))
    if not lines:
        return ""
    text = (
        "Behaviour prediction on the joined streams (against the label that is then shown; squared error against the "
    )
    text += (
        "student's own later answer), and event detection on the long streams (mAP, mean over temporal IoU 0.3 to 0.7)."
    )
    return f"{text}\n\n{_table(head, lines)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def estimate(figure: Estimate) -> str:
    """`0.812 (0.75 to 0.86)`."""
    if figure.value is None:
        return "-"
    bounds = "" if figure.low is None or figure.high is None else f" ({figure.low:.3f} to {figure.high:.3f})"
    return f"{figure.value:.3f}{bounds}"


def points(gain: Estimate) -> str:
    """`+1.2 (-0.3 to 2.9)`, in points of AUC."""
    if gain.value is None:
        return "-"
    bounds = "" if gain.low is None or gain.high is None else f" ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
    return f"{100 * gain.value:+.1f}{bounds}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _share(pairs: Sequence[tuple[int, int]]) -> str:
    if not pairs:
        return "-"
    some, of = (sum(one[k] for one in pairs) for k in (0, 1))
    return f"{100 * some / of:.0f} % of {of // len(pairs)}" if of else "-"


def _met(value: float | None, goal: float) -> str:
    return _yes(value is not None and value >= goal)


def _yes(reached: object) -> str:
    return "yes" if reached else "**missed**"


def _need_facts(results: Results) -> DataFacts:
    if results.facts is None:
        raise ValueError("results without a line about the data")
    return results.facts


__all__ = [
    "RowFigures",
    "budgets",
    "chosen_on_other_folds",
    "estimate",
    "goal_rows",
    "markdown",
    "points",
    "row_figures",
]
