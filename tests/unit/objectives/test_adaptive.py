"""Adaptive weighting, against values worked out by hand."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch.autograd import gradcheck

from streamkd.distill.objectives.adaptive import agreement, annealed_match, conditional_targets, confidence

LN3 = math.log(3.0)


def test_confidence():
    # entropy of (3/4, 1/4) over ln 2
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2.0)
    found = confidence(torch.tensor([[LN3, 0.0], [0.0, 0.0], [200.0, 0.0]]))
    assert found.tolist() == pytest.approx([1 - entropy, 0.0, 1.0], abs=1e-6)


def test_agreement():
    logits = torch.tensor([[LN3, 0.0], [LN3, 0.0]])
    assert agreement(logits, torch.tensor([0, 1])).tolist() == pytest.approx([0.75, 0.25])


def test_where_the_teacher_is_wrong_the_label_is_taught():
    found = conditional_targets(torch.tensor([[LN3, 0.0], [LN3, 0.0]]), torch.tensor([0, 1]))
    assert found.flatten().tolist() == pytest.approx([0.75, 0.25, 0.0, 1.0])


def test_a_label_in_the_teacher_s_place_is_softened():
    found = conditional_targets(torch.tensor([[LN3, 0.0]]), torch.tensor([1]), smoothing=0.2)
    assert found[0].tolist() == pytest.approx([0.1, 0.9])


@pytest.mark.parametrize(("done", "factor"), [(0.0, 0.1), (0.5, 0.6), (0.9, 1.0), (1.0, 1.0), (3.0, 1.0)])
def test_the_target_grows(done, factor):
    # student 0, teacher (2, 0): (2 factor)^2
    found = annealed_match(torch.zeros(1, 2), torch.tensor([[2.0, 0.0]]), done, steps=10)
    assert found.item() == pytest.approx((2 * factor) ** 2, abs=1e-5)


def test_gradients():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    assert gradcheck(lambda s, t: annealed_match(s, t, 0.3), (student.requires_grad_(), teacher.requires_grad_()))
    assert gradcheck(confidence, teacher)
