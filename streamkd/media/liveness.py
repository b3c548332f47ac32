"""Whether a connected camera shows anything: stalled, frozen, black, covered; states of their own, never "normal"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamkd.types import CameraState, UInt8Array

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 8
_STEPS_TO_KNOW = 3
_LONGEST_INTERVAL_S = 30.0
_LOOK_EVERY_S = 1.0  # looking costs half a millisecond


@dataclass(frozen=True, slots=True)
class LivenessLimits:
    """When a picture counts as bad, and for how long it must.

    Attributes:
        stall_floor_s: No camera is stalled sooner.
        stall_unknown_s: The same while its interval is not known.
        stall_intervals: Usual intervals between its frames without one that make a camera stalled.
        frozen_levels: Largest mean change, in grey levels, of a frozen picture; a lens with a sensor behind it changes
            more, by noise alone, at the latest when the next keyframe is coded.
        frozen_s: How long nothing may change.
        black_level: Grey level below which 99 of 100 pixels of a black picture lie.
        black_s: How long it must be black.
        detail_levels: Mean difference between neighbouring blocks below which a picture shows nothing.
        covered_s: How long it must show nothing.
    """

    stall_floor_s: float = 2.0
    stall_unknown_s: float = 10.0
    stall_intervals: float = 5.0
    frozen_levels: float = 0.02
    frozen_s: float = 10.0
    black_level: float = 24.0
    black_s: float = 2.0
    detail_levels: float = 1.0
    covered_s: float = 3.0


class StallWatch:
    """Notices that frames have ceased, measured in the camera's own intervals, so that slow cameras are left alone."""

    def __init__(self, limits: LivenessLimits | None = None) -> None:
        self._limits = limits or LivenessLimits()
        self._last_s: float | None = None
        self._interval_s, self._steps = 0.0, 0
        self._stalled = False
        self.stalls = 0

    def restart(self) -> None:
        """A connection began or ended: silence before its first frame is no stall."""
        self._last_s, self._stalled = None, False

    def saw(self, now_s: float) -> None:
        """A frame was decoded."""
        self.stalled(now_s)
        if self._last_s is not None:
            step_s = min(now_s - self._last_s, _LONGEST_INTERVAL_S)
            # Rises at once, falls slowly: a camera that sends in bursts is judged by its pauses.
            self._steps += 1
            self._interval_s = max(step_s, self._interval_s + 0.05 * (step_s - self._interval_s))
        self._last_s, self._stalled = now_s, False

    def stalled(self, now_s: float) -> bool:
        """Whether frames have ceased; a silence is counted once."""
        if self._last_s is None:
            return False
        if not self._stalled and now_s - self._last_s > self.limit_s:
            self._stalled = True
            self.stalls += 1
        return self._stalled

    @property
    def limit_s(self) -> float:
        """Silence that makes a stall."""
        floor_s = self._limits.stall_floor_s if self._steps >= _STEPS_TO_KNOW else self._limits.stall_unknown_s
        return max(floor_s, self._limits.stall_intervals * self._interval_s)


class SightWatch:
    """Notices that the pictures show nothing, or nothing new, from the grey frames that are made anyway."""

    def __init__(self, limits: LivenessLimits | None = None) -> None:
        self._limits = limits or LivenessLimits()
        self._still: UInt8Array | None = None  # the picture that nothing has differed from
        self._since: dict[CameraState, float] = {}
        self._looked_s: float | None = None
        self.state: CameraState | None = None  # None: it sees

    def restart(self) -> None:
        """A connection began: what was seen before says nothing."""
        self._still = self._looked_s = self.state = None
        self._since.clear()

    def saw(self, grey: UInt8Array, now_s: float) -> CameraState | None:
        """Judge a frame; about one a second is looked at.

        Args:
            grey: `[H, W]` uint8.
            now_s: Monotonic time.

        Returns:
            BLACK, COVERED, FROZEN, or None; the first that applies.
        """
        if self._looked_s is not None and now_s - self._looked_s < _LOOK_EVERY_S:
            return self.state
        self._looked_s = now_s
        limits = self._limits
        dark = is_black(grey, limits.black_level)
        still = self._still is not None and mean_change(self._still, grey) <= limits.frozen_levels
        if not still:
            self._still = grey
        checks = (
            (CameraState.BLACK, dark, limits.black_s),
            (CameraState.COVERED, not dark and detail(grey) < limits.detail_levels, limits.covered_s),
            (CameraState.FROZEN, still, limits.frozen_s),
        )
        self.state = None
        for state, applies, hold_s in checks:
            if not applies:
                self._since.pop(state, None)
            elif now_s - self._since.setdefault(state, now_s) >= hold_s and self.state is None:
                self.state = state
        return self.state


def is_black(grey: UInt8Array, level: float) -> bool:
    """Whether (nearly) no light is in a picture: 99 of 100 pixels are below `level`; a lamp at night is light."""
    return bool(np.count_nonzero(grey >= level) <= grey.size // 100)


def detail(grey: UInt8Array) -> float:
    """Mean absolute difference between neighbouring 8 by 8 block means, in grey levels; noise averages out."""
    height, width = grey.shape[0] // _BLOCK * _BLOCK, grey.shape[1] // _BLOCK * _BLOCK
    # A block's sum fits into uint16; summing integers along one axis at a time is four times as fast as a mean.
    columns = grey[:height, :width].reshape(height // _BLOCK, _BLOCK, width).sum(axis=1, dtype=np.uint16)
    sums = columns.reshape(height // _BLOCK, width // _BLOCK, _BLOCK).sum(axis=2, dtype=np.uint16)
    blocks: NDArray[np.float32] = sums.astype(np.float32) / np.float32(_BLOCK * _BLOCK)
    return float((np.abs(np.diff(blocks, axis=0)).mean() + np.abs(np.diff(blocks, axis=1)).mean()) / 2)


def mean_change(one: UInt8Array, other: UInt8Array) -> float:
    """Mean absolute difference of two pictures of one size, in grey levels."""
    # The wrap-around of uint8 is undone by taking the smaller way round of max - min; no int16 copies.
    return float(np.mean(np.maximum(one, other) - np.minimum(one, other)))


__all__ = ["LivenessLimits", "SightWatch", "StallWatch", "detail", "is_black", "mean_change"]
