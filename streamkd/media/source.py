"""Opening one camera or recording, and reading decoded frames from it until it ends.

Everything is passive: a `Source` has no thread, and its container is touched only by the thread that iterates. Timeouts
are those of PyAV, an interrupt that ffmpeg asks while it waits; so a server that is silent is noticed in time.
"""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote, urlsplit

import av
import av.error
import av.logging

from streamkd.errors import SourceError
from streamkd.media.arrivals import Arrival, DecodedFrame, SourceInfo, SourceKind, SourceStats
from streamkd.media.failures import Target, open_failure, read_failure
from streamkd.media.hardware import GpuDecoding, open_on_cpu
from streamkd.media.packets import CodedStream
from streamkd.media.pieces import PieceJoiner, begins_anew
from streamkd.types import FailureReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamkd.clock import Clock
    from streamkd.config import CameraConfig
    from streamkd.media.hardware import OpenContainer

    _Packet = av.Packet[av.VideoStream]

# ffmpeg's log goes through a callback that needs the GIL: every camera would stop for every line.
av.logging.set_level(None)

_GPU = GpuDecoding()  # of this process

UPLOAD_FORMATS = "mov,matroska,avi,mpegts"
RECORDING_FORMATS = f"{UPLOAD_FORMATS},mpeg,flv,asf,ogg,nut,ivf,h264,hevc,mjpeg"
_HTTP_FORMATS = f"{RECORDING_FORMATS},hls,mpjpeg,aac,mp3"
# These give no times of their own that mean anything, only an assumed rate.
_UNTIMED_FORMATS = frozenset({"mpjpeg", "mjpeg", "h264", "hevc"})
_NO_KEYFRAME_S = 10.0
_REMEMBERED_ARRIVALS = 64


# The protocol lists are closed, so that a playlist or a redirect can't make ffmpeg read files or join `concat:` parts.
_PROTOCOLS = {
    SourceKind.RTSP: "rtsp,rtp,udp,tcp,tls",
    SourceKind.HTTP: "http,https,tls,tcp,hls,crypto",
    SourceKind.FILE: "file",
}


def kind_of(url: str) -> SourceKind:
    """Which kind of source a URL or path names."""
    scheme = urlsplit(url).scheme.lower()
    if scheme in {"rtsp", "rtsps"}:
        return SourceKind.RTSP
    return SourceKind.HTTP if scheme in {"http", "https"} else SourceKind.FILE


def open_camera(camera: CameraConfig, clock: Clock, stats: SourceStats | None = None) -> Source:
    """Connect to a camera; `stats` goes on counting over connections.

    Raises:
        SourceError: It can't be reached or read, or has no video; `reason` says which.
    """
    url = camera.url.get_secret_value()
    kind = kind_of(url)
    if kind is SourceKind.FILE:
        return open_recording(_path_of(url), clock, stats=stats)
    options = {"protocol_whitelist": _PROTOCOLS[kind]}
    if kind is SourceKind.RTSP:
        # Guessing the frame rate would read for seconds before the first frame is given on, and the rest of what was
        # read would come late by as much. Sound is not asked for.
        options |= {
            "rtsp_transport": camera.transport,
            "allowed_media_types": "video",
            "fpsprobesize": "0",
            "analyzeduration": "500000",
        }
    else:
        options |= {"format_whitelist": _HTTP_FORMATS, "fpsprobesize": "0"}
    target = Target(url, f"Camera {camera.id} ({camera.redacted_url})", network=True)
    timeouts = (camera.open_timeout_s, camera.read_timeout_s)
    transport = camera.transport if kind is SourceKind.RTSP else ""
    opened = _GPU.open if camera.gpu_decoding == "auto" else open_on_cpu
    return _open(target, kind, url, options, timeouts, clock, transport, stats, opened)


def open_recording(
    path: Path, clock: Clock, *, formats: str = RECORDING_FORMATS, stats: SourceStats | None = None
) -> Source:
    """Open a video file.

    Args:
        path: The file.
        clock: Time.
        stats: Counts to go on from.
        formats: Comma-separated ffmpeg demuxers that may read it; playlists are in none of the lists here.

    Raises:
        SourceError: It is missing, not a video, or of a format that is not allowed.
    """
    options = {"protocol_whitelist": _PROTOCOLS[SourceKind.FILE], "format_whitelist": formats}
    # An absolute path can't be taken for a protocol, whatever the file is called.
    name = str(path.absolute())
    return _open(Target(name, str(path), network=False), SourceKind.FILE, name, options, None, clock, "", stats)


def _path_of(url: str) -> Path:
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else Path(url)


