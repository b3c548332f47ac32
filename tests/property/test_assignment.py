"""Placement of cameras on workers: balanced by cost, complete and stable, whatever came before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamkd_service.runtime.assignment import SLACK, imbalance, place

NAMES = st.text("abcdef", min_size=1, max_size=3)
COSTS = st.dictionaries(NAMES, st.floats(0.1, 20), max_size=40)
EQUAL = st.dictionaries(NAMES, st.just(1.0), max_size=40)
WORKERS = st.dictionaries(st.text("wxyz", min_size=1, max_size=2), st.floats(0.5, 8), min_size=1, max_size=6)
SAME = st.dictionaries(st.text("wxyz", min_size=1, max_size=2), st.just(1.0), min_size=1, max_size=6)
PREVIOUS = st.dictionaries(NAMES, st.text("wxyz", min_size=1, max_size=2))


def loads(costs, workers, placed):
    return {worker: sum(costs[name] for name in costs if placed[name] == worker) for worker in workers}


@given(COSTS, WORKERS, PREVIOUS)
def test_every_camera_is_placed_once_on_a_worker_that_exists(costs, workers, previous):
    placed = place(costs, workers, previous)
    assert set(placed) == set(costs)
    assert set(placed.values()) <= set(workers)


@given(COSTS, SAME, PREVIOUS)
def test_no_worker_has_more_than_its_share_slack_and_one_camera(costs, workers, previous):
    held = loads(costs, workers, place(costs, workers, previous))
    share = sum(costs.values()) / len(workers)
    assert max(held.values()) <= (1 + SLACK) * share + max(costs.values(), default=0.0) + 1e-6


@given(COSTS, WORKERS)
def test_a_first_placement_is_as_good_as_the_rule_promises(costs, workers):
    held = loads(costs, workers, place(costs, workers, {}))
    share = sum(costs.values()) / sum(workers.values())
    for worker, load in held.items():
        assert load / workers[worker] <= share + max(costs.values(), default=0.0) / workers[worker] + 1e-6 or (
            load / workers[worker] <= (1 + SLACK) * share + 1e-6
        )


@given(EQUAL, SAME)
def test_equal_cameras_are_spread_evenly_at_first(costs, workers):
    held = loads(costs, workers, place(costs, workers, {}))
    assert max(held.values()) - min(held.values()) <= 1


@given(COSTS, WORKERS, PREVIOUS)
def test_placing_again_moves_nothing(costs, workers, previous):
    placed = place(costs, workers, previous)
    assert place(costs, workers, placed) == placed


@given(COSTS, WORKERS, PREVIOUS)
def test_moving_never_makes_the_fullest_fuller(costs, workers, previous):
    known = {name: worker for name, worker in previous.items() if name in costs and worker in workers}
    placed = place({name: costs[name] for name in known}, workers, known)
    before = imbalance({name: costs[name] for name in known}, workers, known)
    assert imbalance({name: costs[name] for name in known}, workers, placed) <= before + 1e-6


@given(EQUAL, SAME, st.data())
def test_when_a_worker_is_gone_its_cameras_move_and_hardly_any_other(costs, workers, data):
    placed = place(costs, workers, {})
    gone = data.draw(st.sampled_from(sorted(workers)))
    left = {worker: 1.0 for worker in workers if worker != gone}
    if not left:
        return
    again = place(costs, left, placed)
    moved = {name for name in costs if again[name] != placed[name]}
    assert moved == {name for name in costs if placed[name] == gone}


@given(EQUAL, SAME)
def test_a_worker_that_joins_is_used_and_only_it_gets_cameras(costs, workers):
    placed = place(costs, workers, {})
    again = place(costs, workers | {"new": 1.0}, placed)
    moved = [name for name in costs if again[name] != placed[name]]
    assert all(again[name] == "new" for name in moved)
    share = len(costs) / (len(workers) + 1)
    assert len(moved) <= share + 1
    assert moved or share <= 1.0


@given(EQUAL, SAME, PREVIOUS)
def test_no_more_cameras_move_than_even_shares_need(costs, workers, previous):
    placed = place(costs, workers, previous)
    stayed = sum(placed[name] == previous.get(name) for name in costs)
    held = sorted((sum(previous.get(name) == worker for name in costs) for worker in workers), reverse=True)
    share, extra = divmod(len(costs), len(workers))
    assert stayed >= sum(min(load, share + (index < extra)) for index, load in enumerate(held))
