"""The buffer of compressed packets: what it keeps, where it can be cut, and that it stays small."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest

from streamkd.media.packets import CodedStream, PacketBuffer, parameter_sets

SPS, PPS, IDR, SLICE = b"\x67SPS", b"\x68PPS", b"\x65" + b"i" * 9, b"\x41" + b"p" * 9
STREAM = CodedStream("h264", Fraction(1, 1000))


def annexb(*units: bytes) -> bytes:
    return b"".join(b"\x00\x00\x00\x01" + unit for unit in units)


def packet(data: bytes, pts: int | None = 0, *, keyframe: bool = False) -> av.Packet:
    made = av.Packet(data)
    made.pts = made.dts = pts
    made.is_keyframe = keyframe
    return made


def filled(seconds: int, *, max_s: float = 100.0, max_bytes: int = 10**6, gop: int = 2) -> PacketBuffer:
    """A packet a second, a keyframe every `gop` of them; arrival time is the PTS."""
    buffer = PacketBuffer(max_s, max_bytes)
    buffer.begin(STREAM)
    for second in range(seconds):
        keyframe = second % gop == 0
        data = annexb(SPS, PPS, IDR) if keyframe else annexb(SLICE)
        buffer.add(packet(data, second, keyframe=keyframe), float(second))
    return buffer


def times(packets) -> list[int]:
    return [kept.pts for kept in packets]


def test_it_begins_with_the_first_keyframe():
    buffer = PacketBuffer(10, 1000)
    buffer.begin(STREAM)
    buffer.add(packet(annexb(SLICE), 0), 0.0)
    buffer.add(packet(annexb(IDR), 1, keyframe=True), 1.0)
    assert times(buffer.since(0.0)) == [1]


def test_a_cut_begins_with_the_keyframe_before():
    assert times(filled(7).since(5.5)) == [4, 5, 6]


def test_a_cut_that_asks_for_more_than_is_kept_begins_with_the_oldest():
    assert times(filled(4).since(-1.0)) == [0, 1, 2, 3]


def test_the_last_group_begins_with_the_newest_keyframe():
    assert times(filled(6).last_group()) == [4, 5]


def test_what_follows_a_packet_can_be_asked_for():
    buffer = filled(4)
    assert times(buffer.after(buffer.since(1.0)[1].serial)) == [2, 3]


def test_whole_groups_are_dropped_when_they_are_too_old():
    assert times(filled(10, max_s=3.0).since(0.0)) == [6, 7, 8, 9]


def test_there_is_always_as_much_as_was_asked_for():
    buffer = filled(100, max_s=7.0, gop=5)
    assert 99 - buffer.since(0.0)[0].pts >= 7


def test_whole_groups_are_dropped_when_they_are_too_large():
    assert filled(100, max_bytes=200).size_bytes <= 200


def test_a_group_that_is_too_large_by_itself_is_dropped_until_the_next_keyframe():
    buffer = filled(9, max_bytes=60, gop=10)
    assert (buffer.since(0.0), buffer.size_bytes) == ([], 0)


def test_the_size_is_that_of_what_is_kept():
    buffer = filled(20, max_s=5.0, gop=4)
    assert buffer.size_bytes == sum(len(kept.data) for kept in buffer.since(0.0))


def test_a_new_connection_is_another_stream_and_begins_with_a_keyframe():
    buffer = filled(3)
    buffer.begin(CodedStream("h264", Fraction(1, 1000)))
    buffer.add(packet(annexb(SLICE), 3), 3.0)
    buffer.add(packet(annexb(SPS, PPS, IDR), 4, keyframe=True), 4.0)
    kept = buffer.since(0.0)
    assert times(kept) == [0, 1, 2, 4]
    assert kept[-1].stream is not kept[0].stream


def test_other_parameter_sets_are_another_stream():
    buffer = filled(2)
    buffer.add(packet(annexb(b"\x67other", PPS, IDR), 2, keyframe=True), 2.0)
    first, *_, last = buffer.since(0.0)
    assert first.stream is not last.stream


def test_repeated_parameter_sets_are_the_same_stream():
    assert len({id(kept.stream) for kept in filled(8).since(0.0)}) == 1


def test_parameter_sets_that_come_in_band_only_are_known_afterwards():
    assert filled(1).last_group()[0].stream.extradata == annexb(SPS, PPS)


def test_the_times_come_back_with_a_packet():
    remade = filled(3).last_group()[0].to_av()
    assert (remade.pts, remade.dts, remade.time_base, remade.is_keyframe) == (2, 2, Fraction(1, 1000), True)


def test_length_prefixed_packets_are_not_searched_for_parameter_sets():
    stream = CodedStream("h264", Fraction(1, 1000), extradata=b"\x01avcC")
    buffer = PacketBuffer(10, 1000)
    buffer.begin(stream)
    buffer.add(packet(annexb(SPS, IDR), 0, keyframe=True), 0.0)
    assert buffer.last_group()[0].stream is stream


@pytest.mark.parametrize(
    ("data", "codec", "expected"),
    [
        (annexb(SPS, PPS, IDR), "h264", annexb(SPS, PPS)),
        (annexb(b"\x06sei", SPS, IDR), "h264", annexb(SPS)),
        (b"\x00\x00\x01" + SPS + b"\x00\x00\x01" + IDR, "h264", annexb(SPS)),
        (annexb(IDR), "h264", b""),
        (
            annexb(b"\x40\x01v", b"\x42\x01s", b"\x44\x01p", b"\x26\x01i"),
            "hevc",
            annexb(b"\x40\x01v", b"\x42\x01s", b"\x44\x01p"),
        ),
        (b"\xff\xd8\xff\xe0", "mjpeg", b""),
        (b"", "h264", b""),
    ],
)
def test_parameter_sets_are_found(data, codec, expected):
    assert parameter_sets(data, codec) == expected
