"""`streamkd train` and `streamkd evaluate actions`: thin shells around the library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamkd.config import SHIPPED, StoreConfig
from streamkd.errors import InputError
from streamkd.shipped import SHIPPED_STUDENT, TRAINED
from streamkd_service.cli.footage import hashes, name_missing, student_clips
from streamkd_service.cli.options import (
    BackgroundOption,
    CacheOption,
    DataOption,
    ExcludeOption,
    JsonOption,
    ModelOption,
    SeedOption,
)
from streamkd_service.cli.screen import bars, warn
from streamkd_service.needs import need_torch, need_writable

if TYPE_CHECKING:
    from streamkd.distill.request import TrainRequest
    from streamkd.evaluate.actions import ActionReport

OofOption = Annotated[
    bool, typer.Option("--oof/--no-oof", help="Measure by cross-validation, or on a 3:1:1 split (faster).")
]
DistilOption = Annotated[
    str, typer.Option("--distil", help="Recipe, a file or a shipped one: the head learns from a teacher as well.")
]
InheritOption = Annotated[
    bool,
    typer.Option(
        "--inherit/--no-inherit", help="Begin with a teacher's reading of motion, and keep it; not with --distil."
    ),
]
FineTuneOption = Annotated[int | None, typer.Option(help="Passes that train the trunk as well; 0: none. [0]", min=0)]


def train(
    data: DataOption,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the bundle. [models/VERSION]")] = None,
    exclude: ExcludeOption = None,
    background: BackgroundOption = "normal",
    folds: Annotated[int | None, typer.Option(help="Folds by source. [folds.csv, or 5]", min=2)] = None,
    oof: OofOption = True,
    epochs: Annotated[int | None, typer.Option(help="Passes over the clips for the head.", min=1)] = None,
    distil: DistilOption = "",
    inherit: InheritOption = True,
    fine_tune: FineTuneOption = None,
    variants: Annotated[int, typer.Option(help="Augmented copies of each clip.", min=0, max=64)] = 8,
    seed: SeedOption = 0,
    threads: Annotated[int, typer.Option(help="CPU threads; 0: as many as there are cores.", min=0)] = 0,
    version: Annotated[str, typer.Option(help="Name of the bundle. [made from data and seed]")] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run of the same command.")] = False,
    cache: CacheOption = None,
) -> None:
    """Train a student on your own clips, measure it on sources it has not seen, and write a model bundle."""
    need_torch("streamkd train")
    if out is not None:
        need_writable(out)
    from dataclasses import replace

    import torch

    from streamkd.distill.recipe import find_recipe
    from streamkd.distill.request import TrainRequest
    from streamkd.distill.train import FINE_TUNE, FitConfig
    from streamkd.evaluate.dataset import default_cache

    if threads:
        torch.set_num_threads(threads)
    request = TrainRequest(
        data=data,
        out=out,
        cache=cache or default_cache(),
        exclude=hashes(exclude),
        background=background,
        folds=folds,
        out_of_fold=oof,
        seed=seed,
        variants=variants,
        resume=resume,
        version=version,
        fit=FitConfig() if epochs is None else replace(FitConfig(), epochs=epochs),
        recipe=find_recipe(distil) if distil else None,
        inherit=inherit,
        fine_tune=FINE_TUNE if fine_tune is None else replace(FINE_TUNE, epochs=fine_tune),
    )
    _train(request)


def _train(request: TrainRequest) -> None:
    from streamkd.distill.develop import train_student

    name_missing(request.data)
    with bars() as progress:
        bundle = train_student(request, progress, warn)
    figures = bundle.metrics["held_out"]
    assert isinstance(figures, dict)
    print(f"Wrote {bundle.path} ({bundle.spec.version}).")
    print(f"On sources it had not seen (int8, streaming): {_figures(figures)}")
    print(f"Next: streamkd replay RECORDING --model {bundle.path}")
    print(f"To serve it: student: {{bundle: {bundle.path}}} in cameras.yaml, then streamkd serve --config cameras.yaml")


def evaluate_actions(
    data: DataOption,
    model: ModelOption = SHIPPED,
    as_json: JsonOption = False,
    threads: Annotated[int, typer.Option(help="Inference threads.", min=1)] = 1,
    cache: CacheOption = None,
) -> None:
    """How well a student names actions in a folder of labelled clips: int8 export, streaming, no torch needed."""
    from streamkd.bundle import read_bundle
    from streamkd.engine.openvino import OpenVinoEngine
    from streamkd.evaluate.actions import evaluate_actions as evaluate

    bundle = read_bundle(resolve_model(model))
    records, frames = student_clips(data, bundle.spec, cache)
    with bars() as progress:
        report = evaluate(bundle, OpenVinoEngine(bundle, threads=threads), records, frames, progress)
    print(json.dumps(report.as_json(), indent=1) if as_json else _text(report))


def resolve_model(model: str) -> Path:
    """A bundle's folder: the shipped student, a path, or a version that a refresh or `streamkd train` has made.

    Raises:
        InputError: There is neither.
    """
    if model in {"", SHIPPED}:
        return SHIPPED_STUDENT
    models = StoreConfig().models_dir
    for place in (Path(model), models / model, TRAINED / model):
        if place.exists():
            return place
    raise InputError(
        f"There is no model {model!r}, here or in {models} or {TRAINED}.", hint="Name 'shipped' or a bundle's folder."
    )


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


__all__ = ["evaluate_actions", "resolve_model", "train"]
