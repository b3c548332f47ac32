"""One clip or a few of each class."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch.autograd import gradcheck

from streamkd.distill.objectives.few_shot import pick_shots, prototype_logits, prototypes, statistics_match


def test_prototypes_are_class_means():
    found = prototypes(torch.tensor([[0.0], [2.0], [5.0]]), torch.tensor([0, 0, 1]), 3)
    assert found[:2, 0].tolist() == [1.0, 5.0]
    assert math.isnan(found[2, 0])


def test_prototype_logits():
    # squared distances (1 + 1) / 2 and (0 + 16) / 2; no example of the third
    centres = torch.tensor([[1.0, 1.0], [0.0, 4.0], [math.nan, math.nan]])
    assert prototype_logits(torch.zeros(1, 2), centres)[0].tolist() == [-1.0, -8.0, -math.inf]


def test_statistics():
    # channel means 1 and 3, deviations 1 and 0: 4 + 1
    student, teacher = torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [3.0], [3.0]])
    assert statistics_match(student, teacher).item() == pytest.approx(5.0, abs=5e-3)


def test_statistics_of_one_clip_are_its_mean():
    assert statistics_match(torch.tensor([[1.0]]), torch.tensor([[3.0], [5.0]])).item() == 9.0


def test_shots_are_drawn_per_class_and_from_the_labelled():
    labels = [0, 0, 0, 1, 1, -1, -1]
    chosen = pick_shots(labels, 2, torch.Generator().manual_seed(0))
    assert [labels[i] for i in chosen] == [0, 0, 1, 1]
    assert chosen == pick_shots(labels, 2, torch.Generator().manual_seed(0))


def test_a_class_with_fewer_examples_gives_all():
    assert pick_shots([0, 1, 1], 5, torch.Generator()) == [0, 1, 2]


def test_gradients_where_a_class_is_missing():
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0, 1])
    assert gradcheck(lambda v: prototype_logits(v, prototypes(v, labels, 3))[:, :2], x)


def test_gradients_of_the_statistics():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(n, 2, generator=generator, dtype=torch.float64) for n in (4, 3))
    assert gradcheck(statistics_match, (student.requires_grad_(), teacher.requires_grad_()))
