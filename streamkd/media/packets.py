"""The compressed packets that a camera has just sent: bounded by seconds and by bytes, cut at keyframes.

The buffer is filled by the camera's reader and read by others: the event recorder, which muxes clips out of it, and
whoever wants to decode later what was skipped. Nothing in it refers to the container that it came from.
"""

from __future__ import annotations

import itertools
import mmap
import threading
from collections import deque
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import av

if TYPE_CHECKING:
    _Packet = av.Packet[av.VideoStream]

_CHUNK_BYTES = 64 << 10
_START_CODE = b"\x00\x00\x01"
_HEAD_BYTES = 4096  # parameter sets and SEI before a picture's first slice fit in this
# NAL unit types of parameter sets: H.264 table 7-1 (SPS, PPS), H.265 table 7-1 (VPS, SPS, PPS).
_PARAMETER_SETS = {"h264": frozenset({7, 8}), "hevc": frozenset({32, 33, 34})}


@dataclass(frozen=True, slots=True, eq=False)
class CodedStream:
    """What a decoder or a file has to know of packets; compared by identity, a new connection is a new stream.

    Attributes:
        codec: ffmpeg's name.
        time_base: Of the packets' PTS and DTS.
        extradata: Out-of-band parameter sets, Annex B or as in MP4 (then packets are length-prefixed); may be empty.
        fps: Of the camera, 0 if unknown.
    """

    codec: str
    time_base: Fraction
    extradata: bytes = b""
    fps: float = 0.0

    @property
    def is_annexb(self) -> bool:
        """Whether parameter sets and packets are marked by start codes."""
        return not self.extradata.startswith(b"\x01")

    def seconds(self, ticks: int) -> float:
        """A PTS or DTS in seconds; to the last bit what a fraction would say, for a tenth of its time."""
        return ticks * self.time_base.numerator / self.time_base.denominator


@dataclass(frozen=True, slots=True)
class CodedPacket:
    """One compressed picture (of a connection that splits none).

    Attributes:
        serial: Rises by one with every packet of the buffer, over all connections.
        stream: What it belongs to.
        data: The bytes, read-only.
        pts: In `stream.time_base`; None if it carries none.
        dts: The same.
        keyframe: Decoding can begin here.
        arrived_s: Monotonic clock when it had arrived.
    """

    serial: int
    stream: CodedStream
    data: memoryview | bytes = field(repr=False)
    pts: int | None
    dts: int | None
    keyframe: bool
    arrived_s: float

    def to_av(self) -> _Packet:
        """A packet that can be decoded; a new one each time, because decoders and muxers change it."""
        packet = cast("_Packet", av.Packet(cast("bytes", self.data)))  # any buffer will do
        packet.pts, packet.dts, packet.is_keyframe = self.pts, self.dts, self.keyframe
        packet.time_base = self.stream.time_base
        return packet


