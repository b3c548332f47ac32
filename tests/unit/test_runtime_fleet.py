"""Which worker incarnation counts, and what is said of cameras whose worker is silent."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from streamkd.config import CameraConfig
from streamkd.types import CameraState, CameraStatus
from streamkd_service.runtime.fleet import SILENT_AFTER_S, Fleet
from streamkd_service.runtime.ports import HistogramTotals, WorkerReport, WorkerTotals

NONE = HistogramTotals((float("inf"),), (0,), 0.0)
GATE = CameraConfig(id="gate", url=SecretStr("rtsp://host/gate"))


def report(epoch: str, *, worker: str = "w0") -> WorkerReport:
    return WorkerReport(
        worker_id=worker,
        epoch=epoch,
        sent_at_s=0.0,
        assignment_revision=1,
        model_version="m",
        updates=(),
        statuses=(CameraStatus("gate", CameraState.ONLINE, fps_analysed=5.0, frame_age_s=0.1),),
        totals=WorkerTotals(worker, epoch, (), NONE, NONE, NONE, NONE, 0, 0.0),
    )


@pytest.fixture
def fleet() -> Fleet:
    return Fleet(["w0"])


def test_a_replaced_incarnation_is_refused_for_good(fleet):
    for epoch in ("one", "two"):
        fleet.take(report(epoch), 0.0)
    assert not fleet.accepts(report("one"))
    assert fleet.accepts(report("two"))


def test_a_worker_that_was_never_asked_for_is_refused(fleet):
    assert not fleet.accepts(report("one", worker="w9"))


def test_a_new_incarnation_counts_as_a_restart(fleet):
    for epoch in ("one", "one", "two"):
        fleet.take(report(epoch), 0.0)
    assert fleet.workers["w0"].restarts == 1


def test_the_totals_of_a_dead_incarnation_stay_for_a_while(fleet):
    for epoch in ("one", "two"):
        fleet.take(report(epoch), 0.0)
    assert [totals.epoch for totals in fleet.totals()] == ["one", "two"]


def test_a_camera_of_a_reporting_worker_is_as_it_says(fleet):
    fleet.take(report("one"), 0.0)
    assert fleet.status(GATE, "w0", SILENT_AFTER_S).state is CameraState.ONLINE


def test_a_camera_of_a_silent_worker_is_not_shown_online(fleet):
    fleet.take(report("one"), 0.0)
    status = fleet.status(GATE, "w0", SILENT_AFTER_S + 1)
    assert (status.state, status.fps_analysed) == (CameraState.STALLED, 0.0)


def test_a_camera_that_nobody_has_reported_is_connecting(fleet):
    assert fleet.status(GATE, "w0", 0.0).state is CameraState.CONNECTING


def test_a_disabled_camera_is_disabled_whatever_its_worker_says(fleet):
    fleet.take(report("one"), 0.0)
    assert fleet.status(GATE.model_copy(update={"enabled": False}), "w0", 0.0).state is CameraState.DISABLED
