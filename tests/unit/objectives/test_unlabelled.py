"""Unlabelled footage."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch.autograd import gradcheck

from streamkd.distill.objectives.unlabelled import consistency, pseudo_label_loss, sure

LN3 = math.log(3.0)
GUIDE = torch.tensor([[LN3, 0.0], [0.0, 0.1]])  # sure to 3/4, and hardly


def test_sure():
    assert sure(GUIDE, 0.7).tolist() == [True, False]


def test_pseudo_labels_where_the_guide_is_sure():
    found = pseudo_label_loss(torch.zeros(2, 2), GUIDE, 0.7)
    assert found.tolist() == pytest.approx([math.log(2.0), 0.0])


def test_consistency():
    # (1/2, 1/2) against (3/4, 1/4): 2 / 16
    assert consistency(torch.zeros(2, 2), GUIDE, 0.7).tolist() == pytest.approx([0.125, 0.0])


@pytest.mark.parametrize("loss", [pseudo_label_loss, consistency])
def test_no_gradient_reaches_the_guide(loss):
    guide = GUIDE.clone().requires_grad_()
    loss(torch.zeros(2, 2, requires_grad=True), guide, 0.0).sum().backward()
    assert guide.grad is None


@pytest.mark.parametrize("loss", [pseudo_label_loss, consistency])
def test_gradients(loss):
    student = torch.tensor([[0.3, -0.4], [0.1, 0.2]], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda s: loss(s, GUIDE.double(), 0.7), student)
