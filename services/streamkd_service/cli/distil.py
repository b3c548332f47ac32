"""`streamkd distil`: a recipe run on labelled clips. A thin shell around `streamkd.distill.experiment`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamkd_service.cli.footage import hashes
from streamkd_service.cli.options import BackgroundOption, CacheOption, DataOption, ExcludeOption
from streamkd_service.cli.screen import bars, warn
from streamkd_service.needs import need_torch, need_writable


def distil(
    recipe: Annotated[str, typer.Argument(help="A recipe's YAML file, or the name of a shipped recipe.")],
    data: DataOption,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the results. [runs/RECIPE-FINGERPRINT]")] = None,
    unlabelled: Annotated[
        Path | None, typer.Option("--unlabelled", help="Folder of videos that nobody has labelled.")
    ] = None,
    exclude: ExcludeOption = None,
    background: BackgroundOption = "normal",
    seed: Annotated[int | None, typer.Option(help="Of everything random. [the recipe's]")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the clips. [the recipe's]", min=1)] = None,
    threads: Annotated[int, typer.Option(help="CPU threads; 0: as many as there are cores.", min=0)] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run of the same command.")] = False,
    cache: CacheOption = None,
) -> None:
    """Distil a student by a recipe: split by source, teach, train, quantise, measure on sources it has not seen."""
    need_torch("streamkd distil")
    import torch

    from streamkd.distill.experiment import DistilRequest, run_recipe
    from streamkd.distill.recipe import find_recipe
    from streamkd.evaluate.dataset import default_cache

    if threads:
        torch.set_num_threads(threads)
    chosen = find_recipe(recipe)
    if out is not None:
        need_writable(out)
    changed: dict[str, object] = {} if seed is None else {"seed": seed}
    if epochs is not None:
        changed["train"] = chosen.train.model_copy(update={"epochs": epochs})
    chosen = chosen.model_copy(update=changed)
    request = DistilRequest(
        recipe=chosen,
        data=data,
        out=out or Path("runs") / f"{chosen.name}-{chosen.fingerprint()[:8]}",
        cache=cache or default_cache(),
        unlabelled=unlabelled,
        exclude=hashes(exclude),
        background=background,
        resume=resume,
    )
    with bars() as progress:
        result = run_recipe(request, progress, warn)
    print(f"Wrote {result.bundle.path} ({result.bundle.spec.version}) and {result.report}.")
    print("On sources it had not seen:")
    for name, figures in result.figures.items():
        area = "none" if figures.roc_auc is None else f"{figures.roc_auc:.3f}"
        print(
            f"  {name:<13} ROC AUC {area}, accuracy {figures.accuracy:.3f}, F1 {figures.f1:.3f}, ECE {figures.ece:.3f} "
            f"({figures.n} clips)"
        )


__all__ = ["distil"]
