"""Class-level distillation against values worked out by hand."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch.autograd import gradcheck

from streamkd.distill.objectives.classes import class_correlation, dist, pearson_distance


def doubles(*shape: int, seed: int = 0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_pearson_distance():
    # centred (-1, 0, 1) and (-1, 1, 0): 1 / 2
    found = pearson_distance(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 2.0, 1.0]))
    assert found.item() == pytest.approx(0.5)


def test_a_constant_row_has_no_correlation():
    assert pearson_distance(torch.ones(3), torch.tensor([1.0, 2.0, 3.0])).item() == 1.0


def test_dist_between_classes():
    # probabilities (1/4, 3/4) and (3/4, 1/4): opposite, 1 - (-1)
    student, teacher = torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([[math.log(3.0), 0.0]])
    assert dist(student, teacher, inter=1.0, intra=5.0).item() == pytest.approx(2.0, abs=1e-5)


def test_dist_between_clips():
    # of two classes, each column has correlation -1 over two clips: 1 - (-1), alone
    student = torch.tensor([[0.0, 1.0], [0.0, 2.0]])
    assert dist(student, student.flip(0), inter=0.0).item() == pytest.approx(2.0, abs=1e-5)


def test_dist_scales_with_temperature_squared():
    student, teacher = doubles(4, 3), doubles(4, 3, seed=1)
    assert torch.isclose(dist(2 * student, 2 * teacher, temperature=2.0), 4 * dist(student, teacher))


def test_dist_of_an_affine_copy_of_probabilities_is_zero():
    # p' = (p + 1/C) / 2 correlates perfectly
    p = doubles(4, 3).softmax(dim=-1)
    assert dist(p.log(), ((p + 1 / 3) / 2).log()).item() == pytest.approx(0.0, abs=1e-9)


def test_class_correlation():
    # P_S = I, P_T uniform: I - 1/2 of ones has squares 4 / 4; divided by 2 x 2
    student, teacher = 200.0 * torch.eye(2), torch.zeros(2, 2)
    assert class_correlation(student, teacher).item() == pytest.approx(1.0 / 4.0, abs=1e-6)


@pytest.mark.parametrize("loss", [dist, class_correlation])
def test_equal_logits_are_zero(loss):
    assert loss(doubles(4, 3), doubles(4, 3)).item() == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("loss", [dist, class_correlation])
@pytest.mark.parametrize("rows", [1, 4])
def test_gradients(loss, rows):
    teacher = doubles(rows, 3, seed=1)
    assert gradcheck(lambda s: loss(s, teacher), doubles(rows, 3).requires_grad_())