def _open(
    target: Target,
    kind: SourceKind,
    name: str,
    options: dict[str, str],
    timeouts: tuple[float, float] | None,
    clock: Clock,
    transport: str,
    stats: SourceStats | None,
    opened: OpenContainer = open_on_cpu,
) -> Source:
    began_s = clock.monotonic_s()
    try:
        container = opened(name, options, timeouts)
    except av.error.HTTPOtherClientError as error:
        # Asked for video only, a camera that has none answers that nothing was set up.
        if kind is SourceKind.RTSP and _has_only_sound(name, options, timeouts):
            raise _no_video(target) from None
        raise open_failure(error, target, elapsed_s=0, timeout_s=1) from None
    except (av.FFmpegError, OSError, ValueError) as error:
        elapsed_s = clock.monotonic_s() - began_s
        raise open_failure(error, target, elapsed_s=elapsed_s, timeout_s=timeouts[0] if timeouts else 1.0) from None
    try:
        return Source(container, target, kind, clock, transport, timeouts[1] if timeouts else 0.0, stats)
    except BaseException:
        container.close()
        raise


def _has_only_sound(name: str, options: dict[str, str], timeouts: tuple[float, float] | None) -> bool:
    with (
        contextlib.suppress(av.FFmpegError, OSError),
        av.open(name, options=options | {"allowed_media_types": "video+audio"}, timeout=timeouts) as container,
    ):
        return not container.streams.video
    return False


def _no_video(target: Target) -> SourceError:
    return SourceError(
        f"{target.shown} has no video track.",
        hint="Check that video is switched on and that the path is that of the picture, not of the sound.",
        reason=FailureReason.NO_VIDEO,
    )


