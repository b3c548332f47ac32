"""How a decoded frame becomes what the models see; the one conversion that live path and training share.

Both conversions squeeze the picture to a fixed size and ignore its aspect ratio: a camera's geometry does not change,
and nothing at the edges is lost. swscale's bilinear filter widens with the scale factor, so shrinking does not alias.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from av.video.reformatter import VideoReformatter

from streamkd.focus import view_shape

if TYPE_CHECKING:
    import av

    from streamkd.types import UInt8Array

GREY_HEIGHT = 240
GREY_WIDTH = 360

# Eight bits, colour at half the resolution: what cameras send. Other formats are converted and scaled in one step.
_PLANAR = frozenset({"yuv420p", "yuvj420p"})

# Newer PyAV scales on every core unless told otherwise; a worker has many cameras and few cores.
_ONE_THREAD: dict[str, Any] = {"threads": 1} if "threads" in (VideoReformatter.reformat.__doc__ or "") else {}


class Scaler:
    """What one camera's conversion to RGB keeps from frame to frame: setting a scaler up takes longer than using it.

    Scaled first, and turned into RGB then, a picture costs less than half: swscale has no fast way to do both at once.
    The two ways differ by a grey level on average.
    """

    def __init__(self) -> None:
        self._size, self._colour = VideoReformatter(), VideoReformatter()

    def rgb(self, frame: av.VideoFrame, width: int, height: int) -> UInt8Array:
        """`[height, width, 3]` uint8."""
        first = frame.format.name if frame.format.name in _PLANAR else "rgb24"
        small = self._size.reformat(
            frame, width=width, height=height, format=first, interpolation="BILINEAR", **_ONE_THREAD
        )
        return cast("UInt8Array", self._colour.reformat(small, format="rgb24", **_ONE_THREAD).to_ndarray())


def to_student_rgb(frame: av.VideoFrame, size: int, scaler: Scaler | None = None) -> UInt8Array:
    """Convert a decoded frame to the student's input.

    Args:
        frame: Any decoded frame (any pixel format, size and colour range).
        size: Height and width of the result, `S`.
        scaler: The camera's.

    Returns:
        `[S, S, 3]` uint8, RGB.
    """
    return to_rgb(frame, size, size, scaler)


def to_view(frame: av.VideoFrame, size: int, *, keep_aspect: bool, scaler: Scaler | None = None) -> UInt8Array:
    """Convert a decoded frame to what is made of it for a student.

    Args:
        frame: Any decoded frame.
        size: Pixels of the result's height and width, or of its shorter side.
        keep_aspect: False squeezes to a square; True keeps the picture's proportions, to a few pixels.
        scaler: The camera's.

    Returns:
        `[H, W, 3]` uint8, RGB.
    """
    width, height = view_shape(frame.width, frame.height, size) if keep_aspect else (size, size)
    return to_rgb(frame, width, height, scaler)


def to_rgb(frame: av.VideoFrame, width: int, height: int, scaler: Scaler | None = None) -> UInt8Array:
    """Convert a decoded frame to `[height, width, 3]` uint8, RGB."""
    return (scaler or Scaler()).rgb(frame, width, height)


def to_grey(frame: av.VideoFrame, reformatter: VideoReformatter | None = None) -> UInt8Array:
    """Convert a decoded frame to the motion baseline's input: `[240, 360]` uint8, full-range luma."""
    scaler = reformatter or VideoReformatter()
    small = scaler.reformat(
        frame, width=GREY_WIDTH, height=GREY_HEIGHT, format="gray", interpolation="BILINEAR", **_ONE_THREAD
    )
    return cast("UInt8Array", small.to_ndarray())


def one_thread() -> dict[str, Any]:
    """Arguments of `VideoReformatter.reformat` that keep it on the calling thread, where PyAV knows them."""
    return _ONE_THREAD


__all__ = ["GREY_HEIGHT", "GREY_WIDTH", "Scaler", "one_thread", "to_grey", "to_rgb", "to_student_rgb", "to_view"]
