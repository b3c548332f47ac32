"""Joining clips into short streams, so that the student learns to go from one scene's action to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np

    from streamkd.distill.features import FeatureSet

WINDOW_FRAMES = 10  # of one clip, at most
SETTLE_FRAMES = 2  # after a cut nobody can tell yet: no loss
# Of the clips at a stream's beginning, this share is played on, backwards and forwards, until the stream is full: clips
# of two seconds would otherwise never show what comes two seconds later, and change looks alike in both directions.
SWING_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class StreamBatch:
    """Streams of T frames made of several clips each.

    Attributes:
        front: `[B, T, ...]` fp16 cached features.
        clip: `[B, T]` int64, the clip that a frame comes from.
        frame: `[B, T]` int64, which frame of that clip (of the variant that was drawn) it is.
        weight: `[B, T]` float32, 0 where a frame is padding or right after a cut, else 1.
    """

    front: Tensor
    clip: Tensor
    frame: Tensor
    weight: Tensor


def join_streams(features: FeatureSet, frames: int, batch: int, rng: np.random.Generator) -> list[StreamBatch]:
    """One epoch: every clip once, in random order and a random variant, joined into streams of `frames`."""
    order = rng.permutation(len(features.plain))
    versions = (features.plain, *features.variants)
    streams: list[StreamBatch] = []
    parts: list[Tensor] = []
    owners: list[Tensor] = []
    places: list[Tensor] = []
    weights: list[Tensor] = []
    have = 0
    for clip in order.tolist():
        # The plain version is one of many, but the one that counts: draw it a little more often.
        which = int(rng.integers(-1, len(versions)))
        source = versions[max(which, 0)][clip]
        length = min(len(source), WINDOW_FRAMES, frames - have)
        first = int(rng.integers(0, len(source) - length + 1))
        place = torch.arange(first, first + length)
        if not have and length > 2 and rng.random() < SWING_SHARE:
            place = _swing(len(source), frames)
        weight = torch.ones(len(place))
        weight[:SETTLE_FRAMES] = 0.0
        parts.append(source[place])
        owners.append(torch.full((len(place),), clip))
        places.append(place)
        weights.append(weight)
        have += len(place)
        if have >= frames:
            streams.append(_close(parts, owners, places, weights, frames))
            parts, owners, places, weights, have = [], [], [], [], 0
    if parts:
        streams.append(_close(parts, owners, places, weights, frames))
    return [_stack(streams[i : i + batch]) for i in range(0, len(streams), batch)]


def _swing(length: int, frames: int) -> Tensor:
    """`frames` places in a clip of more than 2: forwards, then to and fro; its first frame follows nothing else."""
    there = torch.arange(1, length)
    back_and_forth = torch.cat([there, there.flip(0)[1:-1]])
    return torch.cat([torch.zeros(1, dtype=torch.int64), back_and_forth.repeat(-(-frames // len(back_and_forth)))])[
        :frames
    ]


def _close(
    parts: list[Tensor], owners: list[Tensor], places: list[Tensor], weights: list[Tensor], frames: int
) -> StreamBatch:
    front, clip, frame, weight = torch.cat(parts), torch.cat(owners), torch.cat(places), torch.cat(weights)
    missing = frames - len(front)
    if missing:
        front = torch.cat([front, front[-1:].expand(missing, *front.shape[1:])])
        clip, frame = (torch.cat([index, index[-1:].expand(missing)]) for index in (clip, frame))
        weight = torch.cat([weight, torch.zeros(missing)])
    return StreamBatch(front, clip, frame, weight)


def _stack(streams: list[StreamBatch]) -> StreamBatch:
    return StreamBatch(
        torch.stack([one.front for one in streams]),
        torch.stack([one.clip for one in streams]),
        torch.stack([one.frame for one in streams]),
        torch.stack([one.weight for one in streams]),
    )


__all__ = ["SETTLE_FRAMES", "WINDOW_FRAMES", "StreamBatch", "join_streams"]
