"""The outbox keeps what is not durable yet, in any order of calls, within its bounds."""

from __future__ import annotations

from dataclasses import replace

from streamkd.types import EventUpdate
from streamkd_service.runtime.outbox import Outbox
from tests.fakes import make_event


def update(event_id: str, revision: int, *, picture: bytes | None = None) -> EventUpdate:
    return make_event(event_id, revision=revision, snapshot_jpeg=picture)


def test_revisions_of_one_event_collapse_into_the_newest():
    box = Outbox()
    box.add([update("a", 1), update("b", 1), update("a", 3), update("a", 2)])
    assert [(item.id, item.revision) for item in box.batch()] == [("a", 3), ("b", 1)]


def test_a_picture_survives_a_later_revision_without_one():
    box = Outbox()
    box.add([update("a", 1, picture=b"jpeg"), update("a", 2)])
    assert box.batch()[0].snapshot_jpeg == b"jpeg"


def test_a_batch_is_given_again_until_it_is_acknowledged():
    box = Outbox()
    box.add([update("a", 1)])
    assert box.batch() == box.batch()
    box.acknowledge(box.batch())
    assert box.batch() == ()


def test_what_changed_while_it_was_sent_is_sent_again():
    box = Outbox()
    box.add([update("a", 1)])
    sent = box.batch()
    box.add([update("a", 2)])
    box.acknowledge(sent)
    assert [item.revision for item in box.batch()] == [2]


def test_a_delivered_picture_is_not_sent_twice():
    box = Outbox()
    box.add([update("a", 1, picture=b"jpeg")])
    sent = box.batch()
    box.add([replace(sent[0], revision=2)])
    box.acknowledge(sent)
    assert box.batch()[0].snapshot_jpeg is None


def test_the_oldest_pictures_go_first_when_nobody_takes_them():
    box = Outbox(max_snapshots=1)
    box.add([update("a", 1, picture=b"1"), update("b", 1, picture=b"2")])
    assert [item.snapshot_jpeg for item in box.batch()] == [None, b"2"]


def test_events_beyond_the_bound_are_counted_as_lost():
    box = Outbox(max_events=2)
    box.add([update(name, 1) for name in "abc"])
    assert ([item.id for item in box.batch()], box.lost) == (["b", "c"], 1)


def test_whoever_follows_sees_every_update_once():
    seen = []
    outbox = Outbox(on_updates=seen.extend)
    outbox.add([update("a", 1)])
    outbox.batch()
    outbox.add([update("a", 2)])
    assert [(one.id, one.revision) for one in seen] == [("a", 1), ("a", 2)]
