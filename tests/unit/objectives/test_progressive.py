"""Progressive distillation."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from streamkd.distill.objectives.progressive import Assistant, progressive_targets, stage


@pytest.mark.parametrize(("done", "expected"), [(0.0, (0, 0.0)), (0.25, (0, 0.5)), (0.5, (1, 0.0)), (1.0, (1, 1.0))])
def test_stage(done, expected):
    assert stage(done, 2) == expected


@pytest.mark.parametrize(("done", "expected"), [(-1.0, 0.0), (0.25, 1.0), (0.5, 2.0), (0.75, 5.0), (2.0, 8.0)])
def test_the_target_goes_from_assistant_to_teacher(done, expected):
    chain = torch.tensor([[[0.0]], [[2.0]], [[8.0]]])
    assert progressive_targets(chain, done).item() == pytest.approx(expected)


def test_without_assistants_it_is_the_teacher():
    assert progressive_targets(torch.tensor([[[3.0]]]), 0.5).item() == 3.0


def test_an_assistant_gives_one_logit_a_class():
    assert Assistant(6, 4, 3)(torch.zeros(2, 6)).shape == (2, 3)
