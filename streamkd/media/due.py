"""From decoded frames to due frames: the part of the way that live cameras and recordings share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from av.video.reformatter import VideoReformatter

from streamkd.media.convert import to_grey, to_student_rgb
from streamkd.media.pictures import AvPicture
from streamkd.media.sampler import Sampler
from streamkd.media.timestamps import TimestampRepair
from streamkd.types import Frame

if TYPE_CHECKING:
    from streamkd.media.source import DecodedFrame


class DueFrames:
    """Repairs times, picks due frames, converts those and no others.

    Args:
        camera_id: Name in the frames.
        rate_hz: Of the student.
        size: Height and width of the student's input.
        first_segment: Number of the first segment.
    """

    def __init__(self, camera_id: str, rate_hz: float, size: int, *, first_segment: int = 0) -> None:
        self._camera_id = camera_id
        self._size = size
        self._repair = TimestampRepair(first_segment=first_segment)
        self._sampler = Sampler(rate_hz)
        self._rgb_scaler, self._grey_scaler = VideoReformatter(), VideoReformatter()
        self._shape: tuple[int, int] | None = None
        self.due = 0

    def restart(self, *, fps: float = 0.0) -> None:
        """A new connection: the next frame begins a new segment."""
        self._repair.restart(interval_s=1.0 / fps if fps > 0 else None)

    def push(self, decoded: DecodedFrame) -> Frame | None:
        """The frame as the student gets it if it is due, else None."""
        shape = (decoded.frame.width, decoded.frame.height)
        if shape != self._shape:
            if self._shape is not None:
                self._repair.restart()
            self._shape = shape
        stamp = self._repair.repair(decoded.raw_pts_s)
        if not self._sampler.due(stamp.segment, stamp.pts_s):
            return None
        self.due += 1
        return Frame(
            camera_id=self._camera_id,
            segment=stamp.segment,
            pts_s=stamp.pts_s,
            received_s=decoded.arrived_s,
            rgb=to_student_rgb(decoded.frame, self._size, self._rgb_scaler),
            grey=to_grey(decoded.frame, self._grey_scaler),
            picture=AvPicture(decoded.frame),
        )


__all__ = ["DueFrames"]
