"""Reading a recording as the live path reads a camera: same repair, sampling and conversion; no thread, no drops."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamkd.clock import Clock, SystemClock
from streamkd.errors import SourceError, TooLargeError, UnsupportedMediaError
from streamkd.media.due import DueFrames
from streamkd.media.source import RECORDING_FORMATS, UPLOAD_FORMATS, open_recording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streamkd.media.source import DecodedFrame, Source
    from streamkd.types import Frame

LOOP_FILTER = {"none": "default", "nonkey": "nokey", "all": "all"}  # by our name: ffmpeg's
MAX_UPLOAD_PIXELS = 4096 * 2304  # 4K, with room
_TRUNCATED_SHARE = 0.9
_TRUNCATED_S = 1.0


def read_recording(
    path: Path,
    rate_hz: float,
    size: int,
    *,
    keep_aspect: bool = False,
    skip_loop_filter: str = "none",
    camera_id: str = "recording",
    clock: Clock | None = None,
) -> Iterator[Frame]:
    """The due frames of a recording, as fast as they are asked for.

    Args:
        path: A video file.
        rate_hz: Of the student.
        size: Height and width of the pictures that the student gets.
        keep_aspect: The picture keeps its proportions, and `size` is its shorter side.
        skip_loop_filter: As a camera's setting of that name; what is left out live has to be left out here as well.
        camera_id: Name in the frames.
        clock: For `received_s`; scores do not depend on it.

    Raises:
        UnsupportedMediaError: The file is missing, empty, truncated, or not a video.
    """
    due = DueFrames(camera_id, rate_hz, size, keep_aspect=keep_aspect)
    yield from _read(path, str(path), due, clock or SystemClock(), RECORDING_FORMATS, None, None, skip_loop_filter)


def decode_upload(
    path: Path,
    rate_hz: float,
    size: int,
    *,
    max_duration_s: float,
    max_pixels: int = MAX_UPLOAD_PIXELS,
    keep_aspect: bool = False,
    skip_loop_filter: str = "none",
    camera_id: str = "upload",
    name: str = "",
    clock: Clock | None = None,
) -> Iterator[Frame]:
    """The due frames of a file that a stranger sent: MP4, MOV, MKV, WebM, AVI or MPEG-TS, never a playlist.

    What its header says is checked first, what it holds is checked again while it is decoded.

    Args:
        path: The file.
        rate_hz: Of the student.
        size: Height and width of the pictures that the student gets.
        max_duration_s: Longest clip.
        max_pixels: Largest picture, width times height.
        keep_aspect: The picture keeps its proportions, and `size` is its shorter side.
        skip_loop_filter: As a camera's setting of that name; what is left out live has to be left out here as well.
        camera_id: Name in the frames.
        name: What the sender called it, for messages; the file's own name if empty.
        clock: For `received_s`.

    Raises:
        UnsupportedMediaError: Empty, truncated, another format, or not a video.
        TooLargeError: Longer or larger than allowed.
    """
    due = DueFrames(camera_id, rate_hz, size, keep_aspect=keep_aspect)
    clock = clock or SystemClock()
    yield from _read(path, name or path.name, due, clock, UPLOAD_FORMATS, max_duration_s, max_pixels, skip_loop_filter)


def _read(
    path: Path,
    name: str,
    due: DueFrames,
    clock: Clock,
    formats: str,
    max_duration_s: float | None,
    max_pixels: int | None,
    skip_loop_filter: str,
) -> Iterator[Frame]:
    if path.is_file() and path.stat().st_size == 0:
        raise UnsupportedMediaError(f"{name} is empty.", hint="Send the whole file.")
    last: DecodedFrame | None = None
    first_s, seen_s, failed = 0.0, 0.0, False
    try:
        with open_recording(path, clock, formats=formats) as source:
            _check(name, source.info.duration_s, source.info.width * source.info.height, max_duration_s, max_pixels)
            source.skip_loop_filter(LOOP_FILTER[skip_loop_filter])
            due.restart(fps=source.info.fps)
            frames = source.frames()
            while True:
                try:
                    decoded = next(frames, None)
                except SourceError:
                    failed, decoded = True, None
                if decoded is None:
                    break
                if last is None:
                    first_s = decoded.raw_pts_s or 0.0
                last = decoded
                seen_s = max(seen_s, (decoded.raw_pts_s or 0.0) - first_s)
                _check(name, seen_s, decoded.frame.width * decoded.frame.height, max_duration_s, max_pixels)
                frame = due.push(decoded)
                if frame is not None:
                    yield frame
            _check_whole(name, source, seen_s, failed=failed, any_frame=last is not None)
    except SourceError as error:
        raise UnsupportedMediaError(error.message.replace(str(path), name), hint=error.hint) from None


def _check(
    name: str, duration_s: float | None, pixels: int, max_duration_s: float | None, max_pixels: int | None
) -> None:
    if max_duration_s is not None and duration_s is not None and duration_s > max_duration_s:
        raise TooLargeError(f"{name} is longer than {max_duration_s:.0f} s.", hint="Cut it, or raise api.max_upload_s.")
    if max_pixels is not None and pixels > max_pixels:
        raise TooLargeError(
            f"{name} has pictures of {pixels / 1e6:.1f} megapixels; {max_pixels / 1e6:.1f} are allowed.",
            hint="Scale it down.",
        )


def _check_whole(name: str, source: Source, seen_s: float, *, failed: bool, any_frame: bool) -> None:
    """A recording that ends long before the length that its header says was cut off on its way."""
    announced_s = source.info.duration_s
    missing_s = 0.0 if announced_s is None else announced_s - seen_s
    if not any_frame:
        raise UnsupportedMediaError(f"{name} holds no picture that can be decoded.", hint="Send the whole file.")
    if failed or (announced_s is not None and seen_s < _TRUNCATED_SHARE * announced_s and missing_s > _TRUNCATED_S):
        of = f" of {announced_s:.1f} s" if announced_s is not None else ""
        raise UnsupportedMediaError(
            f"{name} is truncated or damaged: it can be read for {seen_s:.1f} s{of}.", hint="Send the whole file."
        )


__all__ = ["LOOP_FILTER", "MAX_UPLOAD_PIXELS", "decode_upload", "read_recording"]
