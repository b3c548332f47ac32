"""docs/results/distillation.md, written from the file of results and from nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from streamkd.distill.bench.figures import (
    RowFigures,
    budgets,
    chosen_on_other_folds,
    clip_metrics,
    mean_of,
    need_facts,
    row_figures,
)
from streamkd.distill.bench.rows import BASELINE, BY_NAME
from streamkd.evaluate.goals import Estimate, auc_estimate, gap_closed, paired_gain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamkd.distill.bench.results import DataFacts, Results
    from streamkd.evaluate.cost import StudentCost

FULL = "full"
RANDOM = "labels only, random split"


GoalRow = tuple[str, str, str, str]


def goal_rows(facts: DataFacts, rows: Sequence[RowFigures]) -> list[GoalRow]:
    """The table of goals for the rows of one budget: figure, goal, what was measured, whether it is reached."""
    alone = [row for row in rows if row.name in BY_NAME and BY_NAME[row.name].alone]
    distilled = [row for row in rows if row.name in BY_NAME and BY_NAME[row.name].competes]
    if not alone or not distilled:
        return []
    base = max(alone, key=lambda row: row.auc.value or 0.0)  # the best that labels do without a teacher
    best = max(distilled, key=lambda row: row.auc.value or 0.0)
    return [
        *_accuracy_goals(facts, base, distilled, best),
        ("int8 against float32", "≤ 0.5 points lost", *_lost(best.float_auc, best.auc.value, 0.005)),
        *_live_goals(best),
    ]


def _accuracy_goals(
    facts: DataFacts, base: RowFigures, distilled: Sequence[RowFigures], best: RowFigures
) -> list[GoalRow]:
    teacher = auc_estimate(facts.teacher, facts.positive, facts.sources)
    full = bool(np.isfinite(base.scores).all())
    picked, names = chosen_on_other_folds(facts, distilled) if full else (best.scores.mean(axis=0), {})
    kept = np.isfinite(picked)
    positive, sources = facts.positive[kept], [one for one, keep in zip(facts.sources, kept, strict=True) if keep]
    auc = auc_estimate(picked[kept], positive, sources)
    gain = paired_gain(picked[kept], base.scores[:, kept], positive, sources)
    closed = gap_closed(auc.value or 0.0, base.auc.value or 0.0, teacher.value or 0.0)
    said = ", ".join(sorted(set(names.values()))) or best.name
    return [
        ("ROC AUC, teacher", "≥ 0.92", estimate(teacher), _met(teacher.value, 0.92)),
        (f"ROC AUC, student with distillation ({said})", "≥ 0.90", estimate(auc), _met(auc.value, 0.90)),
        (
            f"gain over the same student trained on labels alone ({base.name}), paired",
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
    ]


def _live_goals(best: RowFigures) -> list[GoalRow]:
    """Of the best row: what it would be like to live with."""
    zero = best.zero
    bound = (
        f"{zero.normal_s:.0f} s of normal footage; with none in that, up to {zero.alarms_per_hour_bound:.0f} an hour"
    )
    return [
        (f"recall at zero false alarms ({bound})", "≥ 50 %", f"{100 * zero.recall:.0f} %", _yes(zero.recall >= 0.5)),
        (
            "AUC on joined streams of ≥ 10 minutes without a reset, against the clip figure",
            "≤ 1 point lost",
            *_lost(best.auc.value, best.long_auc, 0.01),
        ),
        (
            f"median delay, junction to event (opened: {best.detected}; at normal cuts: {best.false_events})",
            "≤ 1.5 s",
            "most are missed" if best.delay_s is None else f"{best.delay_s:.1f} s",
            _yes(best.delay_s is not None and best.delay_s <= 1.5),
        ),
    ]


def _lost(before: float | None, after: float | None, limit: float) -> tuple[str, str]:
    """How much of an AUC is lost, and whether that is within a limit."""
    if before is None or after is None:
        return "not measured", "not measured"
    return f"{100 * (before - after):+.2f} points lost ({before:.3f} to {after:.3f})", _yes(before - after <= limit)


def markdown(results: Results, machine: str, cost: StudentCost, notes: str = "") -> str:
    """The whole document."""
    facts = need_facts(results)
    parts = [
        _HEAD.format(machine=machine, n=len(facts.files), sources=len(set(facts.sources)), teacher=facts.teacher_name)
    ]
    for budget in sorted(budgets(results), key=lambda name: not name.startswith(FULL)):
        rows = row_figures(results, budget)
        seeds = sorted({one["seed"] for one in results.entries if one["budget"] == budget})
        parts.append(f"## {budget}\n\nSeeds: {', '.join(map(str, seeds))}. Rows: {len(rows)}.")
        goals = goal_rows(facts, rows)
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
streaming, pooled out of fold. Intervals: 95 %, bootstrap over sources of the seed-averaged (paired) figure. A clip is
never labelled by heads that saw its source, nor those of the fold that the student is measured on. The teacher:
{teacher}.

Every row of a budget trains for as many epochs on the same clips and copies. Weights of the objectives were not
searched. The best row of a table is flattered by the choice; the table of goals takes, for each fold, the row that is
best on the others. Accuracy, precision, recall, F1 are at 0.5 after a temperature fitted on the other folds."""


