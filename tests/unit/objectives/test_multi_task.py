"""Uncertainty weighting of tasks."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch.autograd import gradcheck

from streamkd.distill.objectives.multi_task import TaskWeights, uncertainty_weighted


def test_by_hand():
    # s = (ln 2, 0): 4 / 2 + ln 2 / 2, and half of 6
    found = uncertainty_weighted(
        torch.tensor([4.0, 6.0]), torch.tensor([math.log(2.0), 0.0]), torch.tensor([False, True])
    )
    assert found.item() == pytest.approx(2.0 + math.log(2.0) / 2 + 3.0)


def test_the_optimal_variance():
    # d/ds [L exp(-s) + s / 2] = 0 at s = ln 2L
    loss, s = torch.tensor([3.0]), torch.tensor([math.log(6.0)], requires_grad=True)
    uncertainty_weighted(loss, s, torch.tensor([False])).backward()
    assert s.grad.item() == pytest.approx(0.0, abs=1e-6)


def test_a_task_that_a_step_lacks_costs_nothing():
    weights = TaskWeights(("action", "motion"), frozenset({"motion"}))
    torch.nn.init.constant_(weights.log_variances, 1.0)
    assert weights({"action": torch.tensor(0.0)}).item() == pytest.approx(0.5)
    assert weights({}).item() == 0.0


def test_gradients():
    losses = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    s = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda a, b: uncertainty_weighted(a, b, torch.tensor([True, False])), (losses, s))
