"""A recipe: which objectives a student is trained with, how much each counts when, and what is done before.

A recipe is a YAML file (docs/reference/distillation.md lists every key). Wrong ones are refused with file, line and
key.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, ValidationError, model_validator

from streamkd.distill.terms import REGISTRY, Term
from streamkd.distill.train import FitConfig
from streamkd.errors import ConfigError
from streamkd.yamlfile import Lines, in_words, read_yaml


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Schedule(_Strict):
    """A number that changes while training goes on; a plain number in YAML is constant."""

    schedule: Literal["constant", "linear", "cosine"] = "constant"
    start: float = Field(default=1.0, alias="from")
    stop: float | None = Field(default=None, alias="to")
    begin: float = Field(default=0.0, ge=0, le=1)  # share of the training at which the change begins ...
    end: float = Field(default=1.0, ge=0, le=1)  # ... and at which it is over
    warmup: float = Field(default=0.0, ge=0, lt=1)  # share over which all of it rises from 0

    @model_validator(mode="after")
    def _whole(self) -> Schedule:
        if (self.schedule == "constant") != (self.stop is None):
            raise ValueError("'linear' and 'cosine' need 'from' and 'to', 'constant' needs 'from' alone")
        if self.end <= self.begin:
            raise ValueError("'end' must come after 'begin'")
        return self

    def value(self, done: float) -> float:
        """The number when the share `done` (0..1) of the training is done."""
        rise = min(done / self.warmup, 1.0) if self.warmup else 1.0
        if self.stop is None:
            return self.start * rise
        share = min(max((done - self.begin) / (self.end - self.begin), 0.0), 1.0)
        if self.schedule == "cosine":
            share = 0.5 * (1.0 - math.cos(math.pi * share))
        return (self.start + (self.stop - self.start) * share) * rise


def _as_schedule(value: object) -> object:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return {"from": value} if is_number else value


Scheduled = Annotated[Schedule, BeforeValidator(_as_schedule)]


class ObjectiveEntry(_Strict):
    """One objective of a recipe; keys of its own go to `options`."""

    name: str
    weight: Scheduled = Schedule()
    temperature: Scheduled = Schedule.model_validate({"from": 2.0})
    believe: Literal["always", "confidence", "agreement"] = "always"
    clips: Literal["all", "labelled", "unlabelled"] | None = None  # None: as the objective has it
    options: SerializeAsAny[BaseModel]

    @model_validator(mode="before")
    @classmethod
    def _own_keys(cls, data: object) -> object:
        if not isinstance(data, dict) or "options" in data:
            return data
        name = data.get("name")
        if name not in REGISTRY:
            raise ValueError(f"there is no objective {name!r}; there are {', '.join(sorted(REGISTRY))}")
        shared = {key: value for key, value in data.items() if key in cls.model_fields}
        own = {key: value for key, value in data.items() if key not in cls.model_fields}
        try:
            options = REGISTRY[name].Options.model_validate(own)
        except ValidationError as error:
            problem = error.errors(include_input=False, include_url=False)[0]
            key = ".".join(str(part) for part in problem["loc"])
            known = ", ".join(["weight", "temperature", "believe", "clips", *REGISTRY[name].Options.model_fields])
            told = f"unknown key (known: {known})" if problem["type"] == "extra_forbidden" else problem["msg"]
            raise ValueError(f"{name}.{key}: {told}") from None
        return {**shared, "options": options}

    @property
    def kind(self) -> type[Term]:
        """The registered objective."""
        return REGISTRY[self.name]


class TrainOptions(_Strict):
    """How long and how fast."""

    epochs: int = Field(default=40, ge=1, le=10_000)
    batch: int = Field(default=8, ge=1)
    stream_frames: int = Field(default=20, ge=4)
    head_only: bool = True
    lr_head: float = Field(default=1e-3, gt=0)
    lr_trunk: float = Field(default=5e-5, gt=0)
    decay_memory: float = Field(default=3.0, ge=0)
    decay_direct: float = Field(default=60.0, ge=0)
    decay_moving: float = Field(default=0.3, ge=0)
    decay_trunk: float = Field(default=0.05, ge=0)
    moving_rate: float | None = Field(default=None, ge=0)  # times lr_head; unset: 3, or 0 where init.motion
    warmup: float = Field(default=0.05, gt=0, lt=1)
    ema: float = Field(default=0.95, ge=0, lt=1)
    mixup: float = Field(default=0.3, ge=0)
    mixup_share: float = Field(default=0.5, ge=0, le=1)
    forecast_weight: float = Field(default=0.3, ge=0)
    clip_norm: float = Field(default=2.0, gt=0)
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    variants: int = Field(default=8, ge=0, le=64)


class TeacherOptions(_Strict):
    """Where the teacher's answers come from, and how several teachers become one."""

    # 'local': cross-fitted on the training clips; 'shipped', a teacher's folder or file, or a folder with labels.json.
    source: str = "local"
    members: tuple[str, ...] = Field(default=("close", "flow", "motion"), min_length=1)  # of a local one
    combine: Literal["mean", "learnt", "entropy", "confidence"] = "mean"
    conditional: bool = False  # where the teacher is wrong about a labelled clip, the label is taught
    classes: dict[str, str] = Field(default_factory=dict)  # teacher's class: student's class


