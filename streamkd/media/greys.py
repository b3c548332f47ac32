"""Every frame of a recording in grey, at the recording's own rate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av

from streamkd.errors import UnsupportedMediaError
from streamkd.media.convert import Scalers, to_grey
from streamkd.types import UInt8Array


def iter_grey(path: Path) -> Iterator[UInt8Array]:
    """All frames of a recording, `[240, 360]` uint8 each.

    Raises:
        UnsupportedMediaError: The file is missing, no video, or damaged.
    """
    scalers = Scalers()
    try:
        with av.open(str(path), mode="r") as container:
            if not container.streams.video:
                raise UnsupportedMediaError(f"{path} has no video track.", hint="Name a video file.")
            stream = container.streams.video[0]
            stream.thread_count = 1
            for frame in container.decode(stream):
                yield to_grey(frame, scalers)
    except (av.FFmpegError, OSError) as error:
        raise UnsupportedMediaError(
            f"{path} can't be decoded as a video: {type(error).__name__}.",
            hint="Check that the file is complete and plays in a video player.",
        ) from error


__all__ = ["iter_grey"]
