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

_KINDS, _EACH = 256, 3  # of scalers, and of each, that are kept while nobody uses them
# Newer PyAV scales on every core unless told otherwise; a worker has many cameras and few cores.
_ONE_THREAD: dict[str, Any] = {"threads": 1} if "threads" in (VideoReformatter.reformat.__doc__ or "") else {}


class Scalers:
    """The scalers of all cameras that are converted for one purpose, used by any number of threads.

    Setting a scaler up takes longer than using it, and one holds up to a megabyte: so there are as many of a kind as
    threads that convert at the same time, not as many as cameras.

    Scaled first, and turned into RGB then, a picture costs less than half: swscale has no fast way to do both at once.
    The two ways differ by a grey level on average.
    """

    def __init__(self) -> None:
        self._idle: dict[tuple[str | int, ...], list[VideoReformatter]] = {}

    def rgb(self, frame: av.VideoFrame, width: int, height: int) -> UInt8Array:
        """`[height, width, 3]` uint8."""
        first = frame.format.name if frame.format.name in _PLANAR else "rgb24"
        small = self._scaled(frame, width, height, first)
        return cast("UInt8Array", self._scaled(small, width, height, "rgb24").to_ndarray())

    def grey(self, frame: av.VideoFrame, width: int, height: int) -> UInt8Array:
        """`[height, width]` uint8, full-range luma."""
        return cast("UInt8Array", self._scaled(frame, width, height, "gray").to_ndarray())

    def _scaled(self, frame: av.VideoFrame, width: int, height: int, to: str) -> av.VideoFrame:
        idle = self._of_kind((frame.format.name, frame.width, frame.height, to, width, height))
        try:
            scaler = idle.pop()
        except IndexError:
            scaler = VideoReformatter()
        try:
            return scaler.reformat(
                frame, width=width, height=height, format=to, interpolation="BILINEAR", **_ONE_THREAD
            )
        finally:
            if len(idle) < _EACH:
                idle.append(scaler)

    def _of_kind(self, kind: tuple[str | int, ...]) -> list[VideoReformatter]:
        if kind not in self._idle and len(self._idle) >= _KINDS:
            self._idle = {}  # a stream that changes its size again and again must not fill the memory
        return self._idle.setdefault(kind, [])


def to_student_rgb(frame: av.VideoFrame, size: int, scalers: Scalers | None = None) -> UInt8Array:
    """Convert a decoded frame to the student's input.

    Args:
        frame: Any decoded frame (any pixel format, size and colour range).
        size: Height and width of the result, `S`.
        scalers: To be used; None: new ones.

    Returns:
        `[S, S, 3]` uint8, RGB.
    """
    return to_rgb(frame, size, size, scalers)


def to_view(frame: av.VideoFrame, size: int, *, keep_aspect: bool, scalers: Scalers | None = None) -> UInt8Array:
    """Convert a decoded frame to what is made of it for a student.

    Args:
        frame: Any decoded frame.
        size: Pixels of the result's height and width, or of its shorter side.
        keep_aspect: False squeezes to a square; True keeps the picture's proportions, to a few pixels.
        scalers: To be used; None: new ones.

    Returns:
        `[H, W, 3]` uint8, RGB.
    """
    width, height = view_shape(frame.width, frame.height, size) if keep_aspect else (size, size)
    return to_rgb(frame, width, height, scalers)


def to_rgb(frame: av.VideoFrame, width: int, height: int, scalers: Scalers | None = None) -> UInt8Array:
    """Convert a decoded frame to `[height, width, 3]` uint8, RGB."""
    return (scalers or Scalers()).rgb(frame, width, height)


def to_grey(frame: av.VideoFrame, scalers: Scalers | None = None) -> UInt8Array:
    """Convert a decoded frame to the motion baseline's input: `[240, 360]` uint8, full-range luma."""
    return (scalers or Scalers()).grey(frame, GREY_WIDTH, GREY_HEIGHT)


def one_thread() -> dict[str, Any]:
    """Arguments of `VideoReformatter.reformat` that keep it on the calling thread, where PyAV knows them."""
    return _ONE_THREAD


__all__ = ["GREY_HEIGHT", "GREY_WIDTH", "Scalers", "one_thread", "to_grey", "to_rgb", "to_student_rgb", "to_view"]
