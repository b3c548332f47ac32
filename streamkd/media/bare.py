"""Bare PyAV, nothing around it: what reading a stream costs at least. Benchmarks compare the live path with this."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import av
import av.error

from streamkd.media.convert import Scalers, to_student_rgb, to_view
from streamkd.media.sampler import DueGrid

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamkd.bundle import StudentSpec

_TIMEOUT_S = 5.0


@dataclass(slots=True)
class BareCosts:
    """CPU time of one thread, by what it was spent on; seconds. `square_s`: see `read_bare`."""

    packets: int = 0
    frames: int = 0
    converted: int = 0
    demux_s: float = 0.0
    decode_s: float = 0.0
    convert_s: float = 0.0
    square_s: float = 0.0

    def add(self, other: BareCosts) -> None:
        """Sum up."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


def read_bare(
    url: str,
    costs: BareCosts,
    *,
    spec: StudentSpec,
    stopped: Callable[[], bool],
    skip_frame: str = "DEFAULT",
    skip_loop_filter: str = "default",
    square: bool = False,
) -> None:
    """Demux, decode, convert what is due, on the calling thread, until `stopped()` or the end; adds up what it cost.

    What is due is converted to the pictures that the student asks for, as the live path does (`StudentSpec.view_size`).

    Args:
        url: A file, or an RTSP address (read over TCP).
        costs: Where costs are added.
        spec: The student that due frames are converted for.
        stopped: Asked once a packet.
        skip_frame: ffmpeg's AVDiscard name: DEFAULT, NONREF, NONKEY.
        skip_loop_filter: ffmpeg's option of that name: default, noref, nokey, all.
        square: Convert each due frame a second time, squeezed to a square of the student's input size, and add that to
            `square_s`: what a student without a gaze would have asked for.

    Raises:
        OSError: It can't be opened.
    """
    options = {"rtsp_transport": "tcp", "allowed_media_types": "video"} if "://" in url else {}
    scalers, clock = Scalers(), time.thread_time
    with av.open(url, options=options, timeout=(_TIMEOUT_S, _TIMEOUT_S)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        context: Any = stream.codec_context
        context.skip_frame = skip_frame
        context.options = {"skip_loop_filter": skip_loop_filter}
        grid = DueGrid(spec.rate_hz)
        began = clock()
        for packet in container.demux(stream):
            demuxed = clock()
            frames = context.decode(packet)
            decoded = clock()
            due = [frame for frame in frames if grid.due(frame.time or 0.0)]
            for frame in due:
                to_view(frame, spec.view_size, keep_aspect=spec.keeps_aspect, scalers=scalers)
            ended = clock()
            costs.converted += len(due)
            costs.packets += packet.size > 0
            costs.frames += len(frames)
            costs.demux_s += demuxed - began
            costs.decode_s += decoded - demuxed
            costs.convert_s += ended - decoded
            if square:
                for frame in due:
                    to_student_rgb(frame, spec.input_size, scalers)
                costs.square_s += clock() - ended
            began = clock()
            if stopped():
                return


__all__ = ["BareCosts", "read_bare"]
