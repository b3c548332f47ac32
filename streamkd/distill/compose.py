"""The objectives of a recipe as one loss, with what each part was worth; says which one is not a number any more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from streamkd.distill.objectives.adaptive import agreement, confidence
from streamkd.distill.objectives.multi_task import TaskWeights
from streamkd.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamkd.distill.recipe import ObjectiveEntry, Recipe
    from streamkd.distill.signals import Signals, Sizes
    from streamkd.distill.terms import Term

_GIVES = {
    "teacher": "the teacher's logits",
    "teacher_features": "the teacher's features of each clip",
    "frame_features": "the teacher's features of each frame",
    "modalities": "features of other modalities (flow, audio)",
}


class NotFiniteError(Exception):
    """A loss that is no number; the caller knows epoch, step and the clips' names."""

    def __init__(self, objective: str, clips: Sequence[int]) -> None:
        super().__init__(objective)
        self.objective = objective
        self.clips = tuple(clips)


@dataclass(frozen=True, slots=True)
class StepLoss:
    """The loss to minimise, and the unweighted mean of each part."""

    total: Tensor
    parts: dict[str, float]


class Composition(nn.Module):
    """All objectives of a recipe.

    Args:
        recipe: Names, weights, schedules.
        sizes: Widths of what there is.

    Raises:
        TrainingError: An objective needs what the teacher doesn't give.
    """

    def __init__(self, recipe: Recipe, sizes: Sizes, given: frozenset[str]) -> None:
        super().__init__()
        self.entries = recipe.objectives
        self.forecast_weight = recipe.train.forecast_weight
        for entry in self.entries:
            missing = [_GIVES[name] for name in sorted(entry.kind.needs & set(_GIVES)) if name not in given]
            if missing:
                raise TrainingError(
                    f"Objective '{entry.name}' needs {' and '.join(missing)}; this run's teacher gives none.",
                    hint="Use another teacher, or leave the objective out.",
                )
        try:
            self.terms = nn.ModuleList([entry.kind(entry.options, sizes) for entry in self.entries])
        except KeyError as error:
            raise TrainingError(f"{error.args[0]}.", hint="Name one that the teacher gives.") from None
        tasks = sorted({entry.kind.task for entry in self.entries} | {"forecast"})
        learnt = recipe.multi_task == "uncertainty"
        self.task_weights = TaskWeights(tasks, frozenset({"motion"})) if learnt else None

    @property
    def needs(self) -> frozenset[str]:
        """Everything that some objective needs."""
        return frozenset().union(*(entry.kind.needs for entry in self.entries))

    def forward(self, action: Signals, forecasts: Sequence[Signals]) -> StepLoss:
        """One step.

        Args:
            action: The frames that count.
            forecasts: Per horizon, the forecast logits against what is said that much later.

        Raises:
            NotFiniteError: An objective is no number.
        """
        tasks: dict[str, Tensor] = {}
        parts: dict[str, float] = {}
        for entry, term in zip(self.entries, self.terms, strict=True):
            value = _value(entry, term, action)
            parts[entry.name] = float(value.detach())
            task = entry.kind.task
            tasks[task] = tasks.get(task, action.logits.new_zeros(())) + entry.weight.value(action.done) * value
            if not entry.kind.dense or not self.forecast_weight:
                continue
            for later in forecasts:
                # Frames without a later one don't count, but do divide: a short stretch must not weigh more.
                share = len(later.logits) / max(len(action.logits), 1)
                ahead = self.forecast_weight * share * entry.weight.value(action.done) * _value(entry, term, later)
                tasks["forecast"] = tasks.get("forecast", action.logits.new_zeros(())) + ahead
        total = torch.stack(list(tasks.values())).sum() if self.task_weights is None else self.task_weights(tasks)
        return StepLoss(total, parts)


def _value(entry: ObjectiveEntry, term: Term | nn.Module, signals: Signals) -> Tensor:
    """The mean of one objective over the frames that it is for."""
    where = entry.clips or entry.kind.on
    if where != "all":
        labelled = signals.labels >= 0
        signals = signals.where(labelled if where == "labelled" else ~labelled)
    if not len(signals.logits):
        return signals.logits.sum()  # of nothing: 0, with a gradient
    loss: Tensor = term(signals.at(entry.temperature.value(signals.done)))
    if loss.dim():
        loss = loss * _belief(entry, signals)
    finite = torch.isfinite(loss)
    if not bool(finite.all()):
        raise NotFiniteError(entry.name, _culprits(signals, finite))
    return loss.mean() if loss.dim() else loss


def _belief(entry: ObjectiveEntry, signals: Signals) -> Tensor:
    """How far the teacher is believed, per frame; a clip that nobody has labelled is believed as it comes."""
    if entry.believe == "always" or signals.teacher is None:
        return signals.logits.new_ones(len(signals.logits))
    if entry.believe == "confidence":
        return confidence(signals.teacher)
    said = agreement(signals.teacher, signals.labels.clamp(min=0))
    return torch.where(signals.labels >= 0, said, 1.0)


def _culprits(signals: Signals, finite: Tensor) -> list[int]:
    """Clips whose loss, or failing that whose logits, are no numbers; all of them if nothing is told apart."""
    for bad in (~finite if finite.dim() else None, ~torch.isfinite(signals.logits).all(dim=-1)):
        if bad is not None and bool(bad.any()):
            return sorted(set(signals.clip[bad].tolist()))
    return sorted(set(signals.clip.tolist()))


__all__ = ["Composition", "NotFiniteError", "StepLoss"]
