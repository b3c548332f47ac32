"""Training a student by a recipe on cached features: the loop behind `streamkd distil` and the benchmark.

Nothing here touches a file, except through the checkpoint and the tracker that are handed in.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from streamkd.distill.compose import Composition, NotFiniteError
from streamkd.distill.inherit import inherit_motion
from streamkd.distill.lesson import Lesson, prepare_lesson
from streamkd.distill.objectives.initialise import matching_weights
from streamkd.distill.signals import Signals, TeacherSignals
from streamkd.distill.streams import join_streams
from streamkd.distill.train import (
    FitConfig,
    MixedPart,
    MixedStreams,
    average_weights,
    changing_part,
    head_optimizer,
    mix_streams,
    moving_pairs,
    set_rates,
    set_standardiser,
    trained_parameters,
)
from streamkd.errors import TrainingError
from streamkd.models.student import HIDDEN, Student, student_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from streamkd.distill.checkpoint import Checkpoint
    from streamkd.distill.features import FeatureSet
    from streamkd.distill.recipe import Initialise, Recipe

STUDENT_FEATURES = 2 * HIDDEN  # what feature objectives look at: this frame's reduced change, and the memory


@dataclass(frozen=True, slots=True)
class EpochLog:
    """One epoch: mean loss, mean of each objective before weighting, and what `watch` measured."""

    epoch: int
    loss: float
    parts: dict[str, float]
    watched: dict[str, float]


@dataclass(frozen=True, slots=True)
class HeadRun:
    """A trained student (the average of its weights, in evaluation mode) and how it came about."""

    student: Student
    history: tuple[EpochLog, ...]

    def logits(self, features: FeatureSet) -> tuple[Tensor, ...]:
        """Action logits `[T, C]` of every clip, played from zero state; features as for training."""
        return head_logits(self.student, features)


def train_head(
    features: FeatureSet,
    labels: Sequence[int],
    teacher: TeacherSignals | None,
    recipe: Recipe,
    seed: int,
    *,
    classes: Sequence[str] = ("normal", "fight"),
    student: Student | None = None,
    names: Sequence[str] = (),
    checkpoint: Checkpoint | None = None,
    watch: Callable[[Student], Mapping[str, float]] | None = None,
    log: Callable[[EpochLog], None] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> HeadRun:
    """Train by a recipe; the same arguments give the same student, whether interrupted or not.

    Args:
        features: Of N clips: from `raw_features` where only the head is trained, else from `cache_features`.
        labels: Class index per clip; -1 where nobody has labelled it.
        teacher: Its answers to the same clips; None for labels alone.
        recipe: Objectives and schedules.
        seed: Of everything random; in place of the recipe's.
        classes: Their names, the background first.
        student: Start from it (a copy is trained); a new head otherwise, standardised on these features.
        names: Of the clips, for messages.
        checkpoint: Written after every epoch and continued from if it exists.
        watch: Measures the averaged student after every epoch.
        log: Told of every epoch, also of those that a continued run had behind it.
        progress: Told what is being done and which share of it is done.

    Raises:
        TrainingError: A loss is no number (objective, epoch, step and clips are named; the last good checkpoint stays),
            or the recipe needs what the teacher doesn't give.
    """
    torch.manual_seed(seed)
    student = _start(student, features, labels, classes, recipe, teacher)
    lesson = prepare_lesson(recipe, features, labels, teacher, classes=len(classes), seed=seed, names=names)
    torch.manual_seed(seed)
    composition = Composition(recipe, lesson.sizes(STUDENT_FEATURES), lesson.given)
    loop = _Loop(student, copy.deepcopy(student), composition, lesson, recipe.fit_config(), _spread(features))
    epoch, past = (0, []) if checkpoint is None else checkpoint.restore(loop.parts)
    history = [EpochLog(**entry) for entry in past]
    for entry in history if log is not None else ():
        log(entry)  # type: ignore[misc]
    while epoch < recipe.train.epochs:
        loss, parts = loop.epoch(epoch, features, seed, names)
        watched = dict(watch(loop.averaged.eval())) if watch is not None else {}
        history.append(EpochLog(epoch, loss, parts, watched))
        epoch += 1
        if checkpoint is not None:
            checkpoint.save(epoch, loop.parts, [_plain(entry) for entry in history])
        if log is not None:
            log(history[-1])
        if progress is not None:
            progress(f"training, loss {loss:.3f}", epoch / recipe.train.epochs)
    return HeadRun(loop.averaged.eval(), tuple(history))


@torch.inference_mode()
def head_logits(student: Student, features: FeatureSet) -> tuple[Tensor, ...]:
    """Action logits `[T, C]` of every plain clip from zero state; features `[T, F]` of the head, or maps."""
    student.eval()
    return tuple(forward(student, one[None].float())[0][0].clone() for one in features.plain)


def forward(student: Student, front: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Action logits `[B, T, C]`, forecast logits `[B, T, K, C]` and last features `[B, T, 2 * HIDDEN]`.

    Args:
        student: In whatever mode.
        front: `[B, T, F]` what the head sees, or `[B, T, M, h, w]` what the front gives.
    """
    seen: list[Tensor] = []
    # The last features have no name outside the head: they are what its last layer is given.
    handle = student.recall.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        if front.dim() == 3:
            action, forecast, _ = student.head(front, student.init_state(len(front))["memory"])
        else:
            output, _ = student.back(front)
            action, forecast = output.action, output.forecast
    finally:
        handle.remove()
    return action, forecast, seen[0]


