"""Compressed packets into an MP4 file, as they are: nothing is decoded or encoded.

What the file has to know of the stream (size, profile, parameter sets) is read from the first keyframe itself, by
letting ffmpeg probe it as a raw stream: parameter sets may have come in-band only, and what was announced may be old.
"""

from __future__ import annotations

import io
from fractions import Fraction
from typing import TYPE_CHECKING, Self, cast

import av
import av.error

from streamkd.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from streamkd.media.packets import CodedPacket, CodedStream

_RAW_FORMATS = {"h264": "h264", "hevc": "hevc", "mjpeg": "mjpeg", "mpeg4": "m4v"}
_TICKS_PER_S = 90_000  # RTP's clock (RFC 6184)
_DEFAULT_INTERVAL_S = 0.04
_LONGEST_STEP_S = 10.0  # a longer step in time is a clock that was set, not a pause: the connection would have ended
_START_CODE = b"\x00\x00\x00\x01"


class PacketTimes:
    """Times of one clip in 90 kHz ticks from 0 on: DTS strictly rising, PTS never before DTS.

    A missing DTS is the PTS, a missing PTS the DTS; where both are missing, or a time jumps back or far ahead, the
    packet follows the last one after one usual interval.
    """

    def __init__(self, fps: float = 0.0) -> None:
        self._interval_s = 1 / fps if fps > 0 else _DEFAULT_INTERVAL_S
        self._origin_s: float | None = None
        self._raw_s: float | None = None  # the last packet's DTS as it came
        self._last = -1

    def place(self, pts_s: float | None, dts_s: float | None) -> tuple[int, int]:
        """PTS and DTS of the next packet, given those it carries in seconds."""
        raw_s = dts_s if dts_s is not None else pts_s
        next_s = 0.0 if self._last < 0 else self._last / _TICKS_PER_S + self._interval_s
        if raw_s is None:
            dts = round(next_s * _TICKS_PER_S)
        else:
            step_s = 0.0 if self._raw_s is None else raw_s - self._raw_s
            if self._origin_s is None or not 0 <= step_s <= _LONGEST_STEP_S:
                self._origin_s = raw_s - next_s
            dts = round((raw_s - self._origin_s) * _TICKS_PER_S)
            self._raw_s = raw_s
        self._last = max(dts, self._last + 1)
        shown_later_s = max(0.0, pts_s - dts_s) if pts_s is not None and dts_s is not None else 0.0
        return self._last + round(min(shown_later_s, _LONGEST_STEP_S) * _TICKS_PER_S), self._last


class ClipMuxer:
    """One MP4 file being written; belongs to the thread that uses it.

    Args:
        path: The file; overwritten, whole only after `close`.
        first: The keyframe that the clip begins with.

    Raises:
        InputError: The stream can't be put into an MP4 as it is.
        OSError: The file can't be written.
    """

    def __init__(self, path: Path, first: CodedPacket) -> None:
        self._coded = first.stream
        self._times = PacketTimes(first.stream.fps)
        self.size_bytes = 0
        raw_format = _RAW_FORMATS.get(first.stream.codec)
        if raw_format is None:
            raise InputError(f"A clip of a {first.stream.codec} stream can't be kept.", hint="Use H.264 or H.265.")
        # "+faststart": a browser begins to play before it has the whole file.
        self._container = av.open(str(path), mode="w", format="mp4", options={"movflags": "+faststart"})
        try:
            self._stream = self._add_stream(first, raw_format)
        except (av.FFmpegError, ValueError, IndexError) as error:
            self.close()
            raise InputError(f"A clip can't begin with this {first.stream.codec} picture: {error}.") from error

    def _add_stream(self, first: CodedPacket, raw_format: str) -> av.VideoStream:
        head = io.BytesIO(annexb_sets(first.stream) + annexb(first.data, first.stream))
        with av.open(head, mode="r", format=raw_format) as probe:
            template = probe.streams.video[0]
            if not template.codec_context.width:
                raise ValueError("it has no parameter sets")
            stream = self._container.add_stream_from_template(template, opaque=True)
        stream.time_base = Fraction(1, _TICKS_PER_S)
        return stream

    def add(self, packet: CodedPacket) -> None:
        """Write the next packet.

        Raises:
            OSError: The disk is full (ffmpeg's errors are of this kind).
        """
        seconds = (None if ticks is None else self._coded.seconds(ticks) for ticks in (packet.pts, packet.dts))
        data = annexb(packet.data, self._coded)
        made = cast("av.Packet[av.VideoStream]", av.Packet(cast("bytes", data)))  # any buffer will do
        made.stream = self._stream
        made.time_base = Fraction(1, _TICKS_PER_S)
        made.pts, made.dts = self._times.place(*seconds)
        made.is_keyframe = packet.keyframe
        self._container.mux(made)
        self.size_bytes += len(data)

    def close(self) -> None:
        """Write the file's index; a second call does nothing."""
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def annexb(data: memoryview | bytes, stream: CodedStream) -> memoryview | bytes:
    """A picture with start codes; those of MP4 files have the length before each NAL unit (ISO/IEC 14496-15, 5.3.3)."""
    if stream.is_annexb or stream.codec not in {"h264", "hevc"}:
        return data
    size = (stream.extradata[21 if stream.codec == "hevc" else 4] & 3) + 1
    units, at = [], 0
    while at + size <= len(data):
        length = int.from_bytes(data[at : at + size], "big")
        units.append(_START_CODE + data[at + size : at + size + length])
        at += size + length
    return b"".join(units)


def annexb_sets(stream: CodedStream) -> bytes:
    """The stream's out-of-band parameter sets with start codes (avcC: ISO/IEC 14496-15, 5.3.3.1; hvcC: 8.3.3.1)."""
    data = stream.extradata
    if stream.codec not in {"h264", "hevc"}:
        return b""
    if stream.is_annexb:
        return data
    return b"".join(_START_CODE + unit for unit in (_hvcc_units if stream.codec == "hevc" else _avcc_units)(data))


def _avcc_units(data: bytes) -> list[bytes]:
    units, at = [], 5
    for mask in (0x1F, 0xFF):  # the number of SPS shares its byte with reserved bits
        if at >= len(data):
            break
        count, at = data[at] & mask, at + 1
        for _ in range(count):
            length = int.from_bytes(data[at : at + 2], "big")
            units.append(data[at + 2 : at + 2 + length])
            at += 2 + length
    return units


def _hvcc_units(data: bytes) -> list[bytes]:
    units, at = [], 23
    for _ in range(data[22] if len(data) > 22 else 0):
        count = int.from_bytes(data[at + 1 : at + 3], "big")
        at += 3
        for _ in range(count):
            length = int.from_bytes(data[at : at + 2], "big")
            units.append(data[at + 2 : at + 2 + length])
            at += 2 + length
    return units


__all__ = ["ClipMuxer", "PacketTimes", "annexb", "annexb_sets"]
