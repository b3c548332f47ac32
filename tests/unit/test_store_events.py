"""Events: written once per revision, read newest first."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from streamkd.errors import InputError, NotFoundError, StoreError
from streamkd.store import open_repository
from streamkd.store.records import EventQuery
from streamkd.types import EventKind, EventUpdate, Verdict

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
JPEG = b"\xff\xd8 a picture"


def update_of(id_="e1", revision=1, *, camera="gate", at_s=0.0, end_s=None, **more):
    start = NOON + timedelta(seconds=at_s)
    end = None if end_s is None else NOON + timedelta(seconds=end_s)
    values = {"kind": EventKind.ACTION, "label": "fight", "score": 0.9, "model_version": "m1", "epoch": "w0-a"} | more
    return EventUpdate(id_, revision, camera, start_utc=start, end_utc=end, start_pts_s=at_s, end_pts_s=end_s, **values)


def ids(page):
    return [event.id for event in page.events]


def test_an_applied_update_can_be_read(repository, media):
    repository.apply_updates([update_of(score=0.75)], media)
    found = repository.get_event("e1")
    assert (found.camera_id, found.label, found.start_utc, found.end_utc, found.score) == (
        "gate",
        "fight",
        NOON,
        None,
        0.75,
    )


def test_times_come_back_in_utc_whatever_zone_they_had(repository, media):
    local = NOON.astimezone(timezone(timedelta(hours=5, minutes=45)))
    repository.apply_updates([replace(update_of(), start_utc=local)], media)
    found = repository.get_event("e1").start_utc
    assert (found, found.utcoffset()) == (NOON, timedelta(0))


def test_a_time_without_zone_is_refused(repository, media):
    with pytest.raises(StoreError, match="time zone"):
        repository.apply_updates([replace(update_of(), start_utc=NOON.replace(tzinfo=None))], media)


def test_an_update_that_is_delivered_again_makes_no_change(repository, media):
    repository.apply_updates([update_of()], media)
    assert repository.apply_updates([update_of(score=0.1)], media) == []
    assert repository.get_event("e1").score == 0.9


def test_an_older_revision_that_comes_late_is_ignored(repository, media):
    repository.apply_updates([update_of(revision=3, end_s=9)], media)
    repository.apply_updates([update_of(revision=2)], media)
    assert repository.get_event("e1").end_utc is not None


def test_the_same_event_several_times_in_one_batch_ends_at_the_highest_revision(repository, media):
    changes = repository.apply_updates([update_of(revision=n, score=n / 10) for n in (1, 3, 2)], media)
    assert repository.get_event("e1").score == 0.3
    assert [change.data["revision"] for change in changes] == [1, 3]


def test_each_applied_update_is_a_change_and_the_first_one_says_created(repository, media):
    changes = repository.apply_updates([update_of("a"), update_of("b"), update_of("a", 2)], media)
    assert [(c.data["id"], c.action) for c in changes] == [("a", "created"), ("b", "created"), ("a", "updated")]
    assert [c.seq for c in changes] == sorted({c.seq for c in changes})


def test_a_score_that_is_no_number_does_not_block_the_others(repository, media):
    repository.apply_updates([update_of("a", score=float("nan")), update_of("b")], media)
    assert repository.get_event("a").score == 0.0


def test_a_snapshot_lies_where_the_event_says(repository, media):
    repository.apply_updates([update_of(snapshot_jpeg=JPEG)], media)
    path = repository.snapshot_path("e1", media)
    assert (path, path.read_bytes()) == (media / "2026-01-01" / "e1.jpg", JPEG)


def test_an_update_without_picture_keeps_the_one_before(repository, media):
    repository.apply_updates([update_of(snapshot_jpeg=JPEG)], media)
    repository.apply_updates([update_of(revision=2)], media)
    assert repository.get_event("e1").has_snapshot


def test_an_event_is_stored_where_its_picture_can_not_be(repository, media):
    media.write_text("a file where the folder should be")
    repository.apply_updates([update_of(snapshot_jpeg=JPEG)], media)
    assert not repository.get_event("e1").has_snapshot


def test_an_id_that_is_a_path_writes_no_file(repository, media):
    repository.apply_updates([update_of("../../escaped", snapshot_jpeg=JPEG)], media)
    assert not media.exists()


def test_a_picture_that_is_gone_from_the_disk_is_not_found(repository, media):
    repository.apply_updates([update_of(snapshot_jpeg=JPEG)], media)
    repository.snapshot_path("e1", media).unlink()
    with pytest.raises(NotFoundError, match="snapshot"):
        repository.snapshot_path("e1", media)


def test_an_unknown_event_is_not_found(repository):
    with pytest.raises(NotFoundError, match="nothing-here"):
        repository.get_event("nothing-here")


def test_a_verdict_is_kept_through_later_updates(repository, media):
    repository.apply_updates([update_of()], media)
    repository.set_verdict("e1", Verdict.REJECTED, "children playing")
    repository.apply_updates([update_of(revision=2)], media)
    found = repository.get_event("e1")
    assert (found.verdict, found.note) == (Verdict.REJECTED, "children playing")


def test_the_revision_rises_with_a_verdict_and_with_the_update_after_it(repository, media):
    repository.apply_updates([update_of()], media)
    seen = [repository.get_event("e1").revision, repository.set_verdict("e1", Verdict.CONFIRMED).revision]
    repository.apply_updates([update_of(revision=2)], media)
    assert [*seen, repository.get_event("e1").revision] == [1, 2, 3]


def test_a_verdict_without_note_leaves_the_note(repository, media):
    repository.apply_updates([update_of()], media)
    repository.set_verdict("e1", Verdict.REJECTED, "a note")
    assert repository.set_verdict("e1", None).note == "a note"


def test_the_same_verdict_again_is_no_change(repository, media):
    repository.apply_updates([update_of()], media)
    repository.set_verdict("e1", Verdict.CONFIRMED)
    latest = repository.changes_after(0)[1]
    repository.set_verdict("e1", Verdict.CONFIRMED)
    assert repository.changes_after(0)[1] == latest


def test_events_come_newest_first_in_pages(repository, media):
    repository.apply_updates([update_of(f"e{n}", at_s=n // 2) for n in range(7)], media)
    first = repository.list_events(EventQuery(limit=3))
    second = repository.list_events(EventQuery(limit=3, cursor=first.next_cursor))
    third = repository.list_events(EventQuery(limit=3, cursor=second.next_cursor))
    assert ids(first) + ids(second) + ids(third) == ["e6", "e5", "e4", "e3", "e2", "e1", "e0"]
    assert third.next_cursor is None


def test_a_new_event_does_not_shift_the_next_page(repository, media):
    repository.apply_updates([update_of(f"e{n}", at_s=n) for n in range(4)], media)
    first = repository.list_events(EventQuery(limit=2))
    repository.apply_updates([update_of("new", at_s=99)], media)
    assert ids(repository.list_events(EventQuery(limit=2, cursor=first.next_cursor))) == ["e1", "e0"]


@pytest.mark.parametrize("cursor", ["", "nonsense", "W10", "WyIyMDI2LTAxLTAxIiwiYSJd", "[]", "é", "WzEsMl0=", "bnVsbA"])
def test_a_cursor_that_is_not_ours_is_an_input_error(repository, cursor):
    with pytest.raises(InputError, match="cursor"):
        repository.list_events(EventQuery(cursor=cursor))


@pytest.mark.parametrize("limit", [0, -1, 501])
def test_a_limit_out_of_range_is_an_input_error(repository, limit):
    with pytest.raises(InputError, match="limit"):
        repository.list_events(EventQuery(limit=limit))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (EventQuery(camera_id="lobby"), ["lobby"]),
        (EventQuery(kind=EventKind.ANOMALY), ["anomaly"]),
        (EventQuery(label="fall"), ["fall"]),
        (EventQuery(min_score=0.95), ["sure"]),
        (EventQuery(open=False), ["closed"]),
        (EventQuery(open=True, camera_id="gate", label="fight", before=NOON), ["early"]),
        (EventQuery(after=NOON + timedelta(seconds=60)), ["late"]),
        (EventQuery(after=NOON - timedelta(seconds=60), before=NOON), ["early"]),
    ],
)
def test_each_filter_chooses(repository, media, query, expected):
    updates = [
        update_of("early", at_s=-60),
        update_of("lobby", camera="lobby"),
        update_of("anomaly", kind=EventKind.ANOMALY, label="unusual_motion"),
        update_of("fall", label="fall"),
        update_of("sure", score=0.99),
        update_of("closed", end_s=5),
        update_of("late", at_s=60),
    ]
    repository.apply_updates(updates, media)
    assert ids(repository.list_events(query)) == expected


def test_events_of_dead_workers_are_closed_as_interrupted(repository, media):
    repository.apply_updates([update_of("dead", epoch="w0-a"), update_of("alive", epoch="w0-b")], media)
    changes = repository.close_interrupted(epoch_not=["w0-b"], at=NOON + timedelta(seconds=8))
    assert [change.data["id"] for change in changes] == ["dead"]
    found = repository.get_event("dead")
    assert (found.end_utc, found.interrupted) == (NOON + timedelta(seconds=8), True)


def test_only_events_of_the_named_cameras_are_interrupted(repository, media):
    repository.apply_updates([update_of("a", camera="gate"), update_of("b", camera="lobby")], media)
    repository.close_interrupted(["lobby"], at=NOON)
    assert repository.count_open("gate") == 1
    assert repository.count_open("lobby") == 0


def test_no_named_camera_means_none_is_interrupted(repository, media):
    repository.apply_updates([update_of()], media)
    assert repository.close_interrupted([], at=NOON) == []


def test_an_interrupted_event_never_ends_before_it_began(repository, media):
    repository.apply_updates([update_of(at_s=10)], media)
    repository.close_interrupted(at=NOON)
    assert repository.get_event("e1").end_utc == NOON + timedelta(seconds=10)


def test_an_event_whose_worker_lives_after_all_goes_on(repository, media):
    repository.apply_updates([update_of()], media)
    repository.close_interrupted(at=NOON)
    repository.apply_updates([update_of(revision=2)], media)
    found = repository.get_event("e1")
    assert (found.end_utc, found.interrupted, found.revision) == (None, False, 3)


def test_open_events_are_counted(repository, media):
    repository.apply_updates([update_of("a"), update_of("b"), update_of("c", end_s=1)], media)
    assert repository.count_open() == 2


def test_events_are_counted_by_camera_for_one_model_and_kind(repository, media):
    updates = [
        update_of("a", at_s=-1.0),
        update_of("b"),
        update_of("c", at_s=5.0),
        update_of("d", camera="yard", at_s=5.0),
        update_of("e", at_s=5.0, model_version="m2"),
        update_of("f", at_s=5.0, kind=EventKind.ANOMALY),
    ]
    repository.apply_updates(updates, media)
    assert repository.count_by_camera(EventKind.ACTION, "m1", NOON) == {"gate": 2, "yard": 1}


def test_a_reader_sees_what_the_writer_has_committed(repository, database_url, media):
    with open_repository(database_url, read_only=True) as reader:
        repository.apply_updates([update_of()], media)
        assert ids(reader.list_events(EventQuery())) == ["e1"]
