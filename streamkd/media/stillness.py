"""Whether a camera shows a still scene, told from the sizes of its compressed pictures: a pure decision.

An encoder that may vary its bitrate spends next to nothing on what does not change, so a picture that is larger than
the still ones before it says that something moves, before it is decoded. What the sizes of stillness are is learnt per
camera, while everything is still decoded and the pixels say that nothing moves; the decoded keyframes of a still scene
go on checking. Where sizes say nothing, the gate stays open:

- a constant bitrate is spent on noise as on motion: predicted pictures are then no small share of a keyframe;
- pictures of motion that was seen were not larger than the still ones;
- keyframes differ although the sizes between them said that nothing moved.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum

import numpy as np


class Scene(StrEnum):
    """What is known about the scene."""

    MOVING = "moving"  # or not known to be still: everything is decoded
    STILL = "still"


@dataclass(frozen=True, slots=True)
class StillnessLimits:
    """When a scene counts as still, and when as awake.

    Attributes:
        motion_levels: Largest cell of the frame difference, in grey levels, that is still noise; keyframes differ from
            the pictures before them by about 2.
        wrong_levels: The same between pictures of a still scene, which lie seconds apart; above, the sizes were wrong.
        repeat_s: How long the student's answer is given again while the pixels stay within noise of what it saw.
        quiet_s: How long the pixels must have been quiet.
        least_pictures: Sizes that must be known.
        largest_share: Of a keyframe's size that the median still picture may have; above, bits are spent on noise.
        single: One picture above this many times the largest still one wakes the scene.
        several: So does the mean of five above this many times the largest such mean.
        slack_bytes: Added to both, for streams whose still pictures are nearly empty.
        widest: Largest factor by which false alarms may widen the margins.
        contrast: How many times larger the median moving picture must be than the still one.
        off_s: How long a gate that was wrong stays open; doubled every time.
        longest_off_s: At most.
    """

    motion_levels: float = 3.0
    wrong_levels: float = 6.0
    repeat_s: float = 10.0
    quiet_s: float = 3.0
    least_pictures: int = 20
    largest_share: float = 0.1
    single: float = 1.5
    several: float = 1.25
    slack_bytes: float = 150.0
    widest: float = 2.0
    contrast: float = 1.5
    off_s: float = 60.0
    longest_off_s: float = 3600.0


_SEVERAL = 5
_REMEMBERED = 150
_WIDEN, _NARROW = 1.25, 0.98


class Stillness:
    """One connection's decision; fed by its reader.

    Args:
        limits: See there.
    """

    def __init__(self, limits: StillnessLimits | None = None) -> None:
        self._limits = limits or StillnessLimits()
        self.scene = Scene.MOVING
        self._quiet: deque[float] = deque(maxlen=_REMEMBERED)  # sizes of pictures while the pixels were quiet
        self._moving: deque[float] = deque(maxlen=_REMEMBERED)
        self._recent: deque[float] = deque(maxlen=_SEVERAL)
        self._since_picture: list[float] = []  # sizes since the last judged picture
        self._keyframe_bytes = 0.0
        self._quiet_since_s: float | None = None
        self._woke_s: float | None = None
        self._single_bytes = self._several_bytes = float("inf")
        self._widened = 1.0
        self._suspected: int | None = None  # pictures since a keyframe showed motion that no size had told
        self._off_until_s = float("-inf")
        self._wrong = 0
        self.wakes = 0

    @property
    def wrong(self) -> int:
        """How often the pixels said that the sizes were wrong."""
        return self._wrong

    def packet(self, size: int, pts_s: float, *, keyframe: bool) -> Scene:
        """Take the next compressed picture into account; returns the scene that it belongs to.

        Args:
            size: Bytes.
            pts_s: Its time.
            keyframe: Intra-coded; its size says nothing about motion.
        """
        if keyframe:
            self._keyframe_bytes = float(size)
            return self.scene
        if self._suspected is not None:
            self._examine(float(size), pts_s)
        self._recent.append(float(size))
        self._since_picture.append(float(size))
        if self.scene is Scene.STILL:
            if self._is_awake(float(size)):
                self.wakes += 1
                self._wake(pts_s)
            else:
                self._quiet.append(float(size))
        return self.scene

    def picture(self, motion: float | None, pts_s: float) -> Scene:
        """Take what the pixels say into account.

        Args:
            motion: How much the busiest cell changed since the picture before, in grey levels; None: there is no such
                picture, and nothing is known of the sizes since.
            pts_s: Time of the later one.
        """
        if motion is None:
            self._since_picture.clear()
            return self.scene
        moves = motion > self._limits.motion_levels
        if self.scene is Scene.STILL:
            if motion > self._limits.wrong_levels:
                self._wake(pts_s)
                self._suspected = 0
            self._since_picture.clear()
            return self.scene
        if moves:
            self._moving.extend(self._since_picture)
            self._quiet_since_s = None
            self._woke_s = None
            self._quiet.clear()
        else:
            if self._quiet_since_s is None:
                self._quiet_since_s = pts_s
            self._quiet.extend(self._since_picture)
            self._judge(pts_s)
        self._since_picture.clear()
        return self.scene

    def is_same(self, motion: float | None, passed_s: float) -> bool:
        """Whether a picture of a still scene shows nothing but noise that an earlier one did not.

        Args:
            motion: Of the busiest cell between the two, in grey levels; None: not known.
            passed_s: Between the two.
        """
        limits = self._limits
        quiet = motion is not None and motion <= limits.motion_levels
        return self.scene is Scene.STILL and quiet and passed_s < limits.repeat_s

    @property
    def wants_picture(self) -> bool:
        """Whether the pixels' motion would change anything; it costs a tenth of a millisecond to find out."""
        if self.scene is Scene.STILL or len(self._recent) < _SEVERAL or not self._keyframe_bytes:
            return True
        return sum(self._recent) / _SEVERAL <= self._limits.largest_share * self._keyframe_bytes

    # --- deciding --------------------------------------------------------------------------------------------------

    def _judge(self, pts_s: float) -> None:
        """The pixels are quiet: is the scene still, and do its sizes say so?"""
        limits = self._limits
        if self._quiet_since_s is None or pts_s - self._quiet_since_s < limits.quiet_s or pts_s < self._off_until_s:
            return
        if len(self._quiet) < limits.least_pictures or not self._says_something():
            return
        if self._woke_s is not None:
            # Awake for nothing: this encoder's noise is wider than was thought.
            self._widened = min(limits.widest, self._widened * _WIDEN)
            self._woke_s = None
        else:
            self._widened = max(1.0, self._widened * _NARROW)
        sizes = np.array(self._quiet)
        means = np.convolve(sizes, np.full(_SEVERAL, 1 / _SEVERAL), "valid")
        # One outlier in a hundred must not set the limit: an entry's first picture may be odd.
        self._single_bytes = float(np.quantile(sizes, 0.98)) * limits.single * self._widened + limits.slack_bytes
        self._several_bytes = float(means.max()) * limits.several * self._widened + limits.slack_bytes / 2
        self._recent.clear()
        self.scene = Scene.STILL

    def _says_something(self) -> bool:
        still = float(np.median(self._quiet))
        if still > self._limits.largest_share * self._keyframe_bytes:
            return False
        enough = len(self._moving) >= self._limits.least_pictures
        return not enough or float(np.median(self._moving)) >= self._limits.contrast * still

    def _is_awake(self, size: float) -> bool:
        if size > self._single_bytes:
            return True
        return len(self._recent) == _SEVERAL and sum(self._recent) / _SEVERAL > self._several_bytes

    def _wake(self, pts_s: float) -> None:
        self.scene = Scene.MOVING
        self._quiet_since_s, self._woke_s = None, pts_s
        self._quiet.clear()
        self._since_picture.clear()

    def _examine(self, size: float, pts_s: float) -> None:
        """Motion that began with a keyframe shows in the sizes after it; if it does not, sizes say nothing here."""
        assert self._suspected is not None
        self._suspected += 1
        if size > self._single_bytes:
            self._suspected = None
        elif self._suspected >= _SEVERAL:
            self._suspected = None
            self._distrust(pts_s)

    def _distrust(self, pts_s: float) -> None:
        limits = self._limits
        self._off_until_s = pts_s + min(limits.longest_off_s, limits.off_s * 2**self._wrong)
        self._wrong += 1


__all__ = ["Scene", "Stillness", "StillnessLimits"]
