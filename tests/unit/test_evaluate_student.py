"""What a student costs, and where it looks."""

from __future__ import annotations

import numpy as np
import pytest

from streamkd.errors import InputError
from streamkd.models.student import Student, student_spec

torch = pytest.importorskip("torch", reason="needs the train extra")

from streamkd.evaluate.cost import MAX_MACS, MAX_PARAMETERS, StudentCost, student_cost
from streamkd.evaluate.explain import draw, explain_clip


@pytest.fixture(scope="module")
def student() -> Student:
    torch.manual_seed(0)
    return Student(student_spec("test", ("normal", "fight"))).eval()


@pytest.fixture
def clip() -> np.ndarray:
    """A still picture in which only the lower right corner moves."""
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(0, 256, (1, 160, 160, 3), dtype=np.uint8), 7, axis=0)
    frames[:, 96:, 96:] = rng.integers(0, 256, (7, 64, 64, 3), dtype=np.uint8)
    return frames


def test_the_student_is_as_small_as_promised(student):
    cost = student_cost(student)
    assert cost.within_goal
    assert 3_000_000 < cost.parameters <= MAX_PARAMETERS
    assert 150_000_000 < cost.macs <= MAX_MACS


@pytest.mark.parametrize("cost", [StudentCost(MAX_PARAMETERS + 1, 0), StudentCost(0, MAX_MACS + 1)])
def test_too_much_of_either_misses_the_goal(cost):
    assert not cost.within_goal


def test_the_map_lies_where_something_moves(student, clip):
    found = explain_clip(student, clip, label="fight", keys=2)
    inside = found.maps[:, 80:, 80:].sum()
    assert inside > 0.8 * found.maps.sum() > 0
    assert found.maps.max() == pytest.approx(1.0)


def test_key_frames_come_after_warm_up_in_order_of_time(student, clip):
    found = explain_clip(student, clip)
    assert found.label == "fight"
    assert list(found.frames) == sorted(found.frames)
    assert min(found.frames) >= student.spec.warmup_frames


def test_a_clip_of_one_frame_is_explained_too(student, clip):
    assert explain_clip(student, clip[:1]).frames == (0,)


def test_a_class_that_the_student_does_not_know_is_refused(student, clip):
    with pytest.raises(InputError, match="no class 'fall'"):
        explain_clip(student, clip, label="fall")


def test_the_sheet_shows_each_key_frame_plain_and_with_its_map(student, clip):
    found = explain_clip(student, clip, keys=3)
    sheet = draw(found, clip, student.spec.rate_hz)
    assert sheet.width % 3 == 0
    width = sheet.width // 3
    plain, mapped = np.asarray(sheet)[18 : 18 + width], np.asarray(sheet)[18 + width :]
    assert np.abs(plain.astype(int) - mapped).mean() > 0.1
