"""Sparse labels."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch.autograd import gradcheck

from streamkd.distill.objectives.response import response_kd
from streamkd.distill.objectives.sparse import densify, to_topk, topk_kd

TEACHER = torch.tensor([[math.log(4.0), math.log(3.0), 0.0]])  # (1/2, 3/8, 1/8)


def test_the_rest_is_one_class():
    # student uniform: 1/2 ln(3/2) + 1/2 ln((1/2) / (2/3))
    values, indices = to_topk(TEACHER, 1)
    expected = 0.5 * math.log(1.5) + 0.5 * math.log(0.75)
    assert topk_kd(torch.zeros(1, 3), values, indices).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("k", [3, 7])
def test_with_all_classes_it_is_response_distillation(k):
    student = torch.tensor([[0.4, -1.0, 2.0]])
    found = topk_kd(student, *to_topk(TEACHER, k))
    assert found.item() == pytest.approx(response_kd(student, TEACHER, 1.0).item(), abs=1e-6)


def test_equal_answers_are_zero():
    assert topk_kd(TEACHER + 5.0, *to_topk(TEACHER, 2)).item() == pytest.approx(0.0, abs=1e-6)


def test_a_teacher_without_doubt():
    found = topk_kd(torch.zeros(1, 3), *to_topk(torch.tensor([[500.0, 0.0, 0.0]]), 1))
    assert found.item() == pytest.approx(math.log(3.0), abs=1e-5)


def test_dense_again():
    values, indices = to_topk(TEACHER, 1)
    assert densify(values, indices, 3).exp()[0].tolist() == pytest.approx([0.5, 0.25, 0.25])


def test_gradients():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(3, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    assert gradcheck(lambda s: topk_kd(s, *to_topk(teacher, 2)), student.requires_grad_())