class Progressive(_Strict):
    """Assistants between teacher and student, by the width of their hidden layer, the largest first."""

    widths: tuple[int, ...] = Field(default=(256,), min_length=1)
    epochs: int = Field(default=150, ge=1)
    temperature: float = Field(default=2.0, gt=0)


class Initialise(_Strict):
    """Start from the weights of another student or teacher."""

    source: Path | None = Field(default=None, alias="from")  # a bundle, or a .safetensors file
    prefix: str = ""  # what stands before the student's names there
    shrink: bool = True  # take evenly spaced elements of larger tensors
    motion: bool = False  # the reading of motion, from the recipe's teacher; a member `motion` has one

    @model_validator(mode="after")
    def _from_somewhere(self) -> Self:
        if self.source is None and not self.motion:
            raise ValueError("say from what: a bundle or file behind from, or motion: true")
        return self


class Recipe(_Strict):
    """All of it; `objectives` alone is needed."""

    name: str = "unnamed"
    seed: int = 0
    teacher: TeacherOptions = TeacherOptions()
    objectives: tuple[ObjectiveEntry, ...] = Field(min_length=1)
    train: TrainOptions = TrainOptions()
    multi_task: Literal["fixed", "uncertainty"] = "fixed"
    progressive: Progressive | None = None
    init: Initialise | None = None
    shots: int | None = Field(default=None, ge=1)  # labelled clips of each class that are used; the rest are unlabelled
    tracking: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()

    @model_validator(mode="after")
    def _sensible(self) -> Recipe:
        names = [entry.name for entry in self.objectives]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"objectives: {', '.join(twice)} stands twice")
        return self

    @property
    def inherits(self) -> bool:
        """Whether the student's reading of motion is the teacher's at first."""
        return self.init is not None and self.init.motion

    @property
    def asks(self) -> bool:
        """Whether any objective asks a teacher about clips."""
        return any(entry.kind.needs - {"guide"} for entry in self.objectives)

    @property
    def taught(self) -> bool:
        """Whether there is anything that a teacher is needed for; labels alone spare its cost."""
        return self.asks or self.inherits

    def fit_config(self) -> FitConfig:
        """How the head is fitted: what all training loops share."""
        said = self.train.model_dump(exclude={"smoothing", "variants"}, exclude_none=True)
        return FitConfig(**{"moving_rate": 0.0 if self.inherits else FitConfig().moving_rate, **said})

    def going_on(self, **train: float | bool) -> Recipe:
        """The same, with other keys of `train`, for a student that has begun: what it inherited is not inherited anew.

        What was kept is kept.
        """
        kept = {"moving_rate": self.fit_config().moving_rate, **train}
        return self.model_copy(update={"train": self.train.model_copy(update=kept), "init": None})

    def fingerprint(self) -> str:
        """The same for recipes that train the same; tracking and the name don't count."""
        said = self.model_dump(mode="json", exclude={"tracking", "name"})
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        ConfigError: The file can't be read or is wrong; the message names file, line and key.
    """
    hint = f"Name a file, or one of the shipped recipes: {', '.join(shipped_recipes())}."
    data, lines = read_yaml(path, "Recipe", example="objectives", hint=hint)
    try:
        return Recipe.model_validate({"name": path.stem, **data})
    except ValidationError as error:
        raise ConfigError(
            _describe(error, path, lines), hint="Every key is described in docs/reference/distillation.md."
        ) from None


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    folder = Path(__file__).parent.parent / "assets" / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_recipe(name: str) -> Recipe:
    """A recipe by its path, or by the name of a shipped one."""
    return load_recipe(shipped_recipes().get(name, Path(name)))


def _describe(error: ValidationError, path: Path, lines: Lines) -> str:
    rows: list[str] = []
    for problem in error.errors(include_input=False, include_url=False):
        where = tuple(problem["loc"])
        message = in_words(problem)
        # An objective's own key stands in the message: `hints.width: ...`.
        own = message.split(":", maxsplit=1)[0].rpartition(".")[2]
        exact = (*where, own) if (*where, own) in lines else where
        known = next((exact[:n] for n in range(len(exact), -1, -1) if exact[:n] in lines), ())
        key = ".".join(str(part) for part in where)
        rows.append(f"{path}, line {lines.get(known, 1)}: {key + ': ' if key else ''}{message}")
    return "; ".join(rows) + "."


def plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe as it would stand in YAML, all defaults written out."""
    data = recipe.model_dump(mode="json", by_alias=True)
    for entry in data["objectives"]:
        entry.update(entry.pop("options"))
    return data


__all__ = [
    "Initialise",
    "ObjectiveEntry",
    "Progressive",
    "Recipe",
    "Schedule",
    "Scheduled",
    "TeacherOptions",
    "TrainOptions",
    "find_recipe",
    "load_recipe",
    "plain",
    "shipped_recipes",
]
