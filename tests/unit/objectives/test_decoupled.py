"""Decoupled distillation against values worked out by hand."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch.autograd import gradcheck

from streamkd.distill.objectives.decoupled import decoupled_kd
from streamkd.distill.objectives.response import response_kd

STUDENT = torch.zeros(1, 3)
TEACHER = torch.tensor([[math.log(4.0), math.log(3.0), 0.0]])  # (1/2, 3/8, 1/8)


def test_the_true_class_alone():
    # (1/2, 1/2) against (1/3, 2/3): 1/2 ln(3/2) + 1/2 ln(3/4)
    found = decoupled_kd(STUDENT, TEACHER, torch.tensor([0]), temperature=1.0, alpha=1.0, beta=0.0)
    assert found.item() == pytest.approx(0.5 * math.log(1.5) + 0.5 * math.log(0.75), abs=1e-6)


def test_the_other_classes_alone():
    # (3/4, 1/4) against (1/2, 1/2)
    found = decoupled_kd(STUDENT, TEACHER, torch.tensor([0]), temperature=1.0, alpha=0.0, beta=2.0)
    assert found.item() == pytest.approx(2 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)), abs=1e-6)


def test_temperature_squared():
    found = decoupled_kd(STUDENT, 2 * TEACHER, torch.tensor([0]), temperature=2.0, alpha=1.0, beta=0.0)
    assert found.item() == pytest.approx(4 * (0.5 * math.log(1.5) + 0.5 * math.log(0.75)), abs=1e-6)


def test_its_parts_add_up_to_plain_distillation():
    # equation 5 of the paper: KD = TCKD + (1 - p_label) NCKD
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(6, 5, generator=generator), torch.randn(6, 5, generator=generator)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    at = {"temperature": 1.0}
    true = decoupled_kd(student, teacher, labels, alpha=1.0, beta=0.0, **at)
    others = decoupled_kd(student, teacher, labels, alpha=0.0, beta=1.0, **at)
    left = 1.0 - teacher.softmax(dim=-1)[torch.arange(6), labels]
    assert torch.allclose(true + left * others, response_kd(student, teacher, 1.0), atol=1e-6)


def test_with_two_classes_it_is_plain_distillation():
    student, teacher = torch.tensor([[0.3, -0.2]]), torch.tensor([[-1.0, 1.5]])
    found = decoupled_kd(student, teacher, torch.tensor([1]), temperature=2.0, alpha=1.0, beta=8.0)
    assert found.item() == pytest.approx(response_kd(student, teacher, 2.0).item(), abs=1e-6)


def test_equal_logits_are_zero():
    assert decoupled_kd(TEACHER, TEACHER + 3.0, torch.tensor([1]), temperature=4.0).item() == pytest.approx(0, abs=1e-6)


def test_gradients():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.tensor([0, 2, 3])
    assert gradcheck(lambda s: decoupled_kd(s, teacher, labels, temperature=2.0), student.requires_grad_())
