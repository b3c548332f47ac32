"""Fitting a student on cached features: labels, soft labels, or both, over streams joined from clips."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from streamkd.distill.features import FeatureSet
from streamkd.distill.streams import StreamBatch, join_streams
from streamkd.errors import TrainingError
from streamkd.models.student import POOLED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamkd.distill.checkpoint import Checkpoint
    from streamkd.models.student import Student


@dataclass(frozen=True, slots=True)
class FitConfig:
    """How a student is fitted; the defaults are the first stage of the shipped recipe, the head alone."""

    epochs: int = 40
    batch: int = 8  # joined streams of `stream_frames` each
    stream_frames: int = 20
    head_only: bool = True  # on features of the frozen trunk: seconds instead of minutes
    lr_trunk: float = 5e-5
    lr_head: float = 1e-3
    decay_trunk: float = 0.05
    decay_memory: float = 3.0
    decay_direct: float = 60.0  # its features outnumber the clips by far
    decay_moving: float = 0.3
    moving_rate: float = 3.0  # of the reading of motion, two small layers of few inputs, times lr_head; 0 keeps it
    warmup: float = 0.05  # share of the steps
    ema: float = 0.95
    mixup: float = 0.3  # Beta(a, a) of mixing two streams; 0 turns it off
    mixup_share: float = 0.5
    forecast_weight: float = 0.3
    clip_norm: float = 2.0


_LEAST_DEVIATION = 1e-3

# A second stage that trains the trunk as well. Off: docs/results/student.md has what little was measured.
FINE_TUNE = FitConfig(epochs=0, head_only=False, lr_head=2e-4, mixup=0.3, ema=0.97)


def hard_targets(labels: tuple[int, ...], n_classes: int, *, smoothing: float = 0.1) -> Tensor:
    """One-hot rows `[N, C]`, softened (label smoothing: Szegedy et al., 2016)."""
    one_hot = torch.eye(n_classes)[list(labels)]
    return one_hot * (1.0 - smoothing) + smoothing / n_classes


@torch.inference_mode()
def raw_features(student: Student, features: FeatureSet, progress: Callable[[str, float], None]) -> FeatureSet:
    """What the head sees of every clip and variant with the trunk as it is now: `[T, F]` fp16 instead of maps."""
    student.eval()
    versions: list[tuple[Tensor, ...]] = []
    for number, version in enumerate((features.plain, *features.variants)):
        rows: list[Tensor] = []
        for front in version:
            raw, _, _ = student.features(as_input(front[None]), student.init_state(1))
            rows.append(raw[0].half().clone())
        versions.append(tuple(rows))
        progress("change features", (number + 1) / (1 + len(features.variants)))
    return FeatureSet(versions[0], tuple(versions[1:]))


def set_standardiser(student: Student, raw: FeatureSet) -> None:
    """Set the head's frozen statistics from clips as the live path sees them; first frames don't count.

    Args:
        student: Changed in place.
        raw: From `raw_features`.
    """
    stacked = torch.cat([one[1:] if len(one) > 1 else one for one in raw.plain]).float()
    deviation = stacked.std(dim=0)
    student.standardise.mean.copy_(stacked.mean(dim=0))
    # Features that hardly ever change would be blown up: a tenth of the mean deviation of their kind is added.
    for kind in (slice(0, POOLED), slice(POOLED, student.changes), slice(student.changes, None)):
        if len(deviation[kind]):
            wider = deviation[kind] + 0.1 * deviation[kind].mean()
            # Where no clip moves, or every frame is a cut, nothing of a kind changes at all.
            student.standardise.deviation[kind] = wider.clamp(min=_LEAST_DEVIATION)


def fit(
    student: Student,
    features: FeatureSet,
    targets: Tensor,
    objective: Callable[[Tensor, Tensor], Tensor],
    config: FitConfig,
    *,
    seed: int,
    progress: Callable[[str, float], None],
    checkpoint: Checkpoint | None = None,
) -> Student:
    """Train the head, or everything behind the cut, and return the averaged student, in evaluation mode.

    Args:
        student: Starts from these weights; changed in place.
        features: Of N clips: from `raw_features` for the head alone, else from `cache_features`.
        targets: `[N, ...]`, one row per clip, handed to `objective` for each of its frames.
        objective: Loss per frame; also used for the forecast head.
        config: The recipe.
        seed: Of order, mixing and dropout.
        progress: Told after every epoch.
        checkpoint: Written after every epoch and continued from if it exists.

    Raises:
        TrainingError: The loss is not a number any more.
    """
    averaged = copy.deepcopy(student)
    optimizer = head_optimizer(student, config)
    trained = trained_parameters(optimizer)
    averages = moving_pairs(averaged, student, trained)
    parts: dict[str, nn.Module | torch.optim.Optimizer] = {
        "student": changing_part(student, config),
        "averaged": changing_part(averaged, config),
        "optimizer": optimizer,
    }
    start, _ = (0, []) if checkpoint is None else checkpoint.restore(parts)
    for epoch in range(start, config.epochs):
        # Seeded anew for each epoch, so that a continued run draws what an uninterrupted one draws.
        rng = np.random.default_rng([seed, epoch])
        torch.manual_seed(1000 * seed + epoch)
        batches = join_streams(features, config.stream_frames, config.batch, rng)
        student.train()
        total = 0.0
        for index, batch in enumerate(batches):
            set_rates(optimizer, config, (epoch + index / len(batches)) / config.epochs)
            loss = _loss(student, mix_streams(batch, config, rng), targets, objective, config)
            if not torch.isfinite(loss):
                raise TrainingError("The training loss is not a number any more.", hint="Lower the learning rate.")
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(trained, config.clip_norm)
            optimizer.step()
            average_weights(averages, epoch * len(batches) + index, config)
            total += float(loss.detach())
        if checkpoint is not None:
            checkpoint.save(epoch + 1, parts, [])
        progress(f"training, loss {total / max(1, len(batches)):.3f}", (epoch + 1) / config.epochs)
    return averaged.eval()


@dataclass(frozen=True, slots=True)
class MixedPart:
    """What a share of a mixed stream comes from: clip and frame, `[B, T]` each."""

    share: float
    clip: Tensor
    frame: Tensor


@dataclass(frozen=True, slots=True)
class MixedStreams:
    """Streams of which each is the weighted sum of one or two; `weight` is `[B, T]`."""

    front: Tensor
    weight: Tensor
    parts: tuple[MixedPart, ...]


def mix_streams(batch: StreamBatch, config: FitConfig, rng: np.random.Generator) -> MixedStreams:
    """Mixup of whole streams at the cut (Zhang et al., 2018; Verma et al., manifold mixup, 2019)."""
    front, clip, frame = as_input(batch.front), batch.clip, batch.frame
    if not config.mixup or rng.random() >= config.mixup_share or len(front) < 2:
        return MixedStreams(front, batch.weight, (MixedPart(1.0, clip, frame),))
    share = float(rng.beta(config.mixup, config.mixup))
    other = torch.from_numpy(rng.permutation(len(front)))
    mixed = share * front + (1.0 - share) * front[other]
    return MixedStreams(
        _channels_last(mixed),
        batch.weight * batch.weight[other],
        (MixedPart(share, clip, frame), MixedPart(1.0 - share, clip[other], frame[other])),
    )


def _loss(
    student: Student,
    mixed: MixedStreams,
    targets_of_clips: Tensor,
    objective: Callable[[Tensor, Tensor], Tensor],
    config: FitConfig,
) -> Tensor:
    if config.head_only:
        action, forecast, _ = student.head(mixed.front, student.init_state(len(mixed.front))["memory"])
    else:
        output, _ = student.back(mixed.front)
        action, forecast = output.action, output.forecast
    total = torch.zeros(())
    for part in mixed.parts:
        share, clip, targets = part.share, part.clip, targets_of_clips[part.clip]
        per_frame = objective(action.flatten(0, 1), targets.flatten(0, 1)).reshape(mixed.weight.shape)
        total = total + share * (per_frame * mixed.weight).sum() / mixed.weight.sum().clamp(min=1.0)
        for k, horizon_s in enumerate(student.spec.forecast_horizons_s):
            ahead = round(horizon_s * student.spec.rate_hz)
            if ahead >= clip.shape[1]:
                continue
            same = (clip[:, ahead:] == clip[:, :-ahead]) * mixed.weight[:, :-ahead]
            logits = forecast[:, :-ahead, k]
            later = objective(logits.flatten(0, 1), targets[:, ahead:].flatten(0, 1)).reshape(same.shape)
            total = total + config.forecast_weight * share * (later * same).sum() / mixed.weight.sum().clamp(min=1.0)
    return total


def set_rates(optimizer: torch.optim.Optimizer, config: FitConfig, done: float) -> None:
    """Linear warm-up, then a half cosine down to 1 %."""
    warm = config.warmup
    factor = done / warm if done < warm else 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * max(factor, 0.01)


def head_optimizer(student: Student, config: FitConfig) -> torch.optim.Optimizer:
    """AdamW over what the config trains; every group keeps its highest rate as `base_lr`."""
    groups: list[dict[str, Any]] = [
        {"params": student.memory_parameters(), "base_lr": config.lr_head, "weight_decay": config.decay_memory},
        {"params": list(student.direct.parameters()), "base_lr": config.lr_head, "weight_decay": config.decay_direct},
    ]
    if moving := student.moving_parameters():
        rate = config.moving_rate * config.lr_head
        groups.append({"params": moving, "base_lr": rate, "weight_decay": config.decay_moving})
    if not config.head_only:
        trunk = {"params": student.trunk_parameters(), "base_lr": config.lr_trunk, "weight_decay": config.decay_trunk}
        groups.append(trunk)
    return torch.optim.AdamW(groups)


def trained_parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """All that an optimiser moves."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def changing_part(student: Student, config: FitConfig) -> nn.Module:
    """What training changes, for a checkpoint: the trunk is ten times larger than the head."""
    if not config.head_only:
        return student
    return nn.ModuleDict({name: part for name, part in student.named_children() if name != "backbone"})