class _Chunks:
    """Memory for packets, in pieces of some pages that go back to the system with the last packet in them.

    Among the pictures of a worker's heap, packets of all sizes that live for seconds leave holes that nothing fits in.
    """

    def __init__(self) -> None:
        self._free = memoryview(b"")  # of the present chunk

    def keep(self, data: memoryview) -> memoryview:
        """A copy."""
        size = len(data)
        if size > len(self._free):
            pages = mmap.mmap(-1, max(size, _CHUNK_BYTES), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            self._free = memoryview(pages)
        kept, self._free = self._free[:size], self._free[size:]
        kept[:] = data
        return kept.toreadonly()


class PacketBuffer:
    """The newest packets of one camera, always beginning with a keyframe.

    Whole groups of pictures are dropped, the oldest first: those that ended more than `max_s` ago, and as many as
    `max_bytes` asks for. A group that alone is larger is dropped too, and nothing is kept until the next keyframe.

    Args:
        max_s: The oldest keyframe is at least this old, once there is so much.
        max_bytes: Of all packets together, without Python's own share.
    """

    def __init__(self, max_s: float, max_bytes: int) -> None:
        self._max_s = max_s
        self._max_bytes = max_bytes
        self._serials = itertools.count()
        self._packets: deque[CodedPacket] = deque()
        self._keyframes: deque[CodedPacket] = deque()
        self._bytes = 0
        self._stream: CodedStream | None = None
        self._memory = _Chunks()
        self._lock = threading.Lock()

    # --- the reader's thread ---------------------------------------------------------------------------------------

    def begin(self, stream: CodedStream) -> None:
        """A connection begins: its packets do not continue those before it, which stay until they are too old."""
        self._stream = stream

    def add(self, packet: _Packet, arrived_s: float) -> None:
        """Keep a packet's bytes, times and flag; not the packet, which belongs to its container's thread."""
        if self._stream is None or packet.size == 0:
            return
        data, keyframe = self._memory.keep(memoryview(packet)), bool(packet.is_keyframe)
        if keyframe:
            self._stream = _with_sets(self._stream, bytes(data[:_HEAD_BYTES]))
        kept = CodedPacket(next(self._serials), self._stream, data, packet.pts, packet.dts, keyframe, arrived_s)
        with self._lock:
            if not keyframe and (not self._packets or self._packets[-1].stream is not kept.stream):
                return  # nothing could be decoded from here
            self._packets.append(kept)
            self._bytes += len(data)
            if keyframe:
                self._keyframes.append(kept)
            self._trim(arrived_s)

    # --- any thread ------------------------------------------------------------------------------------------------

    @property
    def size_bytes(self) -> int:
        return self._bytes

    def last_group(self) -> list[CodedPacket]:
        """The packets since the newest keyframe, with it; none while there is no keyframe."""
        with self._lock:
            if not self._keyframes:
                return []
            return self._from(self._keyframes[-1].serial)

    def since(self, at_s: float) -> list[CodedPacket]:
        """The packets from the newest keyframe that had arrived by `at_s`; else from the oldest that is kept."""
        with self._lock:
            if not self._keyframes:
                return []
            first = self._keyframes[0]
            for keyframe in self._keyframes:
                if keyframe.arrived_s > at_s:
                    break
                first = keyframe
            return self._from(first.serial)

    def after(self, serial: int) -> list[CodedPacket]:
        """The packets that came after the one with `serial`."""
        with self._lock:
            return self._from(serial + 1)

    def _from(self, serial: int) -> list[CodedPacket]:
        newest_first = itertools.takewhile(lambda packet: packet.serial >= serial, reversed(self._packets))
        return list(newest_first)[::-1]

    def _trim(self, now_s: float) -> None:
        keys = self._keyframes
        while len(keys) > 1 and (keys[1].arrived_s <= now_s - self._max_s or self._bytes > self._max_bytes):
            self._drop_until(keys[1].serial)
            keys.popleft()
        if self._bytes > self._max_bytes:
            self._packets.clear()
            keys.clear()
            self._bytes = 0

    def _drop_until(self, serial: int) -> None:
        while self._packets[0].serial < serial:
            self._bytes -= len(self._packets.popleft().data)


def parameter_sets(data: bytes, codec: str) -> bytes:
    """The parameter sets at the beginning of an Annex B picture, as Annex B; empty where there are none."""
    wanted = _PARAMETER_SETS.get(codec, frozenset[int]())
    head, found = data[:_HEAD_BYTES], []
    at = head.find(_START_CODE) if wanted else -1
    while 0 <= at < len(head) - 4:
        following = head.find(_START_CODE, at + 3)
        header = head[at + 3]
        if (header & 0x1F if codec == "h264" else header >> 1 & 0x3F) in wanted:
            unit = head[at + 3 : following if following >= 0 else len(head)]
            found.append(b"\x00" + _START_CODE + unit.rstrip(b"\x00"))
        at = following
    return b"".join(found)


def _with_sets(stream: CodedStream, keyframe: bytes) -> CodedStream:
    """The stream with the parameter sets that the keyframe brings: another one if they changed (a new resolution)."""
    sets = parameter_sets(keyframe, stream.codec) if stream.is_annexb else b""
    return stream if not sets or sets == stream.extradata else replace(stream, extradata=sets)


__all__ = ["CodedPacket", "CodedStream", "PacketBuffer", "parameter_sets"]
