"""How both databases find pages of events: by an index that has their order, never by reading or sorting all rows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text

from streamkd.store import open_repository
from streamkd.store.events import encode_cursor, page_statement
from streamkd.store.records import EventQuery
from streamkd.store.schema import HAS_MEDIA, EventRow
from streamkd.types import EventKind
from streamkd_service.bench.api_data import fill_events

NOW = datetime(2026, 1, 31, tzinfo=UTC)
MIDDLE = NOW - timedelta(days=15)

QUERIES = {
    "newest": EventQuery(),
    "camera": EventQuery(camera_id="camera-0007"),
    "label": EventQuery(label="fall"),
    "kind": EventQuery(kind=EventKind.ANOMALY),
    "camera and label": EventQuery(camera_id="camera-0007", label="fall"),
    "time": EventQuery(after=MIDDLE, before=MIDDLE + timedelta(hours=1)),
    "score": EventQuery(min_score=0.9),
    "over": EventQuery(open=False),
}


@pytest.fixture
def history(database_url: str):
    fill_events(database_url, 3000, 20, now=NOW)
    with open_repository(database_url) as repository:
        yield repository


def plan(repository, statement) -> str:
    """What the database will do. PostgreSQL is told that reading all rows costs much, as it does with many."""
    database = repository._db
    compiled = statement.compile(database.engine, compile_kwargs={"literal_binds": True})
    with database.read() as session:
        if database.kind == "sqlite":
            rows = session.execute(text(f"EXPLAIN QUERY PLAN {compiled}".replace(":", "\\:")))
            return "\n".join(row.detail for row in rows)
        session.execute(text("SET LOCAL enable_seqscan = off"))
        session.execute(text("SET LOCAL enable_bitmapscan = off"))
        return "\n".join(row[0] for row in session.execute(text(f"EXPLAIN {compiled}".replace(":", "\\:"))))


def assert_by_index(found: str) -> None:
    assert "ix_events_" in found, found
    for costly in ("TEMP B-TREE", "Sort", "Seq Scan"):
        assert costly not in found, found


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_a_page_is_found_by_an_index_that_has_its_order(history, query):
    assert_by_index(plan(history, page_statement(query)))


@pytest.mark.parametrize("query", [EventQuery(), EventQuery(camera_id="camera-0007"), EventQuery(label="fall")])
def test_a_later_page_begins_in_the_index(history, query):
    last = history.list_events(query).events[-1]
    found = plan(history, page_statement(replace(query, cursor=encode_cursor(last))))
    assert_by_index(found)
    assert "start_utc,id)<" in found.replace(" ", "")


def test_open_events_are_found_by_an_index(history):
    assert "ix_events_" in plan(history, page_statement(EventQuery(open=True)))  # they are few, and may be sorted


def test_retention_finds_old_events_by_an_index(history):
    oldest = select(EventRow.id).where(EventRow.end_utc < MIDDLE).order_by(EventRow.end_utc).limit(501)
    assert_by_index(plan(history, oldest))


def test_retention_finds_the_oldest_files_by_an_index(history):
    oldest = select(EventRow.id).where(HAS_MEDIA).order_by(EventRow.start_utc, EventRow.id).limit(500)
    assert "ix_events_media" in plan(history, oldest)


def test_pages_together_are_the_whole_history(history):
    query, seen = EventQuery(limit=500), []
    while True:
        page = history.list_events(query)
        seen += [event.id for event in page.events]
        if page.next_cursor is None:
            break
        query = replace(query, cursor=page.next_cursor)
    assert len(seen) == len(set(seen)) == 3000
