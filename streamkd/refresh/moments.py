"""Which clips show the same moment, and the split of a harvest into training and held-out clips.

A still scene repeats itself and a recording played in a loop does so exactly. Clips that share a moment must not lie on
both sides of the split (the student would be examined on what it was taught), and they are no independent evidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamkd.types import UInt8Array

ROWS, COLUMNS = 8, 12
SIGNATURE_CELLS = ROWS * COLUMNS
# Measured on clips of real surveillance cameras, two samplings half a period apart, cells of 30 x 30 of 240 x 360
# pixels: the best pair of frames of one and the same clip differs by at most 17 grey levels in its worst cell for 90 %
# of clips (26 for all), that of different clips of one camera by at least 32 for 95 % (18 for all).
SAME_MOMENT_LEVELS = 20
HELD_OUT_SHARE = 0.4


def frame_signature(grey: UInt8Array) -> bytes:
    """Mean grey level of each cell of an 8 x 12 grid, row by row, for a picture `[H, W]` divisible by the grid."""
    height, width = grey.shape
    cells = grey.reshape(ROWS, height // ROWS, COLUMNS, width // COLUMNS).mean(axis=(1, 3))
    return bytes(np.round(cells).astype(np.uint8))


def as_cells(signature: Sequence[bytes]) -> UInt8Array:
    """`[T, 96]` uint8 of a clip's frame signatures."""
    return np.stack([np.frombuffer(frame, dtype=np.uint8) for frame in signature])


def share_moment(one: UInt8Array, other: UInt8Array) -> bool:
    """Whether some frame of one clip and some frame of the other are nearly alike everywhere in the picture.

    Args:
        one: `[T, 96]` uint8, see `as_cells`.
        other: `[T', 96]` uint8.
    """
    gap = np.abs(one[:, None].astype(np.int16) - other[None].astype(np.int16)).max(axis=2)
    return bool(gap.min() <= SAME_MOMENT_LEVELS)


@dataclass(frozen=True, slots=True)
class Split:
    """Indices into the harvested clips; a clip in neither list shares a moment with a held-out one."""

    train: tuple[int, ...]
    held_out: tuple[int, ...]


def split_moments(
    cells: Sequence[UInt8Array], cameras: Sequence[str], rng: np.random.Generator, *, share: float = HELD_OUT_SHARE
) -> Split:
    """Hold clips of every camera back, no two of which share a moment, and train on clips that share none with them.

    Args:
        cells: Per clip `[T, 96]` uint8.
        cameras: Per clip the camera.
        rng: Which ones are held back.
        share: Of each camera's distinct moments.
    """
    shared = np.eye(len(cells), dtype=bool)
    for i in range(len(cells)):
        for j in range(i):
            shared[i, j] = shared[j, i] = share_moment(cells[i], cells[j])
    distinct: list[int] = []
    for index in rng.permutation(len(cells)).tolist():
        if not shared[index, distinct].any():
            distinct.append(index)
    held_out: list[int] = []
    for camera in sorted(set(cameras)):
        own = [index for index in distinct if cameras[index] == camera]
        held_out += own[: math.ceil(share * len(own))]
    train = [index for index in range(len(cells)) if not shared[index, held_out].any()]
    return Split(tuple(train), tuple(sorted(held_out)))


__all__ = [
    "HELD_OUT_SHARE",
    "SAME_MOMENT_LEVELS",
    "SIGNATURE_CELLS",
    "Split",
    "as_cells",
    "frame_signature",
    "share_moment",
    "split_moments",
]
