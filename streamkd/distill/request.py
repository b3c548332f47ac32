"""What `streamkd train` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from streamkd.distill.train import FINE_TUNE, FitConfig

if TYPE_CHECKING:
    from streamkd.distill.recipe import Recipe

RECIPE = "labels, joined streams, lite0 shift5, head on change only"
INHERITED = f"{RECIPE}, a teacher's reading of motion"


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What `streamkd train` was asked to do.

    Attributes:
        data: Folder of clips.
        out: Folder of the bundle; None: `models/<version>`.
        exclude: SHA-256 of files that must not be used.
        background: The class that opens no event.
        folds: Number of folds; None takes `folds.csv`, or five.
        out_of_fold: Measure by cross-validation over all folds; else train on three folds, calibrate on one and
            measure on one (3:1:1). The shipped student is trained on everything afterwards, either way.
        seed: Of everything random.
        variants: Augmented copies of each clip.
        resume: Continue an interrupted run of the same request.
        cache: Where decoded frames and features are kept.
        version: Name of the bundle; made from data and seed if empty.
        fit: The recipe of the head.
        fine_tune: The recipe of a second stage that trains the trunk as well; zero epochs leave it out.
        recipe: Distil the head by it, in place of `fit`, from a teacher that is cross-fitted on the same clips; what
            the recipe says of a teacher's source, of seed and copies does not count here.
        inherit: Without a recipe: the student's reading of motion is that of a teacher over better flow of the same
            clips, and stays it.
    """

    data: Path
    out: Path | None
    cache: Path
    exclude: frozenset[str] = frozenset()
    background: str = "normal"
    folds: int | None = None
    out_of_fold: bool = True
    seed: int = 0
    variants: int = 8
    resume: bool = False
    version: str = ""
    fit: FitConfig = field(default_factory=FitConfig)
    fine_tune: FitConfig = FINE_TUNE
    recipe: Recipe | None = None
    inherit: bool = True

    @property
    def describes(self) -> str:
        """For the bundle's lineage."""
        if self.recipe is None:
            return INHERITED if self.inherit else RECIPE
        return f"{self.recipe.name} ({self.recipe.fingerprint()})"


__all__ = ["INHERITED", "RECIPE", "TrainRequest"]
