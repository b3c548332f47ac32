"""Pictures that arrive in pieces: some RTSP servers repeat SPS and PPS between the slices of one keyframe.

ffmpeg's parser takes the repeated parameter sets for the beginning of another picture and hands every slice over as a
packet of its own; decoded one by one, each gives a damaged picture. Joined again they are the keyframe they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import av

if TYPE_CHECKING:
    from collections.abc import Iterator

    _Packet = av.Packet[av.VideoStream]

_HEAD_BYTES = 4096  # parameter sets and SEI before a picture's first slice fit in this
_START_CODE = b"\x00\x00\x01"


def continues_picture(data: bytes, codec: str) -> bool:
    """Whether an Annex B packet begins in the middle of a picture.

    The first bit of a slice header says so: `first_mb_in_slice` is 0, coded as a single 1 bit, in a picture's first
    slice (H.264, 7.3.3); `first_slice_segment_in_pic_flag` is 1 there (H.265, 7.3.6.1).

    Args:
        data: The packet, or its first bytes.
        codec: "h264" or "hevc"; anything else never continues.
    """
    if codec not in {"h264", "hevc"}:
        return False
    at = data.find(_START_CODE)
    while 0 <= at < len(data) - 5:
        header = data[at + 3]
        if codec == "h264":
            if 1 <= header & 0x1F <= 5:
                return not data[at + 4] & 0x80
        elif header >> 1 & 0x3F <= 31:
            return not data[at + 5] & 0x80
        at = data.find(_START_CODE, at + 3)
    return False


def begins_anew(packet: _Packet, codec: str) -> bool:
    """Whether decoding can begin with a keyframe and nothing before it is needed by what follows.

    That is an IDR picture: H.264 NAL type 5 (table 7-1), H.265 types 19 and 20. Other keyframes (recovery points, CRA)
    may be followed by pictures that refer to what came before them.

    Args:
        packet: A keyframe, Annex B.
        codec: For others than "h264" and "hevc" every keyframe is one.
    """
    if codec not in {"h264", "hevc"}:
        return True
    data = bytes(memoryview(packet)[:_HEAD_BYTES])
    at = data.find(_START_CODE)
    while 0 <= at < len(data) - 3:
        header = data[at + 3]
        if codec == "h264":
            if 1 <= header & 0x1F <= 5:
                return header & 0x1F == 5
        elif header >> 1 & 0x3F <= 31:
            return header >> 1 & 0x3F in {19, 20}
        at = data.find(_START_CODE, at + 3)
    return False


class PieceJoiner:
    """Joins the pieces of one connection's pictures.

    To know that a picture is complete, one must see the next packet. So only the first packet is held back, and
    keyframes of a stream that has shown such pieces: others cost no delay.
    """

    def __init__(self, codec: str) -> None:
        self._codec = codec
        self._held: _Packet | None = None
        self._pieces: list[bytes] = []
        self._first = True
        self.splits = False  # whether this stream has shown pieces

    def push(self, packet: _Packet) -> Iterator[_Packet]:
        """What can be decoded now that `packet` has arrived."""
        if packet.size and continues_picture(bytes(memoryview(packet)[:_HEAD_BYTES]), self._codec):
            self.splits = True
            if self._held is not None:
                self._pieces.append(bytes(packet))
                return
        yield from self.flush()
        if packet.size and (self._first or (self.splits and packet.is_keyframe)):
            self._held = packet
        else:
            yield packet
        self._first = False

    def flush(self) -> Iterator[_Packet]:
        """What is still held back."""
        held, pieces, self._held, self._pieces = self._held, self._pieces, None, []
        if held is not None:
            yield _joined(held, pieces) if pieces else held


def _joined(first: _Packet, rest: list[bytes]) -> _Packet:
    whole = cast("_Packet", av.Packet(b"".join((bytes(first), *rest))))
    whole.pts, whole.dts, whole.is_keyframe = first.pts, first.dts, first.is_keyframe
    if first.time_base is not None:
        whole.time_base = first.time_base
    return whole


__all__ = ["PieceJoiner", "begins_anew", "continues_picture"]
