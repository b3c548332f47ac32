"""What a frozen picture network sees in a whole clip: appearance, its spread over time, and change from frame to frame.

On fights, change carries more than appearance: the mean absolute difference of feature maps between neighbouring
frames, taken at several depths before pooling, says how much moves and at which scale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from streamkd.models.backbone import HEAD_CHANNELS, Backbone, block_specs

if TYPE_CHECKING:
    from streamkd.types import UInt8Array

FEATURE_PARTS = ("mean", "deviation", "change", "taps")
_EPS = 1e-3  # before the logarithm, of the order of the quietest clip's change


def tap_blocks(name: str) -> tuple[int, ...]:
    """The last block of each stage from stride 8 on."""
    specs = block_specs(name)
    ends = [i for i in range(len(specs)) if i + 1 == len(specs) or specs[i + 1].c_out != specs[i].c_out]
    return tuple(ends[2:])


@torch.inference_mode()
def clip_features(backbone: Backbone, frames: UInt8Array) -> Tensor:
    """Features of one clip.

    Args:
        backbone: In evaluation mode.
        frames: `[T, S, S, 3]` uint8 RGB.

    Returns:
        `[F]` float32: mean, deviation over time and mean change of the pooled head (3 x 1280), then for each tapped
        stage the logarithms of the mean and of the largest change from frame to frame (2 x channels).
    """
    x = torch.from_numpy(frames).permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
    x = backbone.front(x, 0)
    taps = tap_blocks(backbone.name)
    changes: list[Tensor] = []
    for index, block in enumerate(backbone.blocks):
        x = block(x)
        if index in taps:
            change = _change(x)
            changes += [(change.mean(dim=0) + _EPS).log(), (change.amax(dim=0) + _EPS).log()]
    head = backbone.head(x)
    pooled = head.mean(dim=(2, 3))
    deviation = pooled.std(dim=0, correction=0)
    return torch.cat([pooled.mean(dim=0), deviation, _change(head).mean(dim=0), *changes]).clone()


def feature_slices(name: str, parts: tuple[str, ...]) -> tuple[slice, ...]:
    """Where the named parts lie in what `clip_features` gives for a backbone."""
    ends = {"mean": (0, 1), "deviation": (1, 2), "change": (2, 3)}
    taps = sum(2 * block_specs(name)[index].c_out for index in tap_blocks(name))
    return tuple(
        slice(3 * HEAD_CHANNELS, 3 * HEAD_CHANNELS + taps)
        if part == "taps"
        else slice(ends[part][0] * HEAD_CHANNELS, ends[part][1] * HEAD_CHANNELS)
        for part in parts
    )


def _change(x: Tensor) -> Tensor:
    """`[T, C, h, w]` to `[max(1, T-1), C]`: mean absolute difference to the frame before."""
    if len(x) == 1:
        return torch.zeros_like(x[:, :, 0, 0])
    return (x[1:] - x[:-1]).abs().mean(dim=(2, 3))


__all__ = ["FEATURE_PARTS", "clip_features", "feature_slices", "tap_blocks"]
