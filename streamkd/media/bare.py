"""Bare PyAV, nothing around it: what reading a stream costs at least. Benchmarks compare the live path with this."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import av
import av.error
from av.video.reformatter import VideoReformatter

from streamkd.media.convert import to_student_rgb

if TYPE_CHECKING:
    from collections.abc import Callable

_TIMEOUT_S = 5.0


@dataclass(slots=True)
class BareCosts:
    """CPU time of one thread, by what it was spent on; seconds."""

    packets: int = 0
    frames: int = 0
    converted: int = 0
    demux_s: float = 0.0
    decode_s: float = 0.0
    convert_s: float = 0.0

    def add(self, other: BareCosts) -> None:
        """Sum up."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


def read_bare(
    url: str,
    costs: BareCosts,
    *,
    stopped: Callable[[], bool],
    rate_hz: float = 5.0,
    size: int = 160,
    skip_frame: str = "DEFAULT",
    skip_loop_filter: str = "default",
    convert: bool = True,
) -> None:
    """Demux, decode, convert what is due, on the calling thread, until `stopped()` or the end; adds up what it cost.

    Args:
        url: A file, or an RTSP address (read over TCP).
        costs: Where costs are added.
        stopped: Asked once a packet.
        rate_hz: Of the frames that are converted.
        size: Height and width they are converted to.
        skip_frame: ffmpeg's AVDiscard name: DEFAULT, NONREF, NONKEY.
        skip_loop_filter: ffmpeg's option of that name: default, noref, nokey, all.
        convert: Whether to convert at all.

    Raises:
        OSError: It can't be opened.
    """
    options = {"rtsp_transport": "tcp", "allowed_media_types": "video"} if "://" in url else {}
    scaler, clock = VideoReformatter(), time.thread_time
    with av.open(url, options=options, timeout=(_TIMEOUT_S, _TIMEOUT_S)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        context: Any = stream.codec_context
        context.skip_frame = skip_frame
        context.options = {"skip_loop_filter": skip_loop_filter}
        next_s = 0.0
        began = clock()
        for packet in container.demux(stream):
            demuxed = clock()
            frames = context.decode(packet)
            decoded = clock()
            for frame in frames:
                at_s = frame.time or 0.0
                if convert and at_s >= next_s - 1e-6:
                    next_s += max(1, int((at_s - next_s) * rate_hz) + 1) / rate_hz
                    to_student_rgb(frame, size, scaler)
                    costs.converted += 1
            ended = clock()
            costs.packets += packet.size > 0
            costs.frames += len(frames)
            costs.demux_s += demuxed - began
            costs.decode_s += decoded - demuxed
            costs.convert_s += ended - decoded
            began = clock()
            if stopped():
                return


__all__ = ["BareCosts", "read_bare"]
