"""Response distillation and logit matching: limits and gradients; hand values are in test_distill_objectives."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch.autograd import gradcheck

from streamkd.distill.objectives.logits import logit_matching
from streamkd.distill.objectives.response import response_kd

LN3 = math.log(3.0)


def doubles(*shape: int, seed: int = 0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_gradients_of_response_kd():
    assert gradcheck(lambda s, t: response_kd(s, t, 3.0), (doubles(4, 5).requires_grad_(), doubles(4, 5, seed=1)))


def test_gradients_of_logit_matching():
    assert gradcheck(lambda s: logit_matching(s, doubles(4, 5, seed=1), 0.3), doubles(4, 5).requires_grad_())


def test_response_kd_tends_to_logit_matching_as_t_grows():
    # Hinton et al., section 2.1: T^2 KL -> |z_S - z_T|^2 / (2 C) for centred logits
    student, teacher = doubles(3, 4), doubles(3, 4, seed=1)
    limit = logit_matching(student, teacher) / (2 * 4)
    assert torch.allclose(response_kd(student, teacher, 1e4), limit, rtol=1e-3)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_batch_of_one_or_none(rows):
    assert response_kd(torch.zeros(rows, 3), torch.ones(rows, 3), 2.0).shape == (rows,)


def test_a_certain_teacher_is_cross_entropy():
    found = response_kd(torch.tensor([[0.0, LN3]]), torch.tensor([[-200.0, 200.0]]), 1.0)
    assert found.item() == pytest.approx(-math.log(0.75), abs=1e-6)
