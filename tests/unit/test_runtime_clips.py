"""Clips on their way to the Controller: in pieces, again where it fails, and never for ever."""

from __future__ import annotations

import pytest

from streamkd.clock import FakeClock
from streamkd.config import EventsConfig
from streamkd.errors import UnavailableError
from streamkd.media.recorder import FinishedClip
from streamkd_service.runtime.clips import PIECE_BYTES, ClipCourier, buffer_bytes, clip_plan

CONTENT = bytes(range(256)) * (PIECE_BYTES // 256) + b"the rest"


class Office:
    """A Controller that may be away, or not know the event yet."""

    def __init__(self) -> None:
        self.files: dict[str, bytearray] = {}
        self.known = True
        self.away = False
        self.asked = 0

    def take(self, event_id: str, offset: int, piece: bytes, total: int) -> bool:
        self.asked += 1
        if self.away:
            raise UnavailableError("The Controller restarts.")
        if self.known:
            self.files.setdefault(event_id, bytearray(total))[offset : offset + len(piece)] = piece
        return self.known


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def office() -> Office:
    return Office()


@pytest.fixture
def courier(tmp_path, office, clock) -> ClipCourier:
    return ClipCourier(tmp_path / "clips", clip_plan(EventsConfig()), lambda _: None, office.take, clock)


def finish(courier: ClipCourier, tmp_path, name: str = "e1", content: bytes = CONTENT):
    """A clip as the recorder leaves it; returns its path."""
    path = tmp_path / "clips" / f"{name}.mp4"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    courier._take([FinishedClip(name, "gate", path, len(content))])
    return path


def test_a_clip_arrives_in_pieces(courier, office, tmp_path):
    finish(courier, tmp_path)
    courier.step()
    assert (bytes(office.files["e1"]), office.asked) == (CONTENT, 2)


def test_a_clip_that_has_arrived_is_no_longer_here(courier, tmp_path):
    path = finish(courier, tmp_path)
    courier.step()
    assert not path.exists()


@pytest.mark.parametrize("trouble", [{"away": True}, {"known": False}])
def test_a_clip_is_sent_again_until_it_has_arrived(courier, office, tmp_path, clock, trouble):
    finish(courier, tmp_path)
    vars(office).update(trouble)
    courier.step()
    vars(office).update({"away": False, "known": True})
    clock.advance(1.0)
    courier.step()
    assert bytes(office.files["e1"]) == CONTENT


def test_what_failed_is_not_tried_again_at_once(courier, office, tmp_path):
    finish(courier, tmp_path)
    office.known = False
    courier.step()
    courier.step()
    assert office.asked == 1


def test_a_clip_of_an_event_that_never_becomes_known_is_given_up(courier, office, tmp_path, clock):
    path = finish(courier, tmp_path)
    office.known = False
    for _ in range(140):
        courier.step()
        clock.advance(1.0)
    assert not path.exists()


def test_a_clip_that_fails_does_not_hold_up_another(courier, office, tmp_path):
    missing = finish(courier, tmp_path, "e1")
    missing.unlink()
    finish(courier, tmp_path, "e2")
    courier.step()
    assert set(office.files) == {"e2"}


def test_what_waits_is_bounded(courier, tmp_path, monkeypatch):
    monkeypatch.setattr("streamkd_service.runtime.clips._MOST_WAITING_BYTES", 3 * len(CONTENT))
    paths = [finish(courier, tmp_path, f"e{n}") for n in range(5)]
    assert [path.exists() for path in paths] == [False, False, True, True, True]


def test_at_the_end_what_waits_is_tried_once_more(courier, office, tmp_path):
    finish(courier, tmp_path)
    office.known = False
    courier.step()
    office.known = True
    courier.stop(1.0)
    assert "e1" in office.files


def test_a_folder_of_an_incarnation_before_is_emptied(tmp_path, office, clock):
    left = tmp_path / "clips" / "old.mp4"
    left.parent.mkdir()
    left.write_bytes(b"x")
    ClipCourier(tmp_path / "clips", clip_plan(EventsConfig()), lambda _: None, office.take, clock)
    assert not left.exists()


def test_the_configuration_s_megabytes_are_binary():
    config = EventsConfig(buffer_mb=2, clip_max_mb=3)
    assert (buffer_bytes(config), clip_plan(config).max_bytes) == (2 * 2**20, 3 * 2**20)
