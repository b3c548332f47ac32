"""Nodes that come and go: names of workers, what cameras cost, and where they are placed then."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from streamkd.config import CameraConfig
from streamkd.store.records import CameraOrigin, CameraRecord
from streamkd.types import CameraState, CameraStatus
from streamkd_service.runtime.costs import CameraCosts
from streamkd_service.runtime.desired import Desired
from streamkd_service.runtime.fleet import LOST_AFTER_S, Fleet
from streamkd_service.runtime.ports import CameraTotals, HistogramTotals, WorkerReport, WorkerTotals
from streamkd_service.runtime.slots import Pins, Place, Slots, workers_for

NONE = HistogramTotals((float("inf"),), (0,), 0.0)


def report(worker_id="worker-0", epoch="one", *, cameras=(), width=640, height=480) -> WorkerReport:
    """`cameras`: (id, decoded, analysed) since the worker began."""
    statuses = tuple(CameraStatus(name, CameraState.ONLINE, width=width, height=height) for name, _, _ in cameras)
    totals = tuple(CameraTotals(name, decoded=decoded, analysed=analysed) for name, decoded, analysed in cameras)
    counted = WorkerTotals(worker_id, epoch, totals, NONE, NONE, NONE, NONE, 1, 1.0)
    return WorkerReport(worker_id, epoch, 0.0, -1, "", (), statuses, counted)


def cameras(*names: str) -> list[CameraRecord]:
    return [CameraRecord(CameraConfig(id=name, url=SecretStr("rtsp://h/x")), CameraOrigin.API) for name in names]


# --- names ---------------------------------------------------------------------------------------------------------


def test_every_node_has_its_workers():
    slots = Slots(2)
    slots.update({"a": 4.0, "b": 4.0})
    assert slots.nodes == {"worker-0": "a", "worker-1": "a", "worker-2": "b", "worker-3": "b"}


def test_a_node_that_stays_keeps_its_names_and_one_that_joins_gets_those_that_are_free():
    slots = Slots(1)
    slots.update({"a": 1.0, "b": 1.0, "c": 1.0})
    slots.update({"a": 1.0, "c": 1.0})
    slots.update({"a": 1.0, "c": 1.0, "d": 1.0})
    assert slots.nodes == {"worker-0": "a", "worker-1": "d", "worker-2": "c"}


def test_workers_share_their_node_s_processors():
    slots = Slots(2)
    slots.update({"a": 8.0})
    assert slots.capacities({"a": 8.0}) == {"worker-0": 4.0, "worker-1": 4.0}


def test_workers_are_numbered_on_their_own_node():
    slots = Slots(2)
    slots.update({"a": 2.0, "b": 2.0})
    slots.update({"b": 2.0, "c": 2.0})
    assert slots.nodes == {"worker-0": "c", "worker-1": "c", "worker-2": "b", "worker-3": "b"}
    assert [slots.places()[f"worker-{index}"] for index in range(4)] == [(0, 2), (1, 2), (0, 2), (1, 2)]


def test_a_worker_has_a_processor_of_its_own_where_there_is_one_for_each():
    allowed = {2, 3, 7}
    assert [Place(number, 3).processors(allowed) for number in range(3)] == [{2}, {3}, {7}]
    assert (
        Place(0, 1).processors(allowed) == Place(1, 2).processors(allowed) == Place(3, 4).processors(allowed) == allowed
    )


def test_where_nobody_says_how_many_cameras_and_processors_decide():
    assert [workers_for(cameras, 4.0) for cameras in (0, 12, 13, 48, 500)] == [1, 1, 2, 4, 4]


def test_more_cameras_bring_more_workers_and_fewer_take_none_away():
    slots = Slots(None)
    counts = []
    for cameras in (1, 20, 100, 1):
        slots.update({"a": 2.0, "b": 8.0}, cameras)
        counts.append([list(slots.nodes.values()).count(node) for node in ("a", "b")])
    assert counts == [[1, 1], [1, 1], [2, 5], [2, 5]]


# --- processors of their own ---------------------------------------------------------------------------------------


def test_a_worker_is_told_its_place_until_it_has_answered():
    pins, places = Pins(), {"worker-0": Place(0, 2)}
    assert pins.due(places, {"worker-0": "one"}) == pins.due(places, {"worker-0": "one"}) == places
    pins.confirm("worker-0", "one", Place(0, 2))
    assert pins.due(places, {"worker-0": "one"}) == {}


def test_a_new_incarnation_is_told_its_worker_s_place_again():
    pins, places = Pins(), {"worker-0": Place(0, 2), "worker-1": Place(1, 2)}
    for worker, place in places.items():
        pins.confirm(worker, "one", place)
    assert pins.due(places, {"worker-0": "two", "worker-1": "one"}) == {"worker-0": Place(0, 2)}


def test_a_worker_whose_place_has_changed_is_told():
    pins = Pins()
    pins.confirm("worker-0", "one", Place(0, 1))
    assert pins.due({"worker-0": Place(0, 2)}, {"worker-0": "one"}) == {"worker-0": Place(0, 2)}


def test_a_worker_that_has_not_been_heard_of_is_waited_for():
    assert Pins().due({"worker-0": Place(0, 1)}, {}) == {}


# --- workers that come and go --------------------------------------------------------------------------------------


def test_an_incarnation_of_a_node_that_has_gone_can_not_come_back():
    fleet = Fleet(["worker-0", "worker-1"])
    fleet.take(report("worker-1", "old"), 0.0)
    fleet.set_workers(["worker-0"])
    fleet.set_workers(["worker-0", "worker-1"])
    assert (fleet.accepts(report("worker-1", "old")), fleet.accepts(report("worker-1", "new"))) == (False, True)


def test_a_worker_that_is_not_there_any_more_is_not_accepted():
    fleet = Fleet(["worker-0", "worker-1"])
    fleet.set_workers(["worker-0"])
    assert not fleet.accepts(report("worker-1"))


@pytest.mark.parametrize(("age_s", "lost"), [(LOST_AFTER_S - 1, set()), (LOST_AFTER_S + 1, {"worker-0"})])
def test_a_worker_is_lost_after_a_long_silence_only(age_s, lost):
    fleet = Fleet(["worker-0"])
    fleet.take(report("worker-0"), 100.0)
    assert fleet.lost(100.0 + age_s, waits=False) == lost


@pytest.mark.parametrize(("waits", "lost"), [(True, set()), (False, {"worker-0"})])
def test_a_worker_that_has_never_reported_is_waited_for_at_the_beginning_only(waits, lost):
    assert Fleet(["worker-0"]).lost(1e6, waits=waits) == lost


# --- placement -----------------------------------------------------------------------------------------------------


def test_cameras_of_a_worker_that_has_gone_move_and_the_others_stay():
    desired = Desired(["w0", "w1", "w2"], 0)
    desired.put(*cameras("a", "b", "c", "d", "e", "f"))
    before = dict(desired.placement)
    desired.use({"w0": 1.0, "w1": 1.0})
    moved = {name for name, worker in desired.placement.items() if before[name] != worker}
    assert moved == {name for name, worker in before.items() if worker == "w2"}


def test_a_worker_that_joins_gets_cameras():
    desired = Desired(["w0"], 0)
    desired.put(*cameras("a", "b", "c", "d"))
    desired.use({"w0": 1.0, "w1": 1.0})
    assert sorted(desired.placement.values()) == ["w0", "w0", "w1", "w1"]


def test_the_same_workers_again_change_nothing():
    desired = Desired(["w0", "w1"], 0)
    desired.put(*cameras("a", "b"))
    revision = desired.revision
    assert (desired.use({"w0": 1.0, "w1": 1.0}), desired.revision) == (False, revision)


def test_a_node_with_more_processors_gets_more_cameras():
    desired = Desired(["w0"], 0)
    desired.use({"w0": 1.0, "w1": 3.0})
    desired.put(*cameras(*"abcdefgh"))
    assert sorted(desired.placement.values()).count("w1") == 6


def test_cameras_move_when_a_worker_has_far_too_much():
    costs = dict.fromkeys("abcd", 1.0)
    desired = Desired(["w0", "w1"], 0, lambda names: {name: costs[name] for name in names})
    desired.put(*cameras(*"abcd"))
    costs |= {name: 10.0 for name, worker in desired.placement.items() if worker == "w0"}
    assert desired.rebalance()
    expensive = [worker for name, worker in desired.placement.items() if costs[name] == 10.0]
    assert sorted(expensive) == ["w0", "w1"]


def test_a_little_too_much_is_left_alone():
    costs = dict.fromkeys("abcd", 1.0)
    desired = Desired(["w0", "w1"], 0, lambda names: {name: costs[name] for name in names})
    desired.put(*cameras(*"abcd"))
    costs["a"] = 1.5
    assert not desired.rebalance()


def uneven() -> Desired:
    """Two workers with four cameras each, one with 25 % more than its share."""
    costs = dict.fromkeys("abcdefgh", 1.0)
    desired = Desired(["w0", "w1"], 0, lambda names: {name: costs.get(name, 0.1) for name in names})
    desired.put(*cameras(*costs))
    costs |= {name: 1.25 if worker == "w0" else 0.75 for name, worker in desired.placement.items()}
    return desired


def one_of(desired: Desired, worker: str) -> str:
    return next(name for name, placed in desired.placement.items() if placed == worker)


def patch(desired: Desired, **changes: object) -> None:
    record = desired.record(one_of(desired, "w1"))
    desired.put(CameraRecord(record.config.model_copy(update=changes), record.origin))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(Desired.changed, id="another model"),
        pytest.param(lambda desired: patch(desired, sensitivity=0.9), id="a setting"),
        pytest.param(lambda desired: patch(desired, url=SecretStr("rtsp://h/y")), id="a connection"),
        pytest.param(lambda desired: patch(desired, enabled=False), id="a camera disabled"),
        pytest.param(lambda desired: desired.put(*cameras("new")), id="a camera added"),
        pytest.param(lambda desired: desired.remove(one_of(desired, "w1")), id="a camera removed"),
    ],
)
def test_cameras_that_a_change_does_not_concern_stay(change):
    desired = uneven()
    before, revision = desired.placement, desired.revision
    change(desired)
    moved = {name for name, worker in desired.placement.items() if before.get(name, worker) != worker}
    assert (moved, desired.revision) == (set(), revision + 1)


def test_a_camera_that_is_added_goes_to_the_worker_with_the_most_room():
    desired = uneven()
    desired.put(*cameras("new"))
    assert desired.placement["new"] == "w1"


def test_a_camera_that_is_disabled_has_no_worker_until_it_is_enabled_again():
    desired = Desired(["w0"], 0)
    desired.put(*cameras("a"))
    (record,) = cameras("a")
    desired.put(CameraRecord(record.config.model_copy(update={"enabled": False}), record.origin))
    disabled = dict(desired.placement)
    desired.put(record)
    assert (disabled, desired.placement) == ({}, {"a": "w0"})


# --- costs ---------------------------------------------------------------------------------------------------------


def learnt(*reports: tuple[float, WorkerReport]) -> CameraCosts:
    costs = CameraCosts()
    for at_s, one in reports:
        costs.take(one, at_s)
    return costs


def test_a_camera_costs_what_is_decoded_and_analysed():
    costs = learnt((0.0, report(cameras=[("a", 0, 0)])), (10.0, report(cameras=[("a", 150, 50)])))
    assert costs.of(["a"])["a"] == pytest.approx(15 * 1.7 + 5 * 1.7)


def test_decoding_goes_with_the_pixels():
    large = {"cameras": [("a", 0, 0)], "width": 1280, "height": 960}
    costs = learnt((0.0, report(**large)), (10.0, report(**large | {"cameras": [("a", 100, 0)]})))
    assert costs.of(["a"])["a"] == pytest.approx(10 * 4 * 1.7)


def test_a_camera_that_is_not_known_costs_what_most_do():
    costs = learnt((0.0, report(cameras=[("a", 0, 0)])), (10.0, report(cameras=[("a", 100, 0)])))
    assert costs.of(["a", "new"])["new"] == costs.of(["a"])["a"]


def test_a_camera_that_is_away_keeps_its_cost():
    said = [(0.0, ("a", 0, 0)), (10.0, ("a", 100, 0)), (300.0, ("a", 100, 0))]
    costs = learnt(*((at_s, report(cameras=[camera])) for at_s, camera in said))
    assert costs.of(["a"])["a"] == pytest.approx(17.0)


def test_another_incarnation_counts_from_zero():
    costs = learnt(
        (0.0, report(cameras=[("a", 1000, 0)])),
        (10.0, report(epoch="two", cameras=[("a", 10, 0)])),
        (20.0, report(epoch="two", cameras=[("a", 110, 0)])),
    )
    assert costs.of(["a"])["a"] == pytest.approx(17.0)


def test_what_is_learnt_moves_slowly():
    said = [(0.0, 0), (10.0, 100), (20.0, 1100)]
    costs = learnt(*((at_s, report(cameras=[("a", decoded, 0)])) for at_s, decoded in said))
    assert 17.0 < costs.of(["a"])["a"] < 50.0
