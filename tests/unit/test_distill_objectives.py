"""Objectives against values worked out by hand."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from streamkd.distill.job import interpolate, trusted_targets
from streamkd.distill.objectives.logits import logit_matching
from streamkd.distill.objectives.response import blended_kd, response_kd, soft_cross_entropy

LN3 = math.log(3.0)


def test_response_kd_at_temperature_one():
    # teacher softmax([ln 3, 0]) = (3/4, 1/4), student (1/2, 1/2): 3/4 ln(3/2) + 1/4 ln(1/2)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    found = response_kd(torch.tensor([[0.0, 0.0]]), torch.tensor([[LN3, 0.0]]), 1.0)
    assert found.tolist() == pytest.approx([expected], abs=1e-6)


def test_response_kd_scales_with_temperature_squared():
    # at T = 2, logits [2 ln 3, 0] become [ln 3, 0]: the same distributions as above, times 4
    expected = 4.0 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    found = response_kd(torch.tensor([[0.0, 0.0]]), torch.tensor([[2 * LN3, 0.0]]), 2.0)
    assert found.tolist() == pytest.approx([expected], abs=1e-6)


def test_response_kd_of_equal_logits_is_zero():
    logits = torch.tensor([[1.0, -2.0, 0.5]])
    assert response_kd(logits, logits + 7.0, 3.0).item() == pytest.approx(0.0, abs=1e-6)


def test_response_kd_gradient_is_t_times_the_difference_of_softmaxes():
    # d/ds [T^2 KL] = T (softmax(s/T) - softmax(t/T)); here 2 * (1/2 - 3/4) for the first class
    student = torch.zeros(1, 2, requires_grad=True)
    response_kd(student, torch.tensor([[2 * LN3, 0.0]]), 2.0).sum().backward()
    assert student.grad is not None
    assert student.grad[0].tolist() == pytest.approx([-0.5, 0.5], abs=1e-6)


def test_soft_cross_entropy():
    # student (3/4, 1/4), target (0.9, 0.1)
    expected = -(0.9 * math.log(0.75) + 0.1 * math.log(0.25))
    found = soft_cross_entropy(torch.tensor([[LN3, 0.0]]), torch.tensor([[0.9, 0.1]]))
    assert found.tolist() == pytest.approx([expected], abs=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_blended_kd_is_the_weighted_sum(alpha):
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[LN3, 0.0]])
    kd = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    found = blended_kd(student, teacher, torch.tensor([[1.0, 0.0]]), temperature=1.0, alpha=alpha)
    assert found.item() == pytest.approx(alpha * kd + (1 - alpha) * math.log(2.0), abs=1e-6)


def test_logit_matching():
    # differences (1, -2): 0.5 * (1 + 4)
    found = logit_matching(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]), 0.5, centred=False)
    assert found.tolist() == pytest.approx([2.5])


def test_logit_matching_ignores_a_constant_when_centred():
    # differences (3, 0) minus their mean 1.5: 2 * 1.5^2
    found = logit_matching(torch.tensor([[3.0, 0.0], [9.0, 9.0]]), torch.zeros(2, 2))
    assert found.tolist() == pytest.approx([4.5, 0.0])


def test_trusted_targets_by_hand_with_weights() -> None:
    """Members 2 and -2 at weights 3/4 and 1/4: mean 1; variance (3/4 + 9/4) / (1 - 10/16) = 8; w = 1 / (1 + 8)."""
    members = torch.tensor([[[-2.0, 2.0]], [[2.0, -2.0]]])
    target = trusted_targets(members, torch.zeros(1, 2), torch.tensor([3.0, 1.0]))
    assert torch.allclose(target, torch.tensor([[-1.0, 1.0]]) / 9, atol=1e-6)


def test_trusted_targets_by_hand() -> None:
    # Two members at log-odds 4 and 2 (centred logits ±2 and ±1), the parent at 0: d² = 1.5², s² = 0.5.
    members = torch.tensor([[[-2.0, 2.0]], [[-1.0, 1.0]]])
    target = trusted_targets(members, torch.zeros(1, 2))
    expected = 1.5 * 2.25 / (2.25 + 0.5)
    assert torch.allclose(target, torch.tensor([[-expected, expected]]), atol=1e-5)


def test_a_lone_teacher_is_trusted_and_a_common_shift_means_nothing() -> None:
    members = torch.tensor([[[4.0, 8.0]]])
    assert torch.allclose(trusted_targets(members, torch.tensor([[7.0, 7.0]])), torch.tensor([[-2.0, 2.0]]), atol=1e-5)


def test_interpolated_weights_by_hand() -> None:
    trained = {"w": torch.tensor([2.0, 4.0]), "n": torch.tensor(3)}
    parent = {"w": torch.tensor([0.0, 0.0]), "n": torch.tensor(1)}
    between = interpolate(trained, parent, 0.25)
    assert between["w"].tolist() == [1.5, 3.0]
    assert between["n"].item() == 3