def _accuracy_table(rows: Sequence[RowFigures], facts: DataFacts) -> str:
    measures = ("ROC AUC", "gain, points", "gap closed", "accuracy", "precision", "recall", "F1", "AP", "ECE")
    head = ("row", *measures, "seeds", "s a seed")
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
                str(row.seeds),
                f"{row.took_s:.0f}",
            )
        )
    teacher = clip_metrics(facts.teacher, facts.positive, facts.folds)
    figures = (teacher.accuracy, teacher.precision, teacher.recall, teacher.f1, teacher.average_precision, teacher.ece)
    whole = auc_estimate(facts.teacher, facts.positive, facts.sources)
    lines.append(("*teacher*", estimate(whole), "", "", *(_number(one) for one in figures), "", ""))
    shortcut = facts.shortcut_roc_auc
    lines.append(("*size and frame rate alone*", _number(shortcut), *[""] * 10))
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
            _delay(row),
            row.detected,
            row.false_events,
        )
        for row in rows
        if row.name != RANDOM
    ]
    return _table(head, lines)


def _delay(row: RowFigures) -> str:
    if row.detected == "-":
        return "-"
    return "most missed" if row.delay_s is None else f"{row.delay_s:.1f}"


def _forecast_table(results: Results, budget: str) -> str:
    """Behaviour prediction and event detection, mean over the seeds; a line a row."""
    entries = [one for one in results.entries if one["budget"] == budget and one.get("forecast")]
    if not entries:
        return ""
    horizons = [f"+{one['horizon_s']:g} s" for one in entries[0]["forecast"]]
    head = ("row", *(f"{at}: {what}" for at in horizons for what in ("ROC AUC", "accuracy", "squared error")), "mAP")
    lines: list[tuple[str, ...]] = []
    for name in dict.fromkeys(one["row"] for one in entries):
        mine = [one for one in entries if one["row"] == name]
        figures = [_ahead(mine, k, key) for k in range(len(horizons)) for key in ("roc_auc", "accuracy", "mse")]
        maps = [value for one in mine if "long" in one for value in one["long"]["map"].values()]
        lines.append((name, *figures, _number(mean_of(maps))))
    return f"{_FORECAST}\n\n{_table(head, lines)}"


def _ahead(entries: Sequence[dict[str, Any]], horizon: int, key: str) -> str:
    """A figure of one forecast, and in brackets that of saying the same as now."""
    said = [one["forecast"][horizon] for one in entries]
    figure, now = (mean_of([one[which] for one in said]) for which in (key, f"{key}_same_as_now"))
    return f"{_number(figure)} ({_number(now)})"


_FORECAST = """Behaviour prediction on the joined streams: against the label that is then shown, the squared error
against the student's own later answer; in brackets, what saying the same as now gives. Event detection on the long
streams: mAP, the mean over temporal IoU 0.3 to 0.7."""


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


def _met(value: float | None, goal: float) -> str:
    return _yes(value is not None and value >= goal)


def _yes(reached: object) -> str:
    return "yes" if reached else "**missed**"


__all__ = ["estimate", "goal_rows", "markdown", "points"]
