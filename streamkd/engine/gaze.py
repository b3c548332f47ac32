"""The gaze: which part of a camera's picture the student sees, frame by frame, from what moved so far.

An action far away fills a few pixels of a picture squeezed to the student's input. A student with a `FocusSpec` gets
larger pictures instead, and sees the window of its input size in which the most moves. The window stays where it is
until another one shows clearly more. When it moves, the student forgets, and sees the last frames again through the new
window: what it says is what it would have said had it looked there all along (as long as its warm-up).

After a cut it settles anew. Causal, and a function of the frames alone: live path, replay and training cut the same
windows.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamkd.focus import CELL, busiest, frame_energy, to_cells

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamkd.bundle import FocusSpec, StudentSpec
    from streamkd.types import UInt8Array


# A cut, a light that is switched: this many grey levels in this share of the cells. A shaking camera stays below it.
SCENE_LEVELS, SCENE_SHARE = 12.0, 0.5


@dataclass(frozen=True, slots=True)
class Glance:
    """What the student gets to see at one frame.

    Attributes:
        rgb: `[S, S, 3]` uint8; a view into the frame, copied when it is batched.
        again: Earlier frames through a window that has just moved, oldest first, each `[S, S, 3]`.
        moved: The window has just moved: the student forgets what it saw, and sees `again` before `rgb`.
    """

    rgb: UInt8Array
    again: tuple[UInt8Array, ...] = ()
    moved: bool = False


class Gaze:
    """Follows one camera through one segment.

    Args:
        spec: Of the student that looks.
    """

    def __init__(self, spec: StudentSpec) -> None:
        self._size = spec.input_size
        self._focus = spec.focus
        self._recent: deque[UInt8Array] = deque(maxlen=spec.warmup_frames)
        self._seen = 0
        self._held: int | None = None  # frames since the window was aimed; None: it never was
        self._cells: NDArray[np.float32] | None = None
        self._energy: NDArray[np.float32] | None = None
        self._corner: tuple[int, int] | None = None  # in cells

    def look(self, view: UInt8Array) -> Glance:
        """Take the next frame in, and say what of it is to be seen.

        Args:
            view: `[H, W, 3]` uint8, see `StudentSpec.view`; of one shape throughout.
        """
        if self._focus is None:
            return Glance(view)
        self._measure(view, self._focus)
        self._seen += 1
        moved = self._aim(self._focus)
        again = tuple(self._cut(earlier) for earlier in self._recent) if moved else ()
        self._recent.append(view)
        return Glance(self._cut(view), again, moved)

    def look_again(self) -> None:
        """Take a frame in that shows what the last one did: it counts among the last frames, and is kept only once."""
        if self._recent:
            self._recent.append(self._recent[-1])

    def _measure(self, view: UInt8Array, focus: FocusSpec) -> None:
        cells = to_cells(view)
        if self._corner is None:
            side = self._size // CELL
            self._corner = ((cells.shape[0] - side) // 2, (cells.shape[1] - side) // 2)
        if self._cells is not None:
            energy = frame_energy(self._cells, cells)
            if np.count_nonzero(energy > SCENE_LEVELS) > SCENE_SHARE * energy.size:
                self._begin_scene()
            else:
                fresh = (1.0 - focus.decay) * energy
                self._energy = fresh if self._energy is None else focus.decay * self._energy + fresh
        self._cells = cells

    def _begin_scene(self) -> None:
        """The picture has changed as a whole: where something moved before says nothing any more."""
        self._energy, self._held, self._seen = None, None, 0
        self._recent.clear()

    def _aim(self, focus: FocusSpec) -> bool:
        """Move the window where that is due; True where it moved."""
        if self._energy is None or self._corner is None or self._seen < focus.settle_frames:
            return False
        if self._held is not None:
            self._held += 1
            if self._held < focus.hold_frames:
                return False
        best = busiest(self._energy, self._size // CELL)
        most = self._inside(best)
        if not most > 0.0 or (self._held is not None and most < focus.gain * self._inside(self._corner)):
            return False
        self._held = 0
        moved, self._corner = best != self._corner, best
        return moved

    def _inside(self, corner: tuple[int, int]) -> float:
        (top, left), side = corner, self._size // CELL
        return 0.0 if self._energy is None else float(self._energy[top : top + side, left : left + side].sum())

    def _cut(self, view: UInt8Array) -> UInt8Array:
        top, left = self.corner_px
        return view[top : top + self._size, left : left + self._size]

    @property
    def corner_px(self) -> tuple[int, int]:
        """Top and left of the window in pixels of the view; the picture's own before the first frame."""
        return (0, 0) if self._corner is None else (self._corner[0] * CELL, self._corner[1] * CELL)


def gaze_clip(views: UInt8Array, spec: StudentSpec) -> UInt8Array:
    """A short clip through the window that the gaze takes first, all frames through the same one.

    Args:
        views: `[T, H, W, 3]` uint8 at the student's rate.
        spec: Of the student.

    Returns:
        `[T, S, S, 3]` uint8; a copy, which does not keep the views in memory.
    """
    top, left = first_corner(views, spec)
    return views[:, top : top + spec.input_size, left : left + spec.input_size].copy()


def gaze_stretches(views: UInt8Array, spec: StudentSpec) -> list[tuple[int, UInt8Array]]:
    """A recording as the student sees it: a stretch for each window, beginning with the frames that are seen again.

    Args:
        views: `[T, H, W, 3]` uint8 at the student's rate.
        spec: Of the student.

    Returns:
        Index of the first frame and `[T', S, S, 3]` uint8 of each stretch, in order of time.
    """
    gaze = Gaze(spec)
    stretches: list[tuple[int, list[UInt8Array]]] = [(0, [])]
    for index, view in enumerate(views):
        glance = gaze.look(view)
        if glance.moved:
            first = index - len(glance.again)
            if stretches[-1][0] == first:  # seen again from its first frame on
                stretches.pop()
            stretches.append((first, list(glance.again)))
        stretches[-1][1].append(glance.rgb)
    return [(first, np.stack(frames)) for first, frames in stretches]


def first_corner(views: UInt8Array, spec: StudentSpec) -> tuple[int, int]:
    """Top and left of the first window that the gaze is aimed at, in pixels of the view; the middle if it never is."""
    gaze = Gaze(spec)
    for view in views:
        if gaze.look(view).moved:
            break
    return gaze.corner_px


__all__ = ["Gaze", "Glance", "first_corner", "gaze_clip", "gaze_stretches"]