class _Loop:
    """The state of a run between epochs."""

    def __init__(
        self,
        student: Student,
        averaged: Student,
        composition: Composition,
        lesson: Lesson,
        config: FitConfig,
        spread: Tensor,
    ) -> None:
        self.student, self.averaged, self.composition = student, averaged, composition
        self._lesson, self._config, self._spread = lesson, config, spread
        self._optimizer = head_optimizer(student, config)
        adaptors = list(composition.parameters())
        if adaptors:
            group = {"params": adaptors, "base_lr": config.lr_head, "weight_decay": 0.01}
            self._optimizer.add_param_group(group)
        self._trained = trained_parameters(self._optimizer)
        self._averages = moving_pairs(averaged, student, self._trained)

    @property
    def parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        """Everything that a checkpoint keeps."""
        return {
            "student": changing_part(self.student, self._config),
            "averaged": changing_part(self.averaged, self._config),
            "composition": self.composition,
            "optimizer": self._optimizer,
        }

    def epoch(
        self, epoch: int, features: FeatureSet, seed: int, names: Sequence[str]
    ) -> tuple[float, dict[str, float]]:
        """One pass over the clips: mean loss, and the mean of each objective."""
        config = self._config
        # Seeded anew for each epoch, so that a continued run draws what an uninterrupted one draws.
        rng = np.random.default_rng([seed, epoch])
        torch.manual_seed(1000 * seed + epoch)
        batches = join_streams(features, config.stream_frames, config.batch, rng)
        self.student.train()
        total, sums = 0.0, dict.fromkeys((entry.name for entry in self.composition.entries), 0.0)
        for index, batch in enumerate(batches):
            done = (epoch + index / len(batches)) / config.epochs
            set_rates(self._optimizer, config, done)
            try:
                loss, parts = self._loss(mix_streams(batch, config, rng), done)
                self._step(loss, epoch * len(batches) + index, batch.clip)
            except NotFiniteError as error:
                raise _stopped(error, epoch, index, names) from None
            total += float(loss.detach()) / len(batches)
            sums = {name: value + parts[name] / len(batches) for name, value in sums.items()}
        return total, sums

    def _step(self, loss: Tensor, step: int, clips: Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(self._trained, self._config.clip_norm)
        if not bool(torch.isfinite(norm)):  # a step with it would spoil the weights, and the next checkpoint
            raise NotFiniteError("", sorted(set(clips.flatten().tolist())))
        self._optimizer.step()
        average_weights(self._averages, step, self._config)

    def _loss(self, mixed: MixedStreams, done: float) -> tuple[Tensor, dict[str, float]]:
        action, forecast, hidden = forward(self.student, mixed.front)
        guide = None
        if "guide" in self.composition.needs:
            with torch.no_grad():
                guide = forward(self.averaged.eval(), mixed.front)[0].flatten(0, 1)
        total, parts = action.new_zeros(()), dict[str, float]()
        for part in mixed.parts:
            frames = _Frames(mixed, part, self._lesson, done)
            base = frames.signals(action.flatten(0, 1), hidden.flatten(0, 1), self._again, self._spread)
            keep = mixed.weight.flatten() > 0
            ahead = self._forecasts(frames, base, forecast)
            base = replace(base, guide=guide).where(keep)
            step = self.composition(base, ahead)
            total = total + part.share * step.total
            parts = {name: parts.get(name, 0.0) + part.share * value for name, value in step.parts.items()}
        return total, parts

    def _forecasts(self, frames: _Frames, base: Signals, forecast: Tensor) -> list[Signals]:
        """Per horizon: what is said now about later, against what is known of later, within one clip."""
        spec = self.student.spec
        found: list[Signals] = []
        for k, horizon_s in enumerate(spec.forecast_horizons_s):
            place, mask = frames.later(round(horizon_s * spec.rate_hz))
            if bool(mask.any()):
                signals = replace(base, logits=forecast[:, :, k].flatten(0, 1), teacher=frames.teacher_at(place))
                found.append(signals.where(mask))
        return found

    def _again(self, front: Tensor) -> Tensor:
        return forward(self.student, front)[0].flatten(0, 1)


class _Frames:
    """One part of a mixed batch, with what the lesson says of its frames."""

    def __init__(self, mixed: MixedStreams, part: MixedPart, lesson: Lesson, done: float) -> None:
        self._mixed, self._part, self._lesson, self._done = mixed, part, lesson, done
        self._said = lesson.said(done)
        self._clip = part.clip.flatten()

    def teacher_at(self, place: Tensor) -> Tensor | None:
        """The teacher's logits `[M, C]` at these frames `[M]` of their clips; to the clip if it has none by frame."""
        by_frame = self._lesson.teacher.frame_logits
        if by_frame is not None:
            return _pick(by_frame, self._clip, place)
        return None if self._said is None else self._said[self._clip]

    def later(self, ahead: int) -> tuple[Tensor, Tensor]:
        """Which frame `[M]` of its clip a stream shows that much later, and whether it still is the same clip."""
        clip, place, weight = self._part.clip, self._part.frame.clone(), self._mixed.weight
        mask = torch.zeros_like(clip, dtype=torch.bool)
        if 0 < ahead < clip.shape[1]:
            mask[:, :-ahead] = (clip[:, ahead:] == clip[:, :-ahead]) & (weight[:, :-ahead] > 0)
            place[:, :-ahead] = self._part.frame[:, ahead:]
        return place.flatten(), mask.flatten()

    def signals(self, logits: Tensor, hidden: Tensor, again: Callable[[Tensor], Tensor], spread: Tensor) -> Signals:
        """Both sides of all frames, padding included."""
        lesson, clip = self._lesson, self._clip
        time = self._part.clip.shape[1]
        stream = torch.arange(len(clip)) // time
        return Signals(
            logits=logits,
            hidden=hidden,
            clip=clip,
            stretch=stream * (int(lesson.labels.numel()) + 1) + clip,
            labels=lesson.labels[clip],
            targets=lesson.targets[clip],
            row=torch.arange(len(clip)),
            again=again,
            front=self._mixed.front,
            spread=spread,
            done=self._done,
            teacher=self.teacher_at(self._part.frame.flatten()),
            teacher_features=None if lesson.teacher.features is None else lesson.teacher.features[clip],
            frame_features=_pick(lesson.teacher.frame_features, clip, self._part.frame.flatten()),
            modalities={name: value[clip] for name, value in lesson.teacher.modalities.items()},
        )


def _pick(frames: tuple[Tensor, ...] | None, clip: Tensor, frame: Tensor) -> Tensor | None:
    """Row `frame[i]` of clip `clip[i]`, the last one beyond its end."""
    if frames is None:
        return None
    rows = [frames[c][min(f, len(frames[c]) - 1)] for c, f in zip(clip.tolist(), frame.tolist(), strict=True)]
    return torch.stack(rows).float()


def _start(
    student: Student | None,
    features: FeatureSet,
    labels: Sequence[int],
    classes: Sequence[str],
    recipe: Recipe,
    teacher: TeacherSignals | None,
) -> Student:
    if student is not None:
        student = copy.deepcopy(student)
    else:
        if features.plain[0].dim() != 2:
            raise TrainingError("Training more than the head needs a student to start from.", hint="Hand one in.")
        student = Student(student_spec("new", tuple(classes), background=classes[0]))
        set_standardiser(student, features)
    if recipe.init is not None and recipe.init.source is not None:
        _initialise(student, recipe.init.source, recipe.init)
    if recipe.inherits:
        # In the units of the clips that a local teacher has learnt from: those with labels.
        known = [index for index, label in enumerate(labels) if label >= 0] or list(range(len(labels)))
        inherit_motion(student, features.subset(known), None if teacher is None else teacher.motion)
    return student


def _initialise(student: Student, source: Path, options: Initialise) -> None:
    path = source / "model.safetensors" if source.is_dir() else source
    try:
        stored = load_file(path)
    except (OSError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"init.from: {path} holds no weights.", hint="Name a bundle or a .safetensors file."
        ) from error
    there = {name.removeprefix(options.prefix): one for name, one in stored.items() if name.startswith(options.prefix)}
    found = matching_weights(student.state_dict(), there, shrink=options.shrink)
    if not found:
        raise TrainingError(
            f"init.from: no weight of {path} fits the student.", hint="Set init.prefix to what stands before its names."
        )
    student.load_state_dict(found, strict=False)


def _spread(features: FeatureSet) -> Tensor:
    """Deviation of each input element over a sample of clips, at least a thousandth: `[F]`, or `[C, 1, 1]` of maps."""
    sample = torch.cat([one.float() for one in features.plain[:64]])
    axes = (0,) if sample.dim() == 2 else (0, 2, 3)
    spread = sample.std(dim=axes, correction=0).clamp(min=1e-3)
    return spread if sample.dim() == 2 else spread[:, None, None]


def _stopped(error: NotFiniteError, epoch: int, step: int, names: Sequence[str]) -> TrainingError:
    which = ", ".join(names[i] if names else f"number {i}" for i in error.clips[:3])
    more = f" and {len(error.clips) - 3} more" if len(error.clips) > 3 else ""
    what = f"Objective '{error.objective}'" if error.objective else "The gradient"
    return TrainingError(
        f"{what} is not a number any more at epoch {epoch + 1}, step {step + 1}, clip(s) {which}{more}.",
        hint="Look at these clips, or lower the rate or this objective's weight; the last good checkpoint is kept.",
    )


def _plain(entry: EpochLog) -> dict[str, object]:
    return {"epoch": entry.epoch, "loss": entry.loss, "parts": entry.parts, "watched": entry.watched}


def run_fingerprint(recipe: Recipe, seed: int, clips: Sequence[str]) -> str:
    """What makes two runs the same: recipe, seed and the clips' hashes in order."""
    return hashlib.sha256("\n".join([recipe.fingerprint(), str(seed), *clips]).encode()).hexdigest()[:16]


__all__ = ["STUDENT_FEATURES", "EpochLog", "HeadRun", "forward", "head_logits", "run_fingerprint", "train_head"]
