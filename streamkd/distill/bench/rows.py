"""The rows of the table: each objective and combination as a recipe, with one and the same budget.

Weights are the usual ones of the papers, scaled once so that each objective starts at about the size of the label loss;
none was searched on these clips.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from streamkd.distill.recipe import Recipe

EPOCHS = 30
QUICK_EPOCHS = 15
QUICK_VARIANTS = 1
QUICK_CLIPS = 40  # what the teacher sees of a clip takes seconds
LABELS: dict[str, Any] = {"name": "labels"}
BASELINE = "labels only"
APART = "labels only, motion read apart"
FEW_LABELS = "labels only, a quarter of them"
FEW_SHOTS = "labels only, 8 clips a class"


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        name: In the table.
        family: Of the objective.
        objectives: As in a recipe; their common part is added by `recipe`.
        extra: Further keys of the recipe.
        teacher: Whether it sees a teacher.
        shown: Which features the head is trained on: those of the float trunk, of the int8 trunk, or of the float trunk
            first and of the int8 trunk for the last third.
        labelled: Labels that are shown, to the teacher as well: all, a quarter of each
            fold's clips, or two clips a class and fold.
        hidden: What becomes of clips without a label: left out, or kept as unlabelled footage.
        start: What the head starts from: nothing, a linear teacher's weights, a head that imitated the teacher for
            the first half of the budget, or a reading of motion that was fitted apart, on whole clips of its own.
        split: By source as it should be, or at random, which flatters.
        site: It also learns from half of the clips of the sources that it is measured on, without their labels, and is
            measured on the other half: what a refresh does with the footage of its own cameras.
        against: The row whose gain it is measured against.
    """

    name: str
    family: str
    objectives: tuple[dict[str, Any], ...] = (LABELS,)
    extra: dict[str, Any] = field(default_factory=dict)
    teacher: bool = True
    shown: Literal["float", "int8", "refit"] = "float"
    labelled: Literal["all", "quarter", "eight"] = "all"
    hidden: Literal["out", "unlabelled"] = "out"
    start: Literal["fresh", "linear-teacher", "imitation", "apart"] = "fresh"
    split: Literal["source", "random"] = "source"
    site: bool = False
    against: str = BASELINE

    @property
    def competes(self) -> bool:
        """Whether it is a way to train the student with a teacher and all labels: what the goals are about."""
        return self.teacher and self.labelled == "all" and not self.site

    @property
    def alone(self) -> bool:
        """Whether it is a way to train the student with all labels and nothing else: what a gain is measured from."""
        plain = self.shown == "float" and self.split == "source" and not self.site
        return plain and not self.teacher and self.labelled == "all" and self.objectives == (LABELS,)

    @property
    def inherits(self) -> bool:
        """Whether it begins with the teacher's reading of motion."""
        return "init" in self.extra

    @property
    def one_fold(self) -> bool:
        """Whether it can be measured on one fold alone: of the others' clips there are no int8 features then."""
        return self.shown == "float" and self.split == "source"

    def recipe(self, epochs: int, variants: int) -> Recipe:
        """What is trained."""
        share = 2 if self.start == "imitation" else 1
        train = {"epochs": max(1, epochs // share), "variants": variants, **self.extra.get("train", {})}
        rest = {key: value for key, value in self.extra.items() if key != "train"}
        return Recipe.model_validate({"name": self.name, "objectives": list(self.objectives), "train": train, **rest})


def _kd(weight: float = 1.0, temperature: float = 2.0, **more: Any) -> dict[str, Any]:
    return {"name": "response", "weight": weight, "temperature": temperature, **more}


def _labels(weight: float) -> dict[str, Any]:
    return {"name": "labels", "weight": weight}


INHERITED: dict[str, Any] = {"init": {"motion": True}}  # the teacher's reading of motion, kept as it is


def _inherited(name: str, objective: dict[str, Any]) -> Row:
    return Row(name, "combination", (LABELS, objective), INHERITED, against=APART)


BEST = (_labels(0.3), _kd(0.7, 4.0), {"name": "dist", "weight": 0.3})

ROWS: tuple[Row, ...] = (
    Row(BASELINE, "none", teacher=False),
    Row(APART, "none", teacher=False, start="apart", extra={"train": {"moving_rate": 0.0}}),
    Row("labels only, random split", "none", teacher=False, split="random"),
    Row("response, T 2, a 0.5", "response", (_labels(0.5), _kd(0.5))),
    Row("response, T 4, a 0.7", "response", (_labels(0.3), _kd(0.7, 4.0))),
    Row("response alone, T 2", "response", (_kd(1.0),)),
    Row("logit matching", "logits", (LABELS, {"name": "logits", "weight": 0.1})),
    Row("decoupled (DKD)", "decoupled", (LABELS, {"name": "decoupled", "weight": 0.3, "temperature": 4.0})),
    Row("hints", "features", (LABELS, {"name": "hints", "weight": 0.3})),
    Row("attention transfer", "features", (LABELS, {"name": "attention", "weight": 10.0})),
    Row("similarity-preserving", "features", (LABELS, {"name": "similarity", "weight": 30.0})),
    Row("class-level: DIST", "classes", (LABELS, {"name": "dist", "weight": 0.5})),
    Row("class-level: correlation", "classes", (LABELS, {"name": "class-correlation", "weight": 1.0})),
    Row("initialised from a linear teacher", "initialise", start="linear-teacher"),
    Row("initialised by imitation", "initialise", start="imitation"),
    Row("initialised with the teacher's reading of motion", "initialise", extra=INHERITED, against=APART),
    Row(
        "the teacher's reading of motion, trained on",
        "initialise",
        extra={**INHERITED, "train": {"moving_rate": 0.3}},
        against=APART,
    ),
    Row("progressive", "progressive", (_labels(0.5), _kd(0.5)), {"progressive": {"widths": [256, 64]}}),
    Row("multi-teacher, learnt weights", "multi_teacher", (_labels(0.5), _kd(0.5)), {"teacher": {"combine": "learnt"}}),
    Row("multi-teacher, by entropy", "multi_teacher", (_labels(0.5), _kd(0.5)), {"teacher": {"combine": "entropy"}}),
    Row("adaptive: confidence", "adaptive", (_labels(0.5), _kd(0.5, believe="confidence"))),
    Row("adaptive: agreement", "adaptive", (_labels(0.5), _kd(0.5, believe="agreement"))),
    Row("adaptive: annealed", "adaptive", (_labels(0.5), {"name": "annealed", "weight": 0.1})),
    Row("adaptive: conditional", "adaptive", (_kd(1.0),), {"teacher": {"conditional": True}}),
    Row(
        "multi-task: action, forecast, motion",
        "multi_task",
        (_labels(0.5), _kd(0.5), {"name": "motion", "weight": 0.3}),
        {"multi_task": "uncertainty"},
    ),
    Row("cross-modal, attention fusion", "cross_modal", (LABELS, {"name": "cross-modal", "weight": 0.5})),
    Row("cross-modal, flow regression", "cross_modal", (LABELS, {"name": "motion", "weight": 0.3})),
    Row("adversarial: discriminator", "adversarial", (LABELS, {"name": "discriminator", "weight": 0.3})),
    Row("adversarial: attacked inputs", "adversarial", (_labels(0.5), _kd(0.25), {"name": "attacked", "weight": 0.25})),
    Row("sparse, the likeliest class", "sparse", (_labels(0.5), {"name": "sparse", "weight": 0.5, "k": 1})),
    Row("consistency", "unlabelled", (LABELS, {"name": "consistency", "weight": 1.0}), teacher=False),
    Row(FEW_LABELS, "unlabelled", teacher=False, labelled="quarter"),
    Row(
        "a quarter of the labels, the rest unlabelled",
        "unlabelled",
        (LABELS, _kd(1.0, clips="unlabelled"), {"name": "consistency", "weight": 0.5, "clips": "unlabelled"}),
        labelled="quarter",
        hidden="unlabelled",
        against=FEW_LABELS,
    ),
    Row("the site's own clips unlabelled", "unlabelled", (LABELS, _kd(1.0, clips="unlabelled")), site=True),
    Row(
        "a quarter of the labels, the site's own clips unlabelled",
        "unlabelled",
        (LABELS, _kd(1.0, clips="unlabelled")),
        labelled="quarter",
        hidden="unlabelled",
        site=True,
        against=FEW_LABELS,
    ),
    Row(FEW_SHOTS, "few_shot", teacher=False, labelled="eight"),
    Row(
        "8 clips a class: prototypes, response",
        "few_shot",
        (LABELS, {"name": "prototypes", "weight": 0.5}, _kd(1.0, clips="unlabelled")),
        labelled="eight",
        hidden="unlabelled",
        against=FEW_SHOTS,
    ),
    Row("labels only, int8 features", "quantised", teacher=False, shown="int8"),
    Row("int8 simulated", "quantised", (_labels(0.5), _kd(0.25), {"name": "quantised", "weight": 0.25})),
    Row("labels only, refitted on int8 features", "quantised", teacher=False, shown="refit"),
    Row("response T 4, refitted on int8 features", "quantised", (_labels(0.3), _kd(0.7, 4.0)), shown="refit"),
    Row("response T 4, int8 features", "quantised", (_labels(0.3), _kd(0.7, 4.0)), shown="int8"),
    Row("response + DIST", "combination", BEST),
    Row("response + DIST, int8 features", "combination", BEST, shown="int8"),
    Row(
        "response + hints + similarity",
        "combination",
        (_labels(0.3), _kd(0.7, 4.0), {"name": "hints", "weight": 0.1}, {"name": "similarity", "weight": 10.0}),
    ),
    _inherited("the teacher's reading of motion + hints", {"name": "hints", "weight": 0.3}),
    _inherited("the teacher's reading of motion + flow regression", {"name": "motion", "weight": 0.3}),
    _inherited("the teacher's reading of motion + decoupled", {"name": "decoupled", "weight": 0.3, "temperature": 4.0}),
    Row(
        "response + consistency + flow",
        "combination",
        (
            _labels(0.3),
            _kd(0.7, 4.0),
            {"name": "consistency", "weight": 0.5},
            {"name": "cross-modal", "weight": 0.2},
        ),
    ),
)
BY_NAME = {row.name: row for row in ROWS}

__all__ = ["APART", "BASELINE", "BY_NAME", "EPOCHS", "QUICK_CLIPS", "QUICK_EPOCHS", "QUICK_VARIANTS", "ROWS", "Row"]
