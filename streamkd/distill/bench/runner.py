"""The benchmark as a whole: data, rows one after the other, results appended, report written."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from streamkd.distill.bench.data import VARIANTS, load_bench_data, new_student
from streamkd.distill.bench.figures import row_figures
from streamkd.distill.bench.full import FullBudget, FullTraining
from streamkd.distill.bench.measure import TAUGHT, Bench, Budget
from streamkd.distill.bench.report import markdown
from streamkd.distill.bench.results import Results, append, facts_of, read_results
from streamkd.distill.bench.rows import BASELINE, BY_NAME, EPOCHS, QUICK_CLIPS, QUICK_EPOCHS, QUICK_VARIANTS, ROWS, Row
from streamkd.distill.local_teacher import DESCRIPTION
from streamkd.distill.recipe import TeacherOptions
from streamkd.distill.teacher_signals import TrainingPart, gather_signals
from streamkd.errors import InputError
from streamkd.evaluate.actions import shortcut_auc
from streamkd.evaluate.cost import student_cost
from streamkd.evaluate.dataset import FrameCache

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamkd.distill.bench.data import BenchData
    from streamkd.distill.signals import TeacherSignals
    from streamkd.evaluate.dataset import ClipRecord


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """What `streamkd bench distillation` was asked to do.

    Attributes:
        data: Folder of clips.
        cache: Where everything that does not change is kept.
        results: The JSON lines; what is in there is not done again.
        report: The document, written from them.
        quick: One fold, one seed, few clips and passes.
        full: Train the trunk as well, for the rows named.
        rows: Which rows; empty: all (with `full`: labels only and the two best).
        seeds: Of the rows.
        threads: CPU threads.
        teacher: A teacher bundle in place of the benchmark's own.
        machine: A line about this machine, for the report.
        notes: Written by hand, put at the report's end.
        long_s: Length of the long streams.
        samples: Frames that each int8 trunk is calibrated on.
        budget: Passes of a full training.
    """

    data: Path
    cache: Path
    results: Path
    report: Path | None
    quick: bool = False
    full: bool = False
    rows: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    threads: int = 1
    teacher: Path | None = None
    machine: str = ""
    notes: Path | None = None
    long_s: float = 600.0
    samples: int = 300
    budget: FullBudget = field(default_factory=FullBudget)


def run_bench(request: BenchRequest, progress: Callable[[str, float], None], warn: Callable[[str], None]) -> Results:
    """Run what is not in the results yet, and write the report.

    Raises:
        InputError: There is no such row or folder, or the results belong to other clips or another teacher.
        TrainingError: A loss is not a number any more.
    """
    rows = _rows(request)
    torch.set_num_threads(request.threads)
    variants = QUICK_VARIANTS if request.quick else VARIANTS
    data = load_bench_data(
        request.data,
        request.cache,
        progress,
        warn,
        variants=variants,
        measured=1 if request.quick else None,
        at_most=QUICK_CLIPS if request.quick else None,
        long_s=request.long_s,
        samples=request.samples,
        accept=partial(_check_results, request),
    )
    folds = tuple(sorted(set(data.folds)))[: 1 if request.quick else None]
    given = None if request.teacher is None else _bundle_signals(request.teacher, request, data, progress, warn)
    budget = Budget(QUICK_EPOCHS if request.quick else EPOCHS, variants, folds)
    bench = Bench(data, budget, given, request.cache / "bench" / "teacher")
    if given is not None and given.motion is None and any(row.inherits for row in rows):
        warn(f"Teacher {request.teacher} has no reading of motion to hand over: rows that begin with it are left out.")
        rows = tuple(row for row in rows if not row.inherits)
    results = _prepare(request, bench, data)
    _run_rows(request, bench, rows, results, progress)
    results = read_results(request.results)
    write_report(request, results, data.classes)
    return results


def write_report(request: BenchRequest, results: Results, classes: Sequence[str]) -> None:
    """The document from the results alone."""
    if request.report is None:
        return
    notes = request.notes.read_text(encoding="utf-8") if request.notes and request.notes.is_file() else ""
    text = markdown(results, request.machine, student_cost(new_student(classes)), notes)
    try:
        request.report.parent.mkdir(parents=True, exist_ok=True)
        request.report.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{request.report} can't be written: {error.strerror}.", hint="Name another file.") from error


def budget_name(request: BenchRequest) -> str:
    """What results at this budget are kept under."""
    if request.full:
        return f"full: {request.budget.head_epochs} passes of the head, {request.budget.trunk_epochs} of the trunk"
    if request.quick:
        return f"quick: {QUICK_EPOCHS} passes of the head, one fold, at most {QUICK_CLIPS} clips"
    return f"heads: {EPOCHS} passes on cached features"


def _rows(request: BenchRequest) -> tuple[Row, ...]:
    unknown = [name for name in request.rows if name not in BY_NAME]
    if unknown:
        raise InputError(f"There is no row {unknown[0]!r}.", hint="See: streamkd bench distillation --list.")
    wide = [name for name in request.rows if not BY_NAME[name].one_fold]
    if request.quick and wide:
        raise InputError(f"Row {wide[0]!r} needs all folds.", hint="Run it without --quick.")
    headed = [name for name in request.rows if BY_NAME[name].start in TAUGHT]
    if request.full and headed:
        raise InputError(f"Row {headed[0]!r} starts from a fitted head.", hint="Run it without --full.")
    if request.rows:
        compared = [BASELINE, *(BY_NAME[name].against for name in request.rows)]
        return tuple(BY_NAME[name] for name in dict.fromkeys([*compared, *request.rows]))
    if request.full:
        best = best_rows(read_results(request.results))
        names = dict.fromkeys([BASELINE, *(BY_NAME[name].against for name in best), *best])
        return tuple(BY_NAME[name] for name in names)
    return tuple(row for row in ROWS if row.one_fold) if request.quick else ROWS


def best_rows(results: Results, count: int = 2) -> tuple[str, ...]:
    """The rows with a teacher and all labels that were best at the heads' budget; response KD if none was run."""
    budget = f"heads: {EPOCHS} passes on cached features"
    if results.facts is None or not any(one["budget"] == budget for one in results.entries):
        return ("response, T 4, a 0.7", "response + DIST")
    able = [
        row
        for row in row_figures(results, budget)
        if BY_NAME[row.name].competes and BY_NAME[row.name].shown == "float" and BY_NAME[row.name].start == "fresh"
    ]
    able.sort(key=lambda row: -(row.auc.value or 0.0))
    return tuple(row.name for row in able[:count])


