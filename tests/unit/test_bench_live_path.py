"""The benchmarks of the live path, without a camera: what is waited for, what is counted, what the floor is."""

from __future__ import annotations

import pytest

from streamkd.bundle import read_bundle
from streamkd.media import bare
from streamkd.media.bare import BareCosts, read_bare
from streamkd_service.bench.waiting import wait_until
from streamkd_service.runtime.models import bundle_path
from tests.media import make_clip

SPEC = read_bundle(bundle_path("shipped")).spec


def test_waiting_ends_with_its_condition():
    answers = iter([False, False, True])
    assert wait_until(lambda: next(answers), 5.0, every_s=0.001)


def test_waiting_ends_with_its_time():
    assert not wait_until(lambda: False, 0.01, every_s=0.001)


# --- the floor -----------------------------------------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.mp4"
    make_clip(path, frames=30, fps=15)
    return str(path)


def test_the_floor_converts_what_is_due_and_no_more(clip):
    costs = BareCosts()
    read_bare(clip, costs, spec=SPEC, stopped=lambda: False)
    assert (costs.frames, costs.converted) == (30, 2 * SPEC.rate_hz)


def test_the_floor_converts_to_what_the_student_asks_for(clip, monkeypatch):
    asked = set()
    real = bare.to_view

    def seen(frame, size, *, keep_aspect, reformatter):
        asked.add((size, keep_aspect))
        return real(frame, size, keep_aspect=keep_aspect, reformatter=reformatter)

    monkeypatch.setattr(bare, "to_view", seen)
    read_bare(clip, BareCosts(), spec=SPEC, stopped=lambda: False)
    assert asked == {(SPEC.view_size, SPEC.keeps_aspect)}


@pytest.mark.parametrize("square", [False, True])
def test_the_square_is_measured_apart_and_only_where_it_is_asked_for(clip, square):
    costs = BareCosts()
    read_bare(clip, costs, spec=SPEC, stopped=lambda: False, square=square)
    assert (costs.square_s > 0) == square
