"""The benchmark of the read side, very small: it runs, and every client gets every event."""

from __future__ import annotations

import pytest

from streamkd_service.bench.api import ApiOptions, ApiResult, bench_api, section

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def result() -> ApiResult:
    return bench_api(
        ApiOptions(rows=2000, cameras=50, workers=2, events_per_s=10.0, rounds=2, scrapes=2, clients=10, stream_s=4.0)
    )


def test_every_client_gets_every_event_once_and_in_order(result):
    assert (result.stream_complete, result.stream_events > 0) == (10, True)


def test_every_kind_of_page_was_asked_for(result):
    assert len(result.pages) == 12
    assert all(0 < p50 <= p95 <= most for p50, p95, most in result.pages.values())


def test_the_metrics_have_every_camera(result):
    assert result.metrics_mb > 0.05


def test_server_and_clients_are_accounted_for_apart(result):
    assert set(result.cpu_share["stream"]) == {"api", "controller", "workers", "clients"}


def test_the_report_names_what_was_seen(result):
    assert "2,000 rows" in section(result, "streamkd bench api")