class Source:
    """An open connection or file; iterate `frames` on one thread, then `close` on the same.

    Raises:
        SourceError: It has no video, or a codec that can't be decoded.
    """

    def __init__(
        self,
        container: av.container.InputContainer,
        target: Target,
        kind: SourceKind,
        clock: Clock,
        transport: str,
        read_timeout_s: float,
        stats: SourceStats | None = None,
    ) -> None:
        if not container.streams.video:
            raise _no_video(target)
        self._container, self._target, self._clock = container, target, clock
        self._read_timeout_s = read_timeout_s
        self._stream = stream = container.streams.video[0]
        if stream.codec_context is None:
            raise SourceError(
                f"{target.shown} uses a video codec that can't be decoded.",
                hint="Set the camera to H.264 or H.265.",
                reason=FailureReason.UNSUPPORTED,
            )
        stream.thread_count = 1
        self._untimed = kind is not SourceKind.FILE and container.format.name in _UNTIMED_FORMATS
        self._time_base = None if stream.time_base is None else stream.time_base.as_integer_ratio()
        self._joiner = PieceJoiner(stream.codec_context.name) if kind is SourceKind.RTSP else None
        self._arrivals: dict[int, float] = {}
        self._corrupt_since_s: float | None = None
        self.stats = stats or SourceStats()
        duration_s = container.duration / av.time_base if container.duration else None
        self.info = SourceInfo(
            kind=kind,
            shown=target.shown,
            transport=transport,
            format=container.format.name,
            codec=stream.codec_context.name,
            width=stream.codec_context.width,
            height=stream.codec_context.height,
            fps=float(stream.average_rate or stream.guessed_rate or 0),
            duration_s=duration_s,
            # An RTSP server of recordings says their length too, but sends them in real time.
            paced=kind is SourceKind.FILE
            or (kind is SourceKind.HTTP and (container.format.name == "hls" or duration_s is not None)),
            timed=not self._untimed,
        )

    def coded(self) -> CodedStream:
        """What whoever keeps this source's packets has to know of them."""
        stream = self._stream
        return CodedStream(
            codec=self.info.codec,
            time_base=stream.time_base or Fraction(1, av.time_base),
            extradata=bytes(stream.codec_context.extradata or b""),
            fps=self.info.fps,
        )

    def frames(
        self, stopped: Callable[[], bool] = lambda: False, keep: Callable[[_Packet, float], None] | None = None
    ) -> Iterator[DecodedFrame]:
        """Decoded frames in order of presentation, until a recording's end or until `stopped()`.

        After loss or damage nothing is given on until the next keyframe. `keep` sees every packet with its time of
        arrival before it is decoded.

        Raises:
            SourceError: The connection was cut, is silent, or sends nothing but damage; a camera's stream ended.
        """
        for arrival in self.arrivals(stopped, keep):
            yield from self.decode(arrival)

    def arrivals(
        self, stopped: Callable[[], bool] = lambda: False, keep: Callable[[_Packet, float], None] | None = None
    ) -> Iterator[Arrival]:
        """Compressed pictures in the order in which they come; see `frames`. Whoever skips some decodes the rest."""
        packets = self._container.demux(self._stream)
        while not stopped():
            asked_s = self._clock.monotonic_s()
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError) as error:
                raise read_failure(error, self._target, timeout_s=self._read_timeout_s) from None
            if packet is None:
                break
            arrived_s = self._clock.monotonic_s()
            if self._read_timeout_s and arrived_s - asked_s >= 0.95 * self._read_timeout_s:
                # Interrupted, ffmpeg first hands over what its parser held back; it would hide the silence.
                raise read_failure(TimeoutError(), self._target, timeout_s=self._read_timeout_s)
            for ready in self._complete(packet):
                if keep is not None:
                    keep(ready, arrived_s)
                yield self._arrival(ready, arrived_s, arrived_s - asked_s)
        else:
            return
        if self.info.kind is not SourceKind.FILE:
            raise SourceError(
                f"Reading {self._target.shown} ended: the other side ended the stream.",
                hint="Nothing to do if the camera restarts; it is tried again.",
                reason=FailureReason.ENDED,
            )

    def _arrival(self, packet: _Packet, arrived_s: float, waited_s: float) -> Arrival:
        pts_s = None
        if packet.pts is not None and self._time_base is not None and not self._untimed:
            # The same number as a `Fraction` gives, without making one for each picture.
            pts_s = packet.pts * self._time_base[0] / self._time_base[1]
        return Arrival(
            packet=packet,
            pts_s=pts_s,
            size=packet.size,
            entry=packet.is_keyframe and self._is_entry(packet),
            arrived_s=arrived_s,
            waited_s=waited_s,
        )

    def _is_entry(self, packet: _Packet) -> bool:
        # Where packets are not Annex B (in files), the container marks as keyframes what decoding can begin with.
        return self.info.kind is SourceKind.FILE or begins_anew(packet, self.info.codec)

    def skip_loop_filter(self, frames: str) -> None:
        """Leave H.264's and H.265's deblocking out, before anything is decoded: cheaper, and a little wrong.

        Args:
            frames: ffmpeg's name for which frames: "default", "noref", "nokey", "all".
        """
        self._stream.codec_context.options = {"skip_loop_filter": frames}

    @property
    def reorders(self) -> bool:
        """Whether pictures come in another order than they are shown in; known once some are decoded."""
        return bool(self._stream.codec_context.has_b_frames)

    def close(self) -> None:
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _complete(self, packet: _Packet) -> Iterator[_Packet]:
        if packet.size == 0:  # the end: whatever is held back, then the decoder's own rest
            yield from self._joiner.flush() if self._joiner else ()
            yield packet
            return
        self.stats.packets += 1
        yield from self._joiner.push(packet) if self._joiner else (packet,)

    def decode(self, arrival: Arrival) -> Iterator[DecodedFrame]:
        """What the decoder gives once it has this packet; packets must come in order, skipped ones up to an entry."""
        packet, arrived_s = arrival.packet, arrival.arrived_s
        if packet.pts is not None:
            self._arrivals[packet.pts] = arrived_s
            if len(self._arrivals) > _REMEMBERED_ARRIVALS:
                del self._arrivals[next(iter(self._arrivals))]
        began_s = self._clock.monotonic_s()
        try:
            decoded = self._stream.codec_context.decode(packet)
        except av.error.EOFError:
            return
        except av.FFmpegError:
            self._lose(1)
            return
        decode_ms = (self._clock.monotonic_s() - began_s) * 1e3
        if packet.is_corrupt:
            self._corrupt_since_s = self._corrupt_since_s or began_s
        for frame in decoded:
            self.stats.frames += 1
            if frame.key_frame:
                self.stats.keyframe_at.append(self.stats.frames)
            if self._intact(frame):
                came_s = self._arrivals.pop(frame.pts, arrived_s) if frame.pts is not None else arrived_s
                raw_pts_s = self._time_of(frame, came_s)
                yield DecodedFrame(frame, raw_pts_s, came_s, arrival.waited_s, decode_ms / len(decoded))

    def _time_of(self, frame: av.VideoFrame, arrived_s: float) -> float | None:
        if self._untimed:
            return arrived_s
        if frame.pts is None:
            self.stats.missing_pts += 1
            return None
        return float(frame.time)

    def _intact(self, frame: av.VideoFrame) -> bool:
        """Whether a frame may be given on; a frame after loss shows smears until a keyframe repairs the picture."""
        if frame.is_corrupt:
            self._lose(1)
            return False
        if self._corrupt_since_s is not None:
            if not frame.key_frame:
                self._lose(1)
                return False
            self._corrupt_since_s = None
        return True

    def _lose(self, frames: int) -> None:
        now_s = self._clock.monotonic_s()
        self.stats.corrupt += frames
        if self._corrupt_since_s is None:
            self._corrupt_since_s = now_s
        elif self._read_timeout_s and now_s - self._corrupt_since_s > _NO_KEYFRAME_S:
            raise SourceError(
                f"Reading {self._target.shown} ended: no intact picture for {_NO_KEYFRAME_S:g} s.",
                hint="Use transport tcp; set the camera to a keyframe every 1 to 4 s.",
                reason=FailureReason.CORRUPT,
            )


__all__ = [
    "RECORDING_FORMATS",
    "UPLOAD_FORMATS",
    "Arrival",
    "DecodedFrame",
    "Source",
    "SourceInfo",
    "SourceKind",
    "SourceStats",
    "kind_of",
    "open_camera",
    "open_recording",
]
