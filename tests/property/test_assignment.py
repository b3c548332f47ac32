"""Placement of cameras on workers: even, complete and stable, whatever came before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamkd_service.runtime.assignment import place

CAMERAS = st.lists(st.text("abcdef", min_size=1, max_size=3), unique=True, max_size=30)
WORKERS = st.lists(st.text("wxyz", min_size=1, max_size=2), unique=True, min_size=1, max_size=6)
PREVIOUS = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.text("wxyz", min_size=1, max_size=2))


@given(CAMERAS, WORKERS, PREVIOUS)
def test_every_camera_is_placed_once_on_a_worker_that_exists(cameras, workers, previous):
    placed = place(cameras, workers, previous)
    assert set(placed) == set(cameras)
    assert set(placed.values()) <= set(workers)


@given(CAMERAS, WORKERS, PREVIOUS)
def test_no_worker_has_more_than_one_camera_more_than_another(cameras, workers, previous):
    placed = list(place(cameras, workers, previous).values())
    loads = [placed.count(worker) for worker in workers]
    assert max(loads) - min(loads) <= 1


@given(CAMERAS, WORKERS, PREVIOUS)
def test_placing_again_moves_nothing(cameras, workers, previous):
    placed = place(cameras, workers, previous)
    assert place(cameras, workers, placed) == placed


@given(CAMERAS, WORKERS, PREVIOUS)
def test_no_more_cameras_move_than_balance_needs(cameras, workers, previous):
    placed = place(cameras, workers, previous)
    stayed = sum(placed[name] == previous.get(name) for name in cameras)
    held = sorted((sum(previous.get(name) == worker for name in cameras) for worker in workers), reverse=True)
    share, extra = divmod(len(cameras), len(workers))
    best = sum(min(load, share + (index < extra)) for index, load in enumerate(held))
    assert stayed == best
