"""Clips arrive in pieces, at least once, and belong to an event when they are whole."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from streamkd.errors import NotFoundError, StoreError
from streamkd.store.serialize import event_json
from streamkd.types import EventKind, EventUpdate

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def one(repository, media):
    """A repository with one closed event, `e`."""
    repository.apply_updates(
        [EventUpdate("e", 1, "gate", EventKind.ACTION, "fight", START, START, 0.0, 1.0, 0.9, "m")], media
    )
    return repository


def test_a_clip_in_pieces_is_the_file_that_was_sent(one, media):
    changes = [one.store_clip("e", at, b"abcdef"[at : at + 4], 6, media) for at in (0, 4)]
    assert [len(found) for found in changes] == [0, 1]
    assert one.clip_path("e", media).read_bytes() == b"abcdef"


def test_a_piece_that_is_sent_twice_does_no_harm(one, media):
    for at, piece in ((0, b"abcd"), (0, b"abcd"), (4, b"ef"), (4, b"ef")):
        one.store_clip("e", at, piece, 6, media)
    assert one.clip_path("e", media).read_bytes() == b"abcdef"


def test_the_change_tells_where_the_clip_is(one, media):
    (change,) = one.store_clip("e", 0, b"x", 1, media)
    assert change.data["has_clip"] is True
    assert change.data["links"]["clip"] == "/v1/events/e/clip.mp4"


def test_the_clip_raises_the_revision(one, media):
    before = one.get_event("e").revision
    one.store_clip("e", 0, b"x", 1, media)
    assert one.get_event("e").revision == before + 1


def test_a_late_update_of_the_event_leaves_its_clip(one, media):
    one.store_clip("e", 0, b"x", 1, media)
    later = EventUpdate("e", 7, "gate", EventKind.ACTION, "fight", START, START, 0.0, 1.0, 0.95, "m")
    one.apply_updates([later], media)
    assert one.get_event("e").has_clip


def test_an_event_without_a_clip_links_to_none(one):
    assert event_json(one.get_event("e"))["links"] == {"self": "/v1/events/e", "snapshot": None, "clip": None}


def test_half_a_clip_is_none(one, media):
    one.store_clip("e", 0, b"half", 8, media)
    with pytest.raises(NotFoundError, match="clip"):
        one.clip_path("e", media)


def test_a_piece_without_those_before_it_is_refused(one, media):
    with pytest.raises(StoreError, match="earlier piece"):
        one.store_clip("e", 4, b"ef", 6, media)


def test_a_clip_of_an_event_that_is_not_stored_is_not_found(one, media):
    with pytest.raises(NotFoundError):
        one.store_clip("other", 0, b"x", 1, media)
