"""Joining clips into one long recording that an RTSP server can play: for the demo, the tests and benchmarks."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import av
from av.video.reformatter import VideoReformatter

from streamkd.clock import SystemClock
from streamkd.errors import InputError, SourceError, UnsupportedMediaError
from streamkd.media.convert import one_thread
from streamkd.media.source import open_recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from streamkd.types import UInt8Array

_BIT_RATE = 1_000_000


@dataclass(frozen=True, slots=True)
class Coded:
    """One coded picture; muxing rewrites a packet's times, so the bytes are kept and a packet is made for each use."""

    data: bytes
    keyframe: bool


def join_clips(
    paths: Sequence[Path],
    out: Path,
    *,
    width: int = 640,
    height: int = 480,
    fps: int = 15,
    min_duration_s: float = 300.0,
    gop: int = 30,
    crf: float | None = None,
    restyle: Callable[[UInt8Array], UInt8Array] | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> None:
    """Join clips, over and over, into one H.264 MP4 with a fixed GOP, no B-frames and strictly increasing PTS.

    Every clip is coded once; the repetitions are copies of the coded pictures with later times. The first clips fill
    the last GOP of a pass, so that every pass begins with a keyframe on the same grid.

    Args:
        paths: The clips, in order.
        out: The MP4 file, overwritten; incomplete if this raises.
        width: Of every picture; clips are squeezed to it.
        height: Of every picture.
        fps: Frame rate; clips of another rate are resampled, at their own speed.
        min_duration_s: The recording ends with the first pass that reaches it.
        gop: Frames from keyframe to keyframe.
        crf: x264's quality, kept whatever the bitrate becomes (at most 2 Mbit/s); None: a bitrate of 1 Mbit/s is kept.
        restyle: Changes every picture, `[height, width, 3]` uint8 RGB, before it is coded.
        progress: Called now and then with the share that is done, 0 to 1.

    Raises:
        InputError: There are no clips, or one is not a video.
    """
    if not paths:
        raise InputError("There are no clips to join.", hint="Name at least one video file.")
    coded: list[Coded] = []
    with av.open(str(out), mode="w", format="mp4") as container:
        stream = make_encoder(container, width, height, fps, gop, crf)
        scaler = VideoReformatter()
        for done, path in enumerate(paths):
            for frame in resampled(path, fps):
                coded += encode(stream, scaler, frame, len(coded), restyle)
            progress(0.9 * (done + 1) / len(paths))
        filling = itertools.chain.from_iterable(resampled(path, fps) for path in itertools.cycle(paths))
        while len(coded) % gop:
            coded += encode(stream, scaler, next(filling), len(coded), restyle)
        mux_again(container, stream, coded, min_duration_s)
    progress(1.0)


def make_encoder(
    container: av.container.OutputContainer, width: int, height: int, fps: int, gop: int, crf: float | None = None
) -> av.VideoStream:
    """An H.264 track: x264 veryfast, fixed GOP, no B-frames, a packet for every frame; see `join_clips`."""
    rate = {"maxrate": str(_BIT_RATE)} if crf is None else {"maxrate": str(2 * _BIT_RATE), "crf": str(crf)}
    options = rate | {
        "preset": "veryfast",
        "tune": "zerolatency",  # a packet for every frame: the count of one is the time of the other
        "bf": "0",
        "g": str(gop),
        "keyint_min": str(gop),
        "sc_threshold": "0",
        "bufsize": str(2 * _BIT_RATE),
        # One slice a picture: servers that repeat SPS and PPS do it before every slice of a keyframe.
        "x264-params": "sliced-threads=0:slices=1:threads=1",
    }
    stream = container.add_stream("libx264", rate=fps, options=options)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.bit_rate = _BIT_RATE if crf is None else 0
    stream.time_base = stream.codec_context.time_base = Fraction(1, fps)
    return stream


def mux_again(
    container: av.container.OutputContainer, stream: av.VideoStream, coded: Sequence[Coded], min_duration_s: float
) -> None:
    """Write coded pictures, whole passes of them, until the recording is long enough."""
    fps = stream.codec_context.time_base.denominator
    total = len(coded)
    while total < min_duration_s * fps:
        total += len(coded)
    for index in range(total):
        picture = coded[index % len(coded)]
        packet = av.Packet(picture.data)
        packet.stream, packet.time_base = stream, Fraction(1, fps)
        packet.pts = packet.dts = index
        packet.duration, packet.is_keyframe = 1, picture.keyframe
        container.mux(packet)


def encode(
    stream: av.VideoStream,
    scaler: VideoReformatter,
    frame: av.VideoFrame,
    index: int,
    restyle: Callable[[UInt8Array], UInt8Array] | None = None,
) -> list[Coded]:
    """The coded picture of one frame; with `zerolatency` there is exactly one."""
    if restyle is not None:
        frame = _restyled(scaler, frame, stream.width, stream.height, restyle)
    scaled = scaler.reformat(
        frame, width=stream.width, height=stream.height, format="yuv420p", interpolation="BICUBIC", **one_thread()
    )
    scaled.pts, scaled.time_base = index, stream.codec_context.time_base
    scaled.pict_type = 0  # or the clip's own keyframes become ours, off the grid
    return [Coded(bytes(packet), packet.is_keyframe) for packet in stream.encode(scaled)]


def _restyled(
    scaler: VideoReformatter,
    frame: av.VideoFrame,
    width: int,
    height: int,
    restyle: Callable[[UInt8Array], UInt8Array],
) -> av.VideoFrame:
    plain = scaler.reformat(frame, width=width, height=height, format="rgb24", interpolation="BICUBIC", **one_thread())
    return av.VideoFrame.from_ndarray(restyle(cast("UInt8Array", plain.to_ndarray())), format="rgb24")


def resampled(path: Path, fps: int) -> Iterator[av.VideoFrame]:
    """A clip's frames at a constant rate: at each tick the one that would be on the screen."""
    try:
        with open_recording(path, SystemClock()) as source:
            shown: av.VideoFrame | None = None
            first_s, last_s, tick, interval_s = 0.0, 0.0, 0, 1.0 / (source.info.fps or fps)
            for decoded in source.frames():
                if shown is None:
                    first_s = decoded.raw_pts_s or 0.0
                at_s = last_s + interval_s if decoded.raw_pts_s is None else decoded.raw_pts_s - first_s
                while shown is not None and tick / fps < at_s - 1e-6:
                    yield shown
                    tick += 1
                shown, last_s = decoded.frame, max(last_s, at_s)
            while shown is not None and tick / fps < last_s + interval_s - 1e-6:
                yield shown
                tick += 1
            if shown is None:
                raise UnsupportedMediaError(f"{path} holds no picture that can be decoded.", hint="Leave it out.")
    except SourceError as error:
        raise UnsupportedMediaError(error.message, hint=error.hint) from None


__all__ = ["Coded", "encode", "join_clips", "make_encoder", "mux_again", "resampled"]
