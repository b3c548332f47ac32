"""Several teachers, against values worked out by hand."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch.autograd import gradcheck

from streamkd.distill.objectives.multi_teacher import (
    confidence_weights,
    ensemble_logits,
    entropy_weights,
    learn_weights,
)

LN3 = math.log(3.0)
TWO = torch.tensor([[[LN3, 0.0]], [[0.0, LN3]]])  # (3/4, 1/4) and (1/4, 3/4)


def test_a_weighted_mean_of_probabilities():
    # 0.8 * 3/4 + 0.2 * 1/4
    assert ensemble_logits(TWO, torch.tensor([0.8, 0.2])).exp()[0].tolist() == pytest.approx([0.65, 0.35])


def test_weights_of_each_row():
    members = TWO.expand(2, 2, 2)
    found = ensemble_logits(members, torch.tensor([[1.0, 0.0], [0.0, 1.0]])).exp()
    assert found[:, 0].tolist() == pytest.approx([0.75, 0.25])


def test_the_better_teacher_is_learnt():
    good, bad = torch.tensor([[4.0, 0.0], [0.0, 4.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    weights = learn_weights(torch.stack([good, bad]), torch.tensor([0, 1]))
    assert weights[0].item() > 0.9
    assert weights.sum().item() == pytest.approx(1.0)


def test_equal_teachers_get_equal_weights():
    members = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(0)).expand(3, 5, 3)
    assert learn_weights(members, torch.tensor([0, 1, 2, 0, 1])).tolist() == pytest.approx([1 / 3] * 3, abs=1e-5)


def test_without_clips_nothing_is_learnt():
    with pytest.raises(ValueError, match="labelled"):
        learn_weights(torch.zeros(2, 0, 3), torch.zeros(0, dtype=torch.int64))


def test_entropy_weights():
    # a certain teacher (entropy 0) against a uniform one (ln 2): 1 and 1/2, so 2/3 and 1/3
    members = torch.tensor([[[200.0, 0.0]], [[0.0, 0.0]]])
    assert entropy_weights(members)[:, 0].tolist() == pytest.approx([2 / 3, 1 / 3], abs=1e-6)


def test_confidence_weights():
    # cross entropies ln(4/3) and ln 4: softmax gives (4/3, 4) / (16/3) = (1/4, 3/4); one minus that, K - 1 = 1
    assert confidence_weights(TWO, torch.tensor([0]))[:, 0].tolist() == pytest.approx([0.75, 0.25])


def test_a_lone_teacher_counts_fully():
    assert confidence_weights(TWO[:1], torch.tensor([1])).tolist() == [[1.0]]


def test_gradients():
    members = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda m: ensemble_logits(m, entropy_weights(m)), members)
