"""`streamkd bench distillation`: what each objective is worth, row by row, resumable."""

from __future__ import annotations

import json as jsonlib
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from streamkd_service.bench.report import machine
from streamkd_service.cli.options import CacheOption
from streamkd_service.cli.screen import bars, warn
from streamkd_service.needs import need_torch

RESULTS = Path("docs/results/distillation.jsonl")
NOTES = Path("docs/results/distillation-notes.md")


def distillation(
    data: Annotated[Path, typer.Option("--data", help="Folder of labelled clips.")] = Path(
        "../shared/data/surveillance-fight"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="One fold, one seed, few clips and passes: at most 10 minutes.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Train the trunk too, labels only and the best rows.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The table of goals as JSON on standard output.")] = False,
    row: Annotated[list[str] | None, typer.Option("--row", help="Only this row; may stand several times.")] = None,
    list_rows: Annotated[bool, typer.Option("--list", help="Print the rows and stop.")] = False,
    seeds: Annotated[int, typer.Option(help="How many seeds.", min=1, max=20)] = 1,
    teacher: Annotated[
        Path | None, typer.Option(help="A teacher bundle with heads by fold. [made here, cross-fitted twice]")
    ] = None,
    epochs: Annotated[int, typer.Option(help="With --full: passes that train the trunk.", min=1)] = 16,
    results: Annotated[
        Path | None,
        typer.Option(
            "--results",
            help="JSON lines; what is in there is not done again. [docs/results/distillation.jsonl; with --quick, "
            "which uses other clips, distillation-quick.jsonl]",
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="The document that is written from them. [beside them, .md]")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads. [1; with --quick as many as there are]", min=1)
    ] = None,
    cache: CacheOption = None,
) -> None:
    """Rerun the table of goals: pooled out-of-fold figures by source, a row an objective, the same budget in each."""
    need_torch("streamkd bench distillation")
    from streamkd.distill.bench.full import FullBudget
    from streamkd.distill.bench.rows import ROWS
    from streamkd.distill.bench.runner import BenchRequest, budget_name, run_bench
    from streamkd.evaluate.dataset import default_cache

    if list_rows:
        print("\n".join(f"{one.family:<12} {one.name}" for one in ROWS))
        return
    results = results or (RESULTS.with_stem(f"{RESULTS.stem}-quick") if quick else RESULTS)
    request = BenchRequest(
        data=data,
        cache=cache or default_cache(),
        results=results,
        report=report or results.with_suffix(".md"),
        quick=quick,
        full=full,
        rows=tuple(row or ()),
        seeds=tuple(range(seeds)),
        threads=threads or ((os.cpu_count() or 1) if quick else 1),
        teacher=teacher,
        machine=machine(),
        notes=None if quick else NOTES,
        budget=FullBudget(trunk_epochs=epochs),
    )
    with bars() as progress:
        found = run_bench(request, progress, warn)
    _tell(found, budget_name(request), as_json=json)


def _tell(found: Any, budget: str, *, as_json: bool) -> None:
    from streamkd.distill.bench.figures import need_facts, row_figures
    from streamkd.distill.bench.report import estimate, goal_rows

    rows = row_figures(found, budget)
    named = ("figure", "goal", "measured", "reached")
    goals = [dict(zip(named, line, strict=True)) for line in goal_rows(need_facts(found), rows)]
    if as_json:
        table = [
            {"row": one.name, "seeds": one.seeds, "roc_auc": one.auc.value, "float": one.float_auc} for one in rows
        ]
        print(jsonlib.dumps({"budget": budget, "goals": goals, "rows": table}, indent=1))
        return
    for one in rows:
        print(f"{one.name:<48} {estimate(one.auc)}")
    for goal in goals:
        print(f"{goal['figure']}: {goal['measured']} (goal {goal['goal']}: {goal['reached'].strip('*')})")


__all__ = ["distillation"]
