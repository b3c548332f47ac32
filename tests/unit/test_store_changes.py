"""The live stream's memory: numbered in commit order, trimmed, never renumbered."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from streamkd.errors import StoreError
from streamkd.store.schema import ChangeRow


def draft(n=0):
    return ("camera", "updated", {"id": f"camera-{n}"})


@pytest.fixture
def ten(repository):
    """A repository with changes 1..10."""
    repository.add_changes([draft(n) for n in range(10)])
    return repository


def seqs(answer):
    return [change.seq for change in answer[2]]


def test_changes_are_numbered_in_the_order_they_were_given(repository):
    made = repository.add_changes([draft(n) for n in range(50)])
    assert [(change.seq, change.data["id"]) for change in made] == [(n + 1, f"camera-{n}") for n in range(50)]


def test_a_new_database_has_no_changes_and_no_reset(repository):
    assert repository.changes_after(0) == (False, 0, ())


def test_changes_after_a_seq_come_oldest_first_up_to_the_limit(ten):
    reset, latest, changes = ten.changes_after(6, limit=2)
    assert (reset, latest, [change.seq for change in changes]) == (False, 10, [7, 8])


def test_a_change_reads_as_it_was_committed(repository, clock):
    made = repository.add_changes([draft()])
    assert list(repository.changes_after(0)[2]) == made
    assert made[0].at_utc == clock.utc()


def test_who_has_seen_everything_gets_nothing(ten):
    assert ten.changes_after(10) == (False, 10, ())


def test_who_asks_for_what_was_trimmed_is_told_to_read_afresh(ten):
    ten.trim_changes(keep=4)
    assert ten.changes_after(5) == (True, 10, ())


def test_who_has_seen_all_that_was_trimmed_misses_nothing(ten):
    ten.trim_changes(keep=4)
    reset, _, changes = ten.changes_after(6)
    assert (reset, [change.seq for change in changes]) == (False, [7, 8, 9, 10])


def test_who_is_ahead_of_this_database_is_told_to_read_afresh(ten):
    assert ten.changes_after(11) == (True, 10, ())


def test_trimming_says_how_many_went(ten):
    assert [ten.trim_changes(keep=4) for _ in range(2)] == [(6, False), (0, False)]


def test_trimming_goes_in_bounded_steps(ten):
    assert [ten.trim_changes(keep=4, limit=4) for _ in range(2)] == [(4, True), (2, False)]


def test_between_two_steps_what_is_gone_is_a_reset_and_what_is_left_is_there(ten):
    ten.trim_changes(keep=4, limit=4)
    assert (ten.changes_after(3)[0], ten.changes_after(4)[2][0].seq) == (True, 5)


def test_a_seq_is_never_used_again_after_everything_was_trimmed(ten):
    ten.trim_changes(keep=0)
    assert ten.add_changes([draft()])[0].seq == 11


def test_the_latest_seq_survives_trimming_everything(ten):
    ten.trim_changes(keep=0)
    assert ten.changes_after(10) == (False, 10, ())


def test_a_change_whose_transaction_fails_is_never_seen(repository):
    row = ChangeRow(topic="event", action="created", at_utc=datetime(2026, 1, 1, tzinfo=UTC), data={})
    twice = ChangeRow(seq=1, topic="event", action="created", at_utc=row.at_utc, data={})
    with pytest.raises(StoreError), repository._db.write() as session:
        session.add_all([row, twice])
    assert repository.changes_after(0) == (False, 0, ())


def test_nothing_to_publish_is_nothing(repository):
    assert repository.add_changes([]) == []


def test_an_unknown_topic_is_refused(repository):
    with pytest.raises(ValueError, match="weather"):
        repository.add_changes([("weather", "updated", {})])
