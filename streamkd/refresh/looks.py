"""The look of a camera group (light, contrast, colour, noise), and labelled clips restyled to it.

So the gate can ask how a candidate does on human labels *as this site's cameras would show them*. Measured and applied
at the size of the student's view. Compression is not imitated yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamkd.types import UInt8Array

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # BT.601
_LAPLACE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
_GAIN = (0.5, 2.0)  # beyond, a restyled clip shows little but artefacts
_SHIFT = 60.0  # grey levels


@dataclass(frozen=True, slots=True)
class Look:
    """How clips look, in grey levels of 0..255.

    Attributes:
        light: Mean luma.
        contrast: Standard deviation of luma.
        colour: Mean distance of the channels from luma.
        noise: Standard deviation of fine grain.
    """

    light: float
    contrast: float
    colour: float
    noise: float


def measure(frames: UInt8Array) -> Look:
    """The look of a clip `[T, S, S, 3]`, from its first, middle and last frame.

    Noise is Immerkaer's estimate ("Fast Noise Variance Estimation", CVIU 64:2, 1996), the smallest over the frames:
    what moves or has texture can only raise it.
    """
    rgb = frames[[0, len(frames) // 2, -1]].astype(np.float32)
    luma = rgb @ _LUMA
    return Look(
        light=float(luma.mean()),
        contrast=float(luma.std()),
        colour=float(np.abs(rgb - luma[..., None]).mean()),
        noise=min(_noise(one) for one in luma),
    )


def typical(looks: Sequence[Look]) -> Look:
    """The median of several looks, figure by figure."""
    rows = np.array([(one.light, one.contrast, one.colour, one.noise) for one in looks])
    return Look(*(float(value) for value in np.median(rows, axis=0)))


def restyle(frames: UInt8Array, look: Look, rng: np.random.Generator) -> UInt8Array:
    """A clip `[T, S, S, 3]` moved to another look, within bounds that leave it recognisable.

    Args:
        frames: The clip.
        look: Where to.
        rng: Of the added grain.
    """
    own = measure(frames)
    gain = float(np.clip(look.contrast / max(own.contrast, 1.0), *_GAIN))
    light = own.light + float(np.clip(look.light - own.light, -_SHIFT, _SHIFT))
    colour = float(np.clip(look.colour / max(own.colour, 0.5), 0.0, _GAIN[1]))
    rgb = frames.astype(np.float32)
    luma = (rgb @ _LUMA)[..., None]
    styled = (luma - own.light) * gain + light + (rgb - luma) * colour
    missing = look.noise**2 - (own.noise * gain) ** 2
    if missing > 0:
        styled += rng.standard_normal(luma.shape, dtype=np.float32) * np.float32(np.sqrt(missing))
    return np.asarray(np.clip(np.round(styled), 0, 255), dtype=np.uint8)


def _noise(luma: NDArray[np.float32]) -> float:
    height, width = luma.shape
    total = np.zeros((height - 2, width - 2), dtype=np.float32)
    for row in range(3):
        for column in range(3):
            total += _LAPLACE[row, column] * luma[row : row + height - 2, column : column + width - 2]
    return float(np.sqrt(np.pi / 2) * np.abs(total).mean() / 6.0)


__all__ = ["Look", "measure", "restyle", "typical"]
