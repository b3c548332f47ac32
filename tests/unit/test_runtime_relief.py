"""Which cameras leave a worker that is late: as few as are enough, to where there is room, and not to and fro."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from streamkd.config import CameraConfig
from streamkd.store.records import CameraOrigin, CameraRecord
from streamkd.types import CameraState, CameraStatus
from streamkd_service.bench.scale_late import turn_slow
from streamkd_service.runtime.assignment import place
from streamkd_service.runtime.balance import Balance
from streamkd_service.runtime.costs import CameraCosts
from streamkd_service.runtime.desired import Desired
from streamkd_service.runtime.fleet import Fleet
from streamkd_service.runtime.ports import CameraTotals, HistogramTotals, WorkerReport, WorkerTotals
from streamkd_service.runtime.relief import CALM_S, HOLD_S, LATE_S, TRUST_S, Relief

NONE = HistogramTotals((float("inf"),), (0,), 0.0)
TWO = {"w0": 1.0, "w1": 1.0}
COSTS = {f"{worker}-{index}": 10.0 for worker in TWO for index in range(10)}
PLACED = {camera: camera.partition("-")[0] for camera in COSTS}
LATE, CALM = {"pressure": 0.9, "slowed": True}, {"pressure": 0.2, "slowed": False}


def observed(relief, seconds, from_s=0.0, **workers):
    for second in range(int(seconds) + 1):
        for name, said in workers.items():
            relief.observe(name, now_s=from_s + second, **said)
    return from_s + int(seconds)


def decided(relief, now_s, costs=COSTS, done=None, placed=PLACED):
    return relief.decide(costs, done or {}, TWO, placed, now_s)


@pytest.fixture
def relief():
    made = Relief()
    observed(made, LATE_S, w0=LATE, w1=CALM)
    return made


def test_a_late_worker_gives_to_one_with_room(relief):
    assert set(decided(relief, LATE_S).placement.values()) == {"w1"}


def test_what_moves_was_on_the_late_worker(relief):
    assert {PLACED[camera] for camera in decided(relief, LATE_S).placement} == {"w0"}


def test_as_few_move_as_make_up_for_what_is_not_done(relief):
    done = {camera: 8.1 if worker == "w0" else 10.0 for camera, worker in PLACED.items()}  # 19 of 100 are missing
    assert len(decided(relief, LATE_S, done=done).placement) == 2


def test_one_camera_that_is_enough_moves_rather_than_two(relief):
    costs = COSTS | {"w0-0": 19.0, "w0-1": 40.0}
    done = {camera: cost - 1.8 if PLACED[camera] == "w0" else cost for camera, cost in costs.items()}  # 18 are missing
    assert list(decided(relief, LATE_S, costs, done).placement) == ["w0-0"]


def test_a_hiccup_moves_nothing():
    relief = Relief()
    at_s = observed(relief, 2 * CALM_S, w0=CALM, w1=CALM)
    at_s = observed(relief, LATE_S / 2, at_s, w0=LATE, w1=CALM)
    assert not relief.needed(at_s)


def test_where_all_are_late_nothing_moves():
    relief = Relief()
    at_s = observed(relief, 2 * LATE_S, w0=LATE, w1=LATE)
    assert not relief.needed(at_s)


def test_lower_rates_that_come_back_soon_are_not_lateness():
    relief = Relief()
    at_s = observed(relief, LATE_S - 5, w0={"pressure": 0.3, "slowed": True}, w1=CALM)
    assert not relief.needed(observed(relief, LATE_S + 1, at_s, w0=CALM, w1=CALM))


def test_a_worker_held_down_by_lower_rates_is_late():
    relief = Relief()
    at_s = observed(relief, LATE_S + 1, w0={"pressure": 0.4, "slowed": True}, w1=CALM)
    assert relief.needed(at_s)


def test_after_a_move_both_are_left_alone_for_a_while(relief):
    decided(relief, LATE_S)
    at_s = observed(relief, HOLD_S - 1, LATE_S, w0=LATE, w1=CALM)
    assert not relief.needed(at_s)
    assert relief.needed(observed(relief, LATE_S + 1, at_s, w0=LATE, w1=CALM))


def test_who_was_late_gets_nothing_back_for_some_minutes(relief):
    decided(relief, LATE_S)
    at_s = observed(relief, TRUST_S - 10, LATE_S, w0=CALM, w1=LATE)
    assert not relief.needed(at_s)


def test_who_was_late_counts_as_weaker_than_it_says(relief):
    done = {camera: 7.0 if worker == "w0" else 10.0 for camera, worker in PLACED.items()}
    move = decided(relief, LATE_S, done=done)
    weighed = {name: TWO[name] * move.strengths.get(name, 1.0) for name in TWO}
    placed = PLACED | move.placement
    assert place(COSTS, weighed, placed) == placed


def test_a_worker_that_begins_anew_has_no_past(relief):
    relief.forget("w0")
    assert not relief.needed(LATE_S)


def test_the_last_camera_stays(relief):
    costs = {"w0-0": 10.0, "w1-0": 10.0}
    assert decided(relief, LATE_S, costs, {"w0-0": 2.0}, {"w0-0": "w0", "w1-0": "w1"}) is None


class Recorded(Relief):
    """Remembers who gave and who took, and when."""

    def __init__(self):
        super().__init__()
        self.gave, self.took = [], []

    def decide(self, costs, done, capacities, placement, now_s):
        move = super().decide(costs, done, capacities, placement, now_s)
        for camera, worker in ({} if move is None else move.placement).items():
            self.gave.append((now_s, placement[camera]))
            self.took.append((now_s, worker))
        return move


@given(
    st.lists(st.floats(1.0, 100.0), min_size=4, max_size=60),
    st.lists(st.floats(0.5, 4.0), min_size=2, max_size=6),
    st.data(),
)
def test_whatever_turns_slow_nobody_who_gave_takes_for_some_minutes(costs, capacities, data):
    cameras = {f"c{index}": cost for index, cost in enumerate(costs)}
    workers = {f"w{index}": capacity for index, capacity in enumerate(capacities)}
    slow = data.draw(st.lists(st.sampled_from(sorted(workers)), min_size=1, unique=True))
    relief = Recorded()
    turn_slow(cameras, workers, place(cameras, workers, {}), slow, 40, relief)
    soon = [
        (giver, gave_s, took_s)
        for gave_s, giver in relief.gave
        for took_s, taker in relief.took
        if taker == giver and 0 <= took_s - gave_s < TRUST_S
    ]
    assert soon == []


# --- with what the Controller knows --------------------------------------------------------------------------------


def reported(worker, cameras, at_s, *, pressure, slowed=0):
    """A report of a worker that has decoded 10 and analysed 5 pictures of each camera every second."""
    totals = WorkerTotals(
        worker_id=worker,
        epoch="one",
        cameras=tuple(CameraTotals(name, decoded=int(10 * at_s), analysed=int(5 * at_s)) for name in cameras),
        decode_ms=NONE,
        inference_ms=NONE,
        end_to_end_ms=NONE,
        batch_size=NONE,
        rss_bytes=1,
        cpu_s=at_s,
        slowed_cameras=slowed,
        pressure=pressure,
    )
    statuses = tuple(CameraStatus(name, CameraState.ONLINE, width=640, height=480) for name in cameras)
    return WorkerReport(worker, "one", at_s, 0, "", (), statuses, totals)


def test_cameras_of_a_worker_that_reports_lateness_move():
    names = [f"c{index}" for index in range(20)]
    fleet, costs = Fleet(TWO), CameraCosts()
    desired = Desired(tuple(TWO), 0, costs.of)
    desired.put(*(CameraRecord(CameraConfig(id=name, url=SecretStr("rtsp://h/x")), CameraOrigin.API) for name in names))
    balance = Balance(fleet, desired, costs, 0.0)
    before = desired.placement
    for second in range(int(LATE_S) + 2):
        for worker, pressure in (("w0", 0.95), ("w1", 0.2)):
            mine = [name for name in names if before[name] == worker]
            one = reported(worker, mine, float(second), pressure=pressure)
            fleet.take(one, float(second))
            costs.take(one, float(second))
        balance.tick(float(second))
    moved = {name: (before[name], worker) for name, worker in desired.placement.items() if before[name] != worker}
    assert set(moved.values()) == {("w0", "w1")}
    assert len(moved) == 1  # 5 % of ten cameras: the least that there is


def test_what_overload_leaves_of_a_camera_is_not_what_it_costs():
    costs = CameraCosts()
    for second in (0, 10, 20):
        costs.take(reported("w0", ["a"], float(second), pressure=0.2), float(second))
    full = costs.of(["a"])["a"]
    before = reported("w0", ["a"], 20.0, pressure=0.9, slowed=1)
    half = replace(before.totals.cameras[0], decoded=225, analysed=112)
    costs.take(replace(before, totals=replace(before.totals, cameras=(half,))), 30.0)
    assert costs.of(["a"])["a"] == full
    assert costs.done(["a"])["a"] < 0.5 * full
