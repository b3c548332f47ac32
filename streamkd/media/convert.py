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

# Newer PyAV scales on every core unless told otherwise; a worker has many cameras and few cores.
_ONE_THREAD: dict[str, Any] = {"threads": 1} if "threads" in (VideoReformatter.reformat.__doc__ or "") else {}


def to_student_rgb(frame: av.VideoFrame, size: int, reformatter: VideoReformatter | None = None) -> UInt8Array:
    """Convert a decoded frame to the student's input.

    Args:
        frame: Any decoded frame (any pixel format, size and colour range).
        size: Height and width of the result, `S`.
        reformatter: One kept per camera saves setting the scaler up for every frame.

    Returns:
        `[S, S, 3]` uint8, RGB.
    """
    return to_rgb(frame, size, size, reformatter)


def to_view(
    frame: av.VideoFrame, size: int, *, keep_aspect: bool, reformatter: VideoReformatter | None = None
) -> UInt8Array:
    """Convert a decoded frame to what is made of it for a student.

    Args:
        frame: Any decoded frame.
        size: Pixels of the result's height and width, or of its shorter side.
        keep_aspect: False squeezes to a square; True keeps the picture's proportions, to a few pixels.
        reformatter: As for `to_student_rgb`.

    Returns:
        `[H, W, 3]` uint8, RGB.
    """
    width, height = view_shape(frame.width, frame.height, size) if keep_aspect else (size, size)
    return to_rgb(frame, width, height, reformatter)


def to_rgb(frame: av.VideoFrame, width: int, height: int, reformatter: VideoReformatter | None = None) -> UInt8Array:
    """Convert a decoded frame to `[height, width, 3]` uint8, RGB."""
    scaler = reformatter or VideoReformatter()
    small = scaler.reformat(frame, width=width, height=height, format="rgb24", interpolation="BILINEAR", **_ONE_THREAD)
    return cast("UInt8Array", small.to_ndarray())


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


__all__ = ["GREY_HEIGHT", "GREY_WIDTH", "one_thread", "to_grey", "to_rgb", "to_student_rgb", "to_view"]
