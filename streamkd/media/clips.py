"""Decoding a short recording as a whole, sampled exactly like the live path samples a camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import av
import numpy as np

from streamkd.errors import UnsupportedMediaError
from streamkd.focus import view_shape
from streamkd.media.convert import Scalers, to_rgb
from streamkd.media.sampler import DUE_SLACK_S, DueGrid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from streamkd.types import UInt8Array


@dataclass(frozen=True, slots=True)
class DecodedClip:
    """The due frames of one clip.

    Attributes:
        frames: `[T, H, W, 3]` uint8, RGB.
        pts_s: `[T]` float64, seconds since the clip's first frame.
        width: Of the video, in pixels.
        height: Of the video, in pixels.
        fps: Average frame rate of the video, 0 if unknown.
    """

    frames: UInt8Array
    pts_s: NDArray[np.float64]
    width: int
    height: int
    fps: float


def decode_clip(
    path: Path,
    rate_hz: float,
    size: int,
    *,
    keep_aspect: bool = False,
    start_s: float = 0.0,
    end_s: float | None = None,
) -> DecodedClip:
    """Decode the due frames of a clip.

    Args:
        path: A video file.
        rate_hz: Sampling rate of the grid.
        size: Height and width of the frames.
        keep_aspect: The picture keeps its proportions, and `size` is its shorter side.
        start_s: Leave out what comes before, in seconds from the first frame; the grid begins there.
        end_s: Leave out what comes from here on.

    Raises:
        UnsupportedMediaError: The file is missing, empty, no video, or holds no decodable frame in the range.
    """

    def shape(width: int, height: int) -> tuple[int, int]:
        return view_shape(width, height, size) if keep_aspect else (size, size)

    return decode_shaped(path, rate_hz, shape, start_s=start_s, end_s=end_s)


def decode_shaped(
    path: Path,
    rate_hz: float,
    shape: Callable[[int, int], tuple[int, int]],
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
) -> DecodedClip:
    """Decode the due frames of a clip in another shape than a square, for teachers.

    Args:
        path: A video file.
        rate_hz: Sampling rate of the grid.
        shape: Width and height of the frames, from those of the video.
        start_s: As in `decode_clip`.
        end_s: As in `decode_clip`.

    Raises:
        UnsupportedMediaError: See `decode_clip`.
    """
    try:
        with av.open(str(path), mode="r") as container:
            return _decode(container, path, rate_hz, shape, start_s, end_s)
    except (av.FFmpegError, OSError) as error:
        raise UnsupportedMediaError(
            f"{path} can't be decoded as a video: {type(error).__name__}.",
            hint="Check that the file is complete and plays in a video player.",
        ) from error


def _decode(
    container: av.container.InputContainer,
    path: Path,
    rate_hz: float,
    shape: Callable[[int, int], tuple[int, int]],
    start_s: float,
    end_s: float | None,
) -> DecodedClip:
    if not container.streams.video:
        raise UnsupportedMediaError(f"{path} has no video track.", hint="Name a video file.")
    stream = container.streams.video[0]
    stream.thread_count = 1
    fps = float(stream.average_rate or 0)
    grid, scalers = DueGrid(rate_hz), Scalers()
    frames: list[UInt8Array] = []
    times: list[float] = []
    first_s: float | None = None
    size: tuple[int, int] | None = None
    for index, frame in enumerate(_frames(container, stream)):
        pts_s = frame.time if frame.time is not None else index / (fps or 25.0)
        first_s = pts_s if first_s is None else first_s
        at_s = pts_s - first_s
        if end_s is not None and at_s >= end_s:
            break
        if at_s >= start_s - DUE_SLACK_S and grid.due(at_s):
            size = size or shape(frame.width, frame.height)  # of all frames, also where the video changes its own
            frames.append(to_rgb(frame, *size, scalers))
            times.append(at_s)
    if not frames:
        where = f" from {start_s:g} s on" if start_s > 0 else ""
        raise UnsupportedMediaError(
            f"{path} holds no frame that can be decoded{where}.", hint="Check its length, and that it is complete."
        )
    return DecodedClip(np.stack(frames), np.asarray(times), stream.width, stream.height, fps)


def _frames(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """All frames until the end or the first error; a truncated clip gives what was decodable."""
    decoded = container.decode(stream)
    while True:
        try:
            frame = next(decoded)
        except (StopIteration, av.FFmpegError):
            return
        yield frame


__all__ = ["DUE_SLACK_S", "DecodedClip", "DueGrid", "decode_clip", "decode_shaped"]