def moving_pairs(
    averaged: Student, student: Student, trained: Sequence[nn.Parameter]
) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """Each trained parameter of the student with its average."""
    moving = {id(parameter) for parameter in trained}
    both = zip(averaged.parameters(), student.parameters(), strict=True)
    return [(kept, current) for kept, current in both if id(current) in moving]


@torch.no_grad()
def average_weights(pairs: Sequence[tuple[nn.Parameter, nn.Parameter]], step: int, config: FitConfig) -> None:
    """Move the averages towards the student after a step, in place; the first steps count for little."""
    decay = min(config.ema, (1 + step) / (10 + step))
    for kept, current in pairs:
        kept.lerp_(current, 1.0 - decay)


def as_input(front: Tensor) -> Tensor:
    """Cached fp16 features `[B, T, ...]` as the network wants them."""
    return _channels_last(front.float())


def _channels_last(front: Tensor) -> Tensor:
    batch, time = front.shape[:2]
    if front.dim() != 5:
        return front
    flat = front.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return flat.reshape(batch, time, *flat.shape[1:])


@torch.inference_mode()
def clip_logits(student: Student, features: FeatureSet) -> tuple[Tensor, ...]:
    """Action logits `[T, C]` of every clip as the live path sees it, from zero state."""
    student.eval()
    return tuple(student.back(as_input(front[None]))[0].action[0].clone() for front in features.plain)


__all__ = [
    "FINE_TUNE",
    "FitConfig",
    "MixedPart",
    "MixedStreams",
    "as_input",
    "average_weights",
    "changing_part",
    "clip_logits",
    "fit",
    "hard_targets",
    "head_optimizer",
    "mix_streams",
    "moving_pairs",
    "raw_features",
    "set_rates",
    "set_standardiser",
    "trained_parameters",
]
