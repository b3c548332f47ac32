"""What /metrics shows: counters that never fall, series that come and go with their camera, a page without faults."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamkd.config import CameraConfig
from streamkd.store import open_repository, upgrade
from streamkd.store.records import CameraOrigin, Change, RefreshRecord, RefreshStatus, RefreshStep
from streamkd.store.serialize import refresh_json
from streamkd.types import CameraState, CameraStatus
from streamkd_service.metrics import ServiceMetrics
from streamkd_service.runtime.histograms import BATCH_BOUNDS, LATENCY_BOUNDS_MS, Histogram
from streamkd_service.runtime.ports import CameraTotals, CameraView, SystemView, WorkerTotals, WorkerView
from streamkd_service.service import metrics_of

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def a_histogram(*values: float, bounds=LATENCY_BOUNDS_MS):
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    return histogram.totals()


def totals_of(worker="worker-0", epoch="e1", *, cpu_s=1.0, latencies_ms=(), **received):
    return WorkerTotals(
        worker_id=worker,
        epoch=epoch,
        cameras=tuple(
            CameraTotals(id_, n, n, n // 2, dropped={"superseded": n // 10}, reconnects={"timeout": 1})
            for id_, n in received.items()
        ),
        decode_ms=a_histogram(),
        inference_ms=a_histogram(),
        end_to_end_ms=a_histogram(*latencies_ms),
        batch_size=a_histogram(1, 4, bounds=BATCH_BOUNDS),
        rss_bytes=1000,
        cpu_s=cpu_s,
    )


def view_of(camera_id, state=CameraState.ONLINE, **status):
    config = CameraConfig(id=camera_id, url="rtsp://viewer:secret@192.0.2.1/x")
    return CameraView(config, CameraOrigin.API, CameraStatus(camera_id, state, **status), "worker-0")


def system_of(*workers, version="shipped", refresh=None):
    views = tuple(WorkerView(id_, "node", alive, 1, 0.1, 1000, 1.0, restarts) for id_, alive, restarts in workers)
    return SystemView("0.1.0", NOW, 5.0, True, version, views, {}, 3, "sqlite", refresh)


def event_change(seq=1, action="created", camera="gate", label="fight", kind="action"):
    return Change(seq, "event", NOW, {"camera_id": camera, "kind": kind, "label": label}, action)


def refresh_change(id_="r1", status=RefreshStatus.REFUSED, checks=(), seconds=90):
    ended = None if status is RefreshStatus.RUNNING else NOW + timedelta(seconds=seconds)
    gate = {"checks": list(checks)} if checks else None
    record = RefreshRecord(id_, status, RefreshStep.GATE, 1.0, NOW, ended, "shipped", "v2", None, "", gate)
    return Change(1, "refresh", NOW, refresh_json(record), "updated")


def samples(metrics):
    page = metrics.render()[0].decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def value(metrics, name, **labels):
    return samples(metrics).get((f"streamkd_{name}", *sorted(labels.items())))


@pytest.fixture
def metrics():
    made = ServiceMetrics()
    made.set_cameras([view_of("gate"), view_of("lobby", CameraState.BACKING_OFF)])
    made.set_system(system_of(("worker-0", True, 0), ("worker-1", True, 0)))
    return made


@pytest.fixture
def full(metrics):
    """Everything that the page can show."""
    metrics.fold([totals_of(gate=100, latencies_ms=(3, 30)), totals_of("worker-1", "f1", lobby=40)])
    metrics.set_cameras([view_of("gate", frame_age_s=0.2, action="fight"), view_of("lobby", CameraState.FROZEN)])
    metrics.count(event_change())
    metrics.count(refresh_change(checks=[{"part": "safety", "value": 0.01}]))
    metrics.set_stream_clients(2)
    return metrics


def test_an_incarnation_counts_from_zero(metrics):
    metrics.fold([totals_of(gate=100)])
    assert value(metrics, "frames_received_total", camera="gate") == 100


def test_the_same_totals_twice_count_once(metrics):
    metrics.fold([totals_of(gate=100)])
    metrics.fold([totals_of(gate=100)])
    assert value(metrics, "frames_received_total", camera="gate") == 100


def test_a_restarted_worker_adds_to_what_its_predecessor_counted(metrics):
    metrics.fold([totals_of(gate=100)])
    metrics.fold([totals_of(gate=100), totals_of(epoch="e2", gate=7)])
    assert value(metrics, "frames_received_total", camera="gate") == 107


def test_a_camera_that_moves_is_counted_by_both_workers(metrics):
    metrics.fold([totals_of(gate=100)])
    metrics.fold([totals_of(gate=100), totals_of("worker-1", "f1", gate=5)])
    assert value(metrics, "frames_received_total", camera="gate") == 105


def test_a_camera_that_moves_back_is_not_counted_twice(metrics):
    metrics.fold([totals_of(gate=100, cpu_s=1)])
    metrics.fold([totals_of(lobby=9, cpu_s=2), totals_of("worker-1", "f1", gate=5)])
    metrics.fold([totals_of(gate=110, lobby=9, cpu_s=3)])
    assert value(metrics, "frames_received_total", camera="gate") == 115


def test_a_report_that_was_overtaken_changes_nothing(metrics):
    metrics.fold([totals_of(gate=100, cpu_s=5)])
    metrics.fold([totals_of(gate=90, cpu_s=4)])
    metrics.fold([totals_of(gate=101, cpu_s=6)])
    assert value(metrics, "frames_received_total", camera="gate") == 101


def test_series_of_a_removed_camera_vanish(full):
    full.set_cameras([view_of("gate")])
    assert not [key for key in samples(full) if ("camera", "lobby") in key]


def test_a_camera_that_returns_goes_on_where_it_was(full):
    full.set_cameras([view_of("gate")])
    full.set_cameras([view_of("gate"), view_of("lobby")])
    assert value(full, "frames_received_total", camera="lobby") == 40


def test_every_reason_is_there_from_zero_on(metrics):
    assert value(metrics, "frames_dropped_total", camera="gate", reason="stale") == 0
    assert value(metrics, "reconnects_total", camera="gate", reason="auth") == 0


def test_exactly_one_state_of_a_camera_is_1(full):
    states = [v for key, v in samples(full).items() if key[0] == "streamkd_camera_state" and ("camera", "lobby") in key]
    assert sorted(states) == [0.0] * (len(CameraState) - 1) + [1.0]


def test_frame_age_is_missing_where_there_was_no_frame(full):
    assert value(full, "frame_age_seconds", camera="gate") == 0.2
    assert value(full, "frame_age_seconds", camera="lobby") is None


def test_latency_is_shown_in_seconds(full):
    assert value(full, "end_to_end_seconds_bucket", worker="worker-0", le="0.005") == 1
    assert value(full, "end_to_end_seconds_bucket", worker="worker-0", le="+Inf") == 2
    assert value(full, "end_to_end_seconds_sum", worker="worker-0") == pytest.approx(0.033)


def test_an_event_is_counted_when_it_opens_and_not_when_it_changes(metrics):
    for n, action in enumerate(["created", "updated", "updated"]):
        metrics.count(event_change(n, action))
    assert value(metrics, "events_total", camera="gate", kind="action", label="fight") == 1


def test_a_label_that_some_camera_knows_starts_at_zero_on_every_camera(full):
    assert value(full, "events_total", camera="lobby", kind="action", label="fight") == 0


def test_a_refresh_is_counted_once_when_it_has_ended(metrics):
    for status in (RefreshStatus.RUNNING, RefreshStatus.REFUSED, RefreshStatus.REFUSED):
        metrics.count(refresh_change(status=status))
    assert value(metrics, "refreshes_total", outcome="refused") == 1
    assert value(metrics, "refresh_duration_seconds_sum") == 90


def test_a_refresh_that_was_rolled_back_later_counts_as_both(metrics):
    for status in (RefreshStatus.PROMOTED, RefreshStatus.ROLLED_BACK, RefreshStatus.ROLLED_BACK):
        metrics.count(refresh_change(status=status))
    outcomes = [value(metrics, "refreshes_total", outcome=name) for name in ("promoted", "rolled_back")]
    assert (outcomes, value(metrics, "refresh_duration_seconds_count")) == ([1, 1], 1)


def test_last_refresh_time_is_when_it_ended(full):
    assert value(full, "last_refresh_timestamp_seconds") == (NOW + timedelta(seconds=90)).timestamp()


def test_a_remembered_refresh_is_shown_and_not_counted(metrics):
    metrics.observe_refresh(refresh_change().data)
    assert value(metrics, "refreshes_total", outcome="refused") == 0
    assert value(metrics, "last_refresh_timestamp_seconds") is not None


def test_how_the_last_refresh_ended_is_known_after_a_restart(tmp_path):
    url = f"sqlite:///{tmp_path}/streamkd.db"
    upgrade(url)
    with open_repository(url) as repository:
        running = RefreshRecord("r1", RefreshStatus.RUNNING, RefreshStep.GATE, 0, NOW, None, "v1", None, None, "", None)
        repository.create_refresh(running)
        gate = {"checks": [{"part": "safety", "value": 0.1}]}
        ended = repository.update_refresh("r1", status=RefreshStatus.REFUSED, gate=gate)
        metrics = metrics_of(repository)
    assert value(metrics, "last_refresh_timestamp_seconds") == pytest.approx(ended.ended_utc.timestamp())
    assert value(metrics, "gate_score", part="safety") == 0.1
    assert value(metrics, "refreshes_total", outcome="refused") == 0


def test_gate_score_is_the_worst_for_safety_and_the_best_for_benefit(metrics):
    parts = [("safety", -0.01), ("safety", 0.2), ("benefit", 0.0), ("benefit", 0.3), ("benefit", None)]
    metrics.count(refresh_change(checks=[{"part": part, "value": number} for part, number in parts]))
    assert value(metrics, "gate_score", part="safety") == -0.01
    assert value(metrics, "gate_score", part="benefit") == 0.3


def test_only_the_live_model_is_in_model_info(metrics):
    metrics.set_system(system_of(("worker-0", True, 0), version="v2"))
    found = [key for key in samples(metrics) if key[0] == "streamkd_model_info"]
    assert found == [("streamkd_model_info", ("version", "v2"))]


def test_worker_restarts_do_not_fall_when_the_controller_forgets_them(metrics):
    for restarts in (2, 0, 1):
        metrics.set_system(system_of(("worker-0", True, restarts)))
    assert value(metrics, "worker_restarts_total", worker="worker-0") == 3


def test_a_page_without_any_news_renders():
    assert b"streamkd_stream_clients 0" in ServiceMetrics().render()[0]


def test_no_secret_and_no_address_is_on_the_page(full):
    page = full.render()[0].decode()
    assert "secret" not in page
    assert "192.0.2.1" not in page


def test_labels_are_a_closed_set(full):
    names = {name for key in samples(full) for name, _ in key[1:]}
    assert names == {"camera", "reason", "state", "kind", "label", "worker", "le", "version", "outcome", "part"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_finds_no_fault(full):
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=full.render()[0], capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_bounds_get_their_infinity():
    assert Histogram((1.0, 2.0)).totals().bounds == (1.0, 2.0, inf)


def test_an_observation_on_a_bound_belongs_to_it():
    assert a_histogram(2.0, 2.1, bounds=(1.0, 2.0, inf)).counts == (0, 1, 2)


def test_what_is_not_finite_is_not_observed():
    assert a_histogram(float("nan"), inf, bounds=(1.0,)).sum == 0


def test_bounds_that_do_not_rise_are_refused():
    with pytest.raises(ValueError, match="rise"):
        Histogram((2.0, 1.0))


def test_the_reference_describes_every_metric_and_no_other(full):
    families = text_string_to_metric_families(full.render()[0].decode())
    shown = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    reference = Path(__file__).resolve().parents[2] / "docs" / "reference" / "metrics.md"
    described = set(re.findall(r"^\| `(streamkd_\w+)`", reference.read_text(encoding="utf-8"), re.MULTILINE))
    assert described == shown


def test_series_begin_again_with_a_camera_of_another_kind_of_events(full):
    full.set_cameras([view_of("gate", action="fall"), view_of("lobby")])
    assert value(full, "events_total", camera="lobby", kind="action", label="fall") == 0
    assert value(full, "events_total", camera="gate", kind="action", label="fight") == 1


def test_the_state_that_is_shown_is_the_present_one(full):
    full.render()
    full.set_cameras([view_of("gate", CameraState.BLACK)])
    assert value(full, "camera_state", camera="gate", state="black") == 1
    assert value(full, "camera_state", camera="gate", state="online") == 0
