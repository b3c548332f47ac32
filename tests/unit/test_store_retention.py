"""Retention: events by age, snapshots by size, leftovers of a crash; in steps that end."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest

from streamkd.errors import NotFoundError, StoreError
from streamkd.store import media as media_files
from streamkd.store.records import EventQuery
from streamkd.types import EventKind, EventUpdate

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
MIB = 2**20


def event(id_, *, age_days, size=1000, is_open=False):
    start = NOW - timedelta(days=age_days)
    picture = b"x" * size if size else None
    end = None if is_open else start
    return EventUpdate(
        id_, 1, "gate", EventKind.ACTION, "fight", start, end, 0.0, None, 0.9, "m", snapshot_jpeg=picture
    )


def kept(repository):
    return sorted(found.id for found in repository.list_events(EventQuery()).events)


def files(media):
    return sorted(path.name for path in media.rglob("*") if path.is_file())


def prune(repository, media, *, days=30.0, quota_mb=100, **more):
    return repository.prune(NOW, days, media, quota_mb, **more)


def make_old(path):
    os.utime(path, (NOW.timestamp() - 86_400,) * 2)


def test_closed_events_are_deleted_by_age_with_their_pictures(repository, media):
    repository.apply_updates([event("old", age_days=31), event("new", age_days=29)], media)
    report = prune(repository, media)
    assert (report.events, report.snapshots, report.bytes_freed, report.more) == (1, 1, 1000, False)
    assert (kept(repository), files(media)) == (["new"], ["new.jpg"])


def test_an_open_event_stays_however_old(repository, media):
    repository.apply_updates([event("old", age_days=99, is_open=True)], media)
    prune(repository, media)
    assert kept(repository) == ["old"]


def test_a_day_whose_last_picture_goes_leaves_no_folder(repository, media):
    repository.apply_updates([event("old", age_days=31)], media)
    prune(repository, media)
    assert list(media.iterdir()) == []


def test_the_oldest_pictures_go_first_when_the_quota_is_full(repository, media):
    repository.apply_updates([event(f"e{n}", age_days=n, size=MIB) for n in range(4)], media)
    report = prune(repository, media, quota_mb=2)
    assert (report.snapshots, files(media)) == (2, ["e0.jpg", "e1.jpg"])


def test_an_event_outlives_its_picture(repository, media):
    repository.apply_updates([event("e", age_days=1, size=2 * MIB)], media)
    prune(repository, media, quota_mb=1)
    assert repository.get_event("e").has_snapshot is False
    with pytest.raises(NotFoundError, match="snapshot"):
        repository.snapshot_path("e", media)


def test_a_step_is_bounded_and_says_that_there_is_more(repository, media):
    repository.apply_updates([event(f"e{n}", age_days=40) for n in range(5)], media)
    reports = [prune(repository, media, limit=2) for _ in range(3)]
    assert [(report.events, report.more) for report in reports] == [(2, True), (2, True), (1, False)]


def test_pictures_by_size_go_in_bounded_steps_as_well(repository, media):
    repository.apply_updates([event(f"e{n}", age_days=n, size=MIB) for n in range(5)], media)
    reports = [prune(repository, media, quota_mb=1, limit=3) for _ in range(2)]
    assert [(report.snapshots, report.more) for report in reports] == [(3, True), (1, False)]


def test_nothing_to_do_ends_at_once(repository, media):
    assert prune(repository, media).more is False


def test_a_picture_that_no_event_points_to_is_swept(repository, media):
    repository.apply_updates([event("e", age_days=1)], media)
    orphan = media / "2026-01-30" / "lost.jpg"
    orphan.write_bytes(b"x" * 10)
    make_old(orphan)
    make_old(media / "2026-01-30" / "e.jpg")
    assert prune(repository, media).orphans == 1
    assert files(media) == ["e.jpg"]


def test_a_picture_that_may_be_waiting_for_its_commit_stays(repository, media):
    fresh = media / "2026-01-31" / "soon.jpg"
    fresh.parent.mkdir(parents=True)
    fresh.write_bytes(b"x")
    os.utime(fresh, (NOW.timestamp() - 5,) * 2)
    assert prune(repository, media).orphans == 0


def test_what_was_left_half_written_is_swept(repository, media):
    partial = media / "2026-01-30" / "e.part"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"x")
    make_old(partial)
    assert prune(repository, media).orphans == 1


def test_files_that_are_not_ours_are_left_alone(repository, media):
    for name in ("2026-01-30/notes.txt", "clips/e.jpg", "e.jpg"):
        path = media / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 2 * MIB)
        make_old(path)
    prune(repository, media, quota_mb=1)
    assert len(files(media)) == 3


def test_a_crash_between_rows_and_files_is_repaired_by_the_next_step(repository, media, monkeypatch):
    repository.apply_updates([event("old", age_days=31)], media)
    monkeypatch.setattr("streamkd.store.retention.delete_media", _crash)
    with pytest.raises(RuntimeError):
        prune(repository, media)
    monkeypatch.undo()
    make_old(media / "2025-12-31" / "old.jpg")
    prune(repository, media)
    assert (kept(repository), files(media)) == ([], [])


def test_a_file_that_can_not_be_deleted_is_a_store_error(repository, media, monkeypatch):
    repository.apply_updates([event("old", age_days=31)], media)
    monkeypatch.setattr("streamkd.store.retention.delete_media", _disk_full)
    with pytest.raises(StoreError, match="writable"):
        prune(repository, media)


def test_a_picture_is_whole_or_not_there(media, monkeypatch):
    monkeypatch.setattr(media_files.os, "fsync", _disk_full)
    with pytest.raises(OSError, match="full"):
        media_files.write_snapshot(media, "2026-01-31/e.jpg", b"x" * 100)
    assert files(media) == []


def with_clip(repository, media, id_, *, size=MIB):
    repository.store_clip(id_, 0, b"c" * size, size, media)


def test_an_event_that_is_deleted_takes_its_clip_along(repository, media):
    repository.apply_updates([event("old", age_days=31)], media)
    with_clip(repository, media, "old")
    report = prune(repository, media)
    assert (report.clips, report.bytes_freed, files(media)) == (1, 1000 + MIB, [])


def test_clips_count_for_the_quota_and_the_oldest_go_first(repository, media):
    repository.apply_updates([event(f"e{n}", age_days=n) for n in range(4)], media)
    for n in range(4):
        with_clip(repository, media, f"e{n}")
    report = prune(repository, media, quota_mb=3)
    assert (report.clips, report.snapshots) == (2, 2)
    assert files(media) == ["e0.jpg", "e0.mp4", "e1.jpg", "e1.mp4"]


def test_an_event_that_loses_its_clip_says_so(repository, media):
    repository.apply_updates([event("e", age_days=1)], media)
    with_clip(repository, media, "e", size=2 * MIB)
    prune(repository, media, quota_mb=1)
    assert repository.get_event("e").has_clip is False
    with pytest.raises(NotFoundError, match="clip"):
        repository.clip_path("e", media)


def test_a_clip_that_came_half_is_swept(repository, media):
    repository.apply_updates([event("e", age_days=1, size=0)], media)
    repository.store_clip("e", 0, b"half", 8, media)
    make_old(media / "2026-01-30" / "e.mp4.part")
    assert prune(repository, media).orphans == 1
    assert files(media) == []


def test_a_clip_that_its_event_points_to_stays(repository, media):
    repository.apply_updates([event("e", age_days=1, size=0)], media)
    with_clip(repository, media, "e")
    make_old(media / "2026-01-30" / "e.mp4")
    assert prune(repository, media).orphans == 0


def test_events_are_deleted_before_files_are_listed(repository, media, monkeypatch):
    repository.apply_updates([event(f"e{n}", age_days=40) for n in range(3)], media)
    monkeypatch.setattr("streamkd.store.retention.list_media", _crash)
    assert prune(repository, media, limit=2).events == 2


def _crash(*_):
    raise RuntimeError("kill -9")


def _disk_full(*_):
    raise OSError(28, "disk full")
