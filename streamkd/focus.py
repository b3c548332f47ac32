"""Where in the picture something happens: the square window in which the most moves. Pure arithmetic, numpy only.

Surveillance cameras look at wide scenes in which an action fills a tenth of the picture. A network of 160 to 200 pixels
sees four times as much of it in a window of half the picture's height that follows the motion (the glimpse of Mnih et
al., "Recurrent Models of Visual Attention", NeurIPS 2014, with a rule in place of a learnt policy).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamkd.types import UInt8Array

CELL = 4  # pixels; motion is measured on means of CELL x CELL
LONGEST = 4  # sides of a view, long to short
NOISE_LEVELS = 4.0  # grey levels; what sensors and encoders change from frame to frame where nothing happens
_GREEN = 1  # stands for luma: the largest part of it, and no arithmetic


def to_cells(frame: UInt8Array) -> NDArray[np.float32]:
    """`[H, W, 3]` uint8 to `[H // 4, W // 4]` float32 grey levels; an edge narrower than a cell is left out.

    The mean of four of a cell's sixteen pixels: pixels of scaled pictures hardly differ from their neighbours.
    """
    height, width = frame.shape[0] // CELL * CELL, frame.shape[1] // CELL * CELL
    green = frame[:height, :width, _GREEN]
    some = [green[i::CELL, j::CELL].astype(np.float32) for i in (0, CELL // 2) for j in (0, CELL // 2)]
    return (some[0] + some[1] + some[2] + some[3]) * np.float32(0.25)


def frame_energy(before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far each cell `[h, w]` changes beyond the noise, in grey levels.

    Smoothed over 3 x 3 cells first, because noise is finer than people.
    """
    height, width = before.shape
    padded = np.empty((height + 2, width + 2), np.float32)  # numpy's own padding takes longer than everything else
    np.subtract(after, before, out=padded[1:-1, 1:-1])
    padded[0], padded[-1] = padded[1], padded[-2]
    padded[:, 0], padded[:, -1] = padded[:, 1], padded[:, -2]
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    smooth = (rows[:, :width] + rows[:, 1 : width + 1] + rows[:, 2:]) / np.float32(9.0)
    return np.asarray(np.maximum(np.abs(smooth) - NOISE_LEVELS, 0.0), dtype=np.float32)


def motion_energy(frames: UInt8Array) -> NDArray[np.float32]:
    """`[h, w]` float32: mean of `frame_energy` over a clip `[T, H, W, 3]`."""
    cells = [to_cells(frame) for frame in frames]
    total = np.zeros_like(cells[0])
    for before, after in itertools.pairwise(cells):
        total += frame_energy(before, after)
    return total / np.float32(max(len(cells) - 1, 1))


def busiest(energy: NDArray[np.float32], side: int) -> tuple[int, int]:
    """Top and left, in cells, of the `side` x `side` window with the largest sum; the middle where nothing moves.

    Args:
        energy: `[h, w]`, both at least `side`.
        side: In cells.
    """
    height, width = energy.shape
    # Float64: differences of running sums cancel. Bands of rows first, so that less is summed the second time.
    down = np.zeros((height + 1, width), np.float64)
    np.cumsum(energy, axis=0, out=down[1:])
    bands = np.zeros((height - side + 1, width + 1), np.float64)
    np.cumsum(down[side:] - down[:-side], axis=1, out=bands[:, 1:])
    within = bands[:, side:] - bands[:, :-side]
    top, left = divmod(int(within.argmax()), within.shape[1])
    if not within[top, left] > 0.0:
        return (height - side) // 2, (width - side) // 2
    return top, left


def focus_clip(frames: UInt8Array, size: int) -> UInt8Array:
    """The busiest window of a whole clip, one place for all frames; looks ahead, so it is for teachers.

    Args:
        frames: `[T, H, W, 3]` uint8, H and W at least `size`.
        size: Side of the window in pixels, a multiple of 4.

    Returns:
        `[T, size, size, 3]` uint8.
    """
    top, left = busiest(motion_energy(frames), size // CELL)
    return frames[:, top * CELL : top * CELL + size, left * CELL : left * CELL + size]


def view_shape(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Width and height of a picture whose shorter side becomes `short_side`, both multiples of a cell.

    A picture more than four times as long as it is short is squeezed to that: its size stays bounded.

    Args:
        width: Of the camera's picture, in pixels.
        height: The same.
        short_side: In pixels, a multiple of 4.
    """
    scale = short_side / min(width, height)
    wide, tall = (
        min(max(round(side * scale / CELL) * CELL, short_side), LONGEST * short_side) for side in (width, height)
    )
    return wide, tall


__all__ = ["CELL", "NOISE_LEVELS", "busiest", "focus_clip", "frame_energy", "motion_energy", "to_cells", "view_shape"]