def _check_results(request: BenchRequest, records: Sequence[ClipRecord]) -> None:
    """Results of other clips or another teacher are refused before minutes are spent on these."""
    facts = read_results(request.results).facts
    if facts is None:
        return
    same_clips = facts.files == tuple(record.file for record in records)
    if not same_clips or facts.teacher_name != _teacher_name(request):
        raise InputError(
            f"{request.results} holds results of {'another teacher' if same_clips else 'other clips'}.",
            hint="Name another file with --results.",
        )


def _teacher_name(request: BenchRequest) -> str:
    return DESCRIPTION if request.teacher is None else request.teacher.name


def _prepare(request: BenchRequest, bench: Bench, data: BenchData) -> Results:
    results = read_results(request.results)
    if results.facts is None:
        shortcut = shortcut_auc(data.records, data.classes[0])
        append(request.results, facts_of(data, bench.teacher_scores(), _teacher_name(request), shortcut, 5.0))
        return read_results(request.results)
    return results


def _bundle_signals(
    teacher: Path,
    request: BenchRequest,
    data: BenchData,
    progress: Callable[[str, float], None],
    warn: Callable[[str], None],
) -> TeacherSignals:
    """A bundle's answers; each clip by heads that saw nothing of its source, where the bundle has such heads."""
    part = TrainingPart(data.records, data.folds, data.classes, data.classes[0])
    return gather_signals(
        TeacherOptions(source=str(teacher)),
        part,
        data.records,
        FrameCache(request.cache / "frames"),
        request.cache,
        request.cache / "bench",
        progress=progress,
        warn=warn,
    )


def _run_rows(
    request: BenchRequest,
    bench: Bench,
    rows: Sequence[Row],
    results: Results,
    progress: Callable[[str, float], None],
) -> None:
    budget = budget_name(request)
    todo = [(row, seed) for seed in request.seeds for row in rows if not results.has(row.name, seed, budget)]
    full = FullTraining(bench, request.cache, request.budget, progress) if request.full and todo else None
    for number, (row, seed) in enumerate(todo):
        entry = bench.run(row, seed, progress) if full is None else full.run(row, seed)
        append(request.results, {"type": "row", "budget": budget, **entry})
        progress("rows", (number + 1) / len(todo))


__all__ = ["BenchRequest", "best_rows", "budget_name", "run_bench", "write_report"]
