"""Full-size frames that become a JPEG when someone asks."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from av.video.reformatter import VideoReformatter
from PIL import Image

from streamkd.media.convert import one_thread

if TYPE_CHECKING:
    import av


class AvPicture:
    """A decoded frame as a `streamkd.types.Picture`; encoding costs nothing until `jpeg` is called, on any thread."""

    __slots__ = ("_frame", "height", "width")

    def __init__(self, frame: av.VideoFrame) -> None:
        self._frame = frame
        self.width: int = frame.width
        self.height: int = frame.height

    def jpeg(self, *, max_width_px: int = 1280, quality: int = 80) -> bytes:
        """The picture as a JPEG, at most `max_width_px` wide, with its aspect ratio kept."""
        width = min(self.width, max_width_px)
        height = max(1, round(self.height * width / self.width))
        # A scaler of its own: the one inside the frame would be shared by every thread that asks.
        small = VideoReformatter().reformat(
            self._frame, width=width, height=height, format="rgb24", interpolation="BILINEAR", **one_thread()
        )
        buffer = io.BytesIO()
        Image.fromarray(small.to_ndarray()).save(buffer, "JPEG", quality=quality)
        return buffer.getvalue()


__all__ = ["AvPicture"]
