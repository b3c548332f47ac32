"""Writing a short clip from JPEG pictures, without encoding a second time."""

from __future__ import annotations

import io
import math
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from PIL import Image

from streamkd.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from streamkd.types import UInt8Array

CLIP_SUFFIX = ".mkv"
_TICKS_PER_S = 1000  # Matroska counts milliseconds


def write_jpeg_clip(path: Path, pictures: Sequence[bytes], rate_hz: float) -> None:
    """Put JPEG pictures into a Matroska file as Motion JPEG; the file appears complete or not at all.

    Picture `k` is shown at `k / rate_hz`, whatever its time was in the stream: sampled again at `rate_hz`, the clip
    gives every picture once (`streamkd.media.clips.DueGrid`), also from a camera whose frame rate is no multiple.

    Args:
        path: The file, ending in `CLIP_SUFFIX`.
        pictures: JPEG files of one size.
        rate_hz: Pictures a second.

    Raises:
        InputError: There is no picture, or one is no JPEG.
    """
    if not pictures:
        raise InputError(f"Clip {path.name} can't be written: it has no pictures.")
    try:
        with Image.open(io.BytesIO(pictures[0])) as first:
            width, height = first.size
    except OSError as error:
        raise InputError(f"Clip {path.name} can't be written: its first picture is no JPEG.") from error
    partial = path.with_name(f".{path.name}.partial")
    with av.open(str(partial), mode="w", format="matroska") as container:
        stream = container.add_stream("mjpeg", rate=Fraction(rate_hz).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        stream.time_base = Fraction(1, _TICKS_PER_S)
        for index, picture in enumerate(pictures):
            packet = av.Packet(picture)
            # Rounded up: a grid of 1 / rate_hz must not find a picture one slot early.
            packet.pts = packet.dts = math.ceil(index * _TICKS_PER_S / rate_hz - 1e-6)
            packet.time_base = Fraction(1, _TICKS_PER_S)
            packet.is_keyframe = True
            packet.stream = stream
            container.mux(packet)
    partial.replace(path)


def jpeg_of(rgb: UInt8Array, *, quality: int = 90) -> bytes:
    """A JPEG of `[H, W, 3]` uint8 RGB."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


__all__ = ["CLIP_SUFFIX", "jpeg_of", "write_jpeg_clip"]
