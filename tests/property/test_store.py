"""Whatever is delivered twice, late or out of order, the store ends at the highest revision; pages lose nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkd.store import open_repository, upgrade
from streamkd.store.events import decode_cursor, encode_cursor
from streamkd.store.records import EventQuery, EventRecord
from streamkd.store.serialize import json_ready
from streamkd.types import EventKind, EventUpdate

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
_numbers = count()
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    upgrade(f"sqlite:///{folder}/streamkd.db")
    with open_repository(f"sqlite:///{folder}/streamkd.db") as repository:
        yield repository, folder / "media"


def update_of(camera, name, revision, start=NOON):
    return EventUpdate(
        f"{camera}-{name}",
        revision,
        camera,
        EventKind.ACTION,
        "fight",
        start,
        None,
        0.0,
        None,
        revision / 100,
        "m",
        "w",
    )


@settings(max_examples=60, deadline=None)
@given(
    deliveries=st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=6),
        max_size=6,
    )
)
def test_the_highest_revision_wins_however_updates_are_delivered(store, deliveries):
    repository, media = store
    camera, newest, applied = f"camera-{next(_numbers)}", {}, 0
    for batch in deliveries:
        updates = [update_of(camera, name, revision) for name, revision in batch]
        changes = repository.apply_updates(updates, media)
        for name, revision in batch:
            applied += revision > newest.get(name, 0)
            newest[name] = max(newest.get(name, 0), revision)
        applied -= len(changes)
    found = {event.id: event.score for event in repository.list_events(EventQuery(camera_id=camera)).events}
    assert found == {f"{camera}-{name}": revision / 100 for name, revision in newest.items()}
    assert applied == 0  # one change for each update that was applied, none for the others


@settings(max_examples=40, deadline=None)
@given(starts=st.lists(st.integers(0, 5), max_size=25), limit=st.integers(1, 7))
def test_pages_give_every_event_once_newest_first(store, starts, limit):
    repository, media = store
    camera = f"camera-{next(_numbers)}"
    updates = [update_of(camera, n, 1, NOON + timedelta(seconds=start)) for n, start in enumerate(starts)]
    repository.apply_updates(updates, media)
    found, cursor = [], None
    for _ in range(len(starts) + 1):
        page = repository.list_events(EventQuery(camera_id=camera, limit=limit, cursor=cursor))
        found += page.events
        cursor = page.next_cursor
        if cursor is None:
            break
    expected = sorted(((u.start_utc, u.id) for u in updates), reverse=True)
    assert [(event.start_utc, event.id) for event in found] == expected


@given(start=moments, event_id=st.text(min_size=1))
def test_a_cursor_says_what_was_put_into_it(start, event_id):
    event = EventRecord(
        event_id,
        "gate",
        EventKind.ACTION,
        "fight",
        start,
        None,
        0.5,
        "m",
        1,
        None,
        "",
        has_snapshot=False,
        interrupted=False,
    )
    assert decode_cursor(encode_cursor(event)) == (start, event_id)


@settings(max_examples=40, deadline=None)
@given(start=moments)
def test_a_time_comes_back_to_the_microsecond(store, start):
    repository, media = store
    update = update_of(f"camera-{next(_numbers)}", "e", 1, start)
    repository.apply_updates([update], media)
    assert repository.get_event(update.id).start_utc == start


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_json_ready_leaves_nothing_that_json_does_not_know(value):
    import json

    assert json.loads(json.dumps(json_ready(value), allow_nan=False)) == json_ready(value)
