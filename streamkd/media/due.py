"""From decoded frames to due frames: the part of the way that live cameras and recordings share."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from streamkd.media.convert import Scalers, to_grey, to_view
from streamkd.media.pictures import AvPicture
from streamkd.media.sampler import Sampler
from streamkd.media.timestamps import Stamp, TimestampRepair
from streamkd.types import Frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamkd.media.source import DecodedFrame
    from streamkd.types import UInt8Array


class Seen(NamedTuple):
    """A frame that the student looked at, as far as later ones are compared with it."""

    segment: int
    pts_s: float
    grey: UInt8Array
    rgb: UInt8Array


class DueFrames:
    """Repairs times, picks due frames, converts those and no others.

    Args:
        camera_id: Name in the frames.
        rate_hz: Of the student.
        size: Height and width of the pictures that the student gets.
        first_segment: Number of the first segment.
        keep_aspect: The picture keeps its proportions, and `size` is its shorter side.
        scalers: Shared with other cameras; None: of its own.
    """

    def __init__(
        self,
        camera_id: str,
        rate_hz: float,
        size: int,
        *,
        first_segment: int = 0,
        keep_aspect: bool = False,
        scalers: Scalers | None = None,
    ) -> None:
        self._camera_id = camera_id
        self._size, self._keep_aspect = size, keep_aspect
        self._repair = TimestampRepair(first_segment=first_segment)
        self._sampler = Sampler(rate_hz)
        self._scalers = scalers or Scalers()
        self._shape: tuple[int, int] | None = None
        self._rate_hz = rate_hz
        self._last: tuple[float, float] | None = None  # the last frame's own time and its repaired PTS
        self.due = 0

    def restart(self, *, fps: float = 0.0) -> None:
        """A new connection: the next frame begins a new segment."""
        self._last = None
        self._repair.restart(interval_s=1.0 / fps if fps > 0 else None)

    def push(
        self,
        decoded: DecodedFrame,
        *,
        anyway: bool = False,
        recognise: Callable[[DecodedFrame, Stamp, UInt8Array], Seen | None] | None = None,
    ) -> Frame | None:
        """The frame as the student gets it if it is due (or wanted anyway), else None.

        Args:
            decoded: In the order in which they are shown.
            anyway: Whether it is wanted, due or not.
            recognise: Says of a frame that is given on, by its place and its grey picture, which earlier one it is the
                same as, but for noise: that one's colours are given on, and the conversion is saved.
        """
        shape = (decoded.frame.width, decoded.frame.height)
        if shape != self._shape:
            if self._shape is not None:
                self._repair.restart()
            self._shape = shape
        stamp = self._stamp(decoded.raw_pts_s)
        due = self._sampler.due(stamp.segment, stamp.pts_s)
        self.due += due
        if not due and not anyway:
            return None
        grey = to_grey(decoded.frame, self._scalers)
        seen = None if recognise is None else recognise(decoded, stamp, grey)
        return Frame(
            camera_id=self._camera_id,
            segment=stamp.segment,
            pts_s=stamp.pts_s,
            received_s=decoded.arrived_s,
            rgb=self._view(decoded) if seen is None else seen.rgb,
            grey=grey,
            picture=AvPicture(decoded.frame),
            source_pts_s=decoded.raw_pts_s,
            same_as_s=None if seen is None else seen.pts_s,
        )

    def skip(self, raw_pts_s: float) -> bool:
        """A frame that is not decoded: its time passes all the same. Returns whether it would have been due."""
        stamp = self._stamp(raw_pts_s)
        due = self._sampler.due(stamp.segment, stamp.pts_s)
        self.due += due
        return due

    def restart_grid(self) -> None:
        """The next frame is due, and the grid of the rate begins with it."""
        self._sampler.restart()

    @property
    def next_source_s(self) -> float | None:
        """The source's own time from which on a frame is due; None: the next one may be."""
        next_s = self._sampler.next_s
        return None if self._last is None or next_s is None else self._last[0] + next_s - self._last[1]

    @property
    def rate_hz(self) -> float:
        """How many frames a second are due."""
        return self._rate_hz

    def set_rate(self, rate_hz: float) -> None:
        """Another rate from the next frame on; no new segment."""
        if rate_hz != self._rate_hz:
            self._rate_hz = rate_hz
            self._sampler.set_rate(rate_hz)

    def _view(self, decoded: DecodedFrame) -> UInt8Array:
        return to_view(decoded.frame, self._size, keep_aspect=self._keep_aspect, scalers=self._scalers)

    def _stamp(self, raw_pts_s: float | None) -> Stamp:
        stamp = self._repair.repair(raw_pts_s)
        self._last = None if raw_pts_s is None else (raw_pts_s, stamp.pts_s)
        return stamp


__all__ = ["DueFrames", "Seen"]
