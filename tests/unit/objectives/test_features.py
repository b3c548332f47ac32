"""Feature matching against values worked out by hand."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch.autograd import gradcheck

from streamkd.distill.objectives.features import (
    Regressor,
    attention_map,
    attention_transfer,
    hint,
    similarity_preserving,
)


def doubles(*shape: int, seed: int = 0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_hint():
    # differences (1, -3): (1 + 9) / 2
    assert hint(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]])).tolist() == [5.0]


def test_the_regressor_reaches_the_teachers_width():
    assert Regressor(3, 7)(torch.zeros(2, 3)).shape == (2, 7)


def test_attention_map():
    # two channels, two positions: means of squares (9 + 9) / 2 = 9 and (16 + 8) / 2 = 12; length 15
    maps = torch.tensor([[[3.0, 4.0], [3.0, math.sqrt(8.0)]]])
    assert attention_map(maps)[0].tolist() == pytest.approx([9 / 15, 12 / 15])


def test_attention_transfer():
    # maps (1, 0) and (0, 1): (1 + 1) / 2
    student, teacher = torch.tensor([[[2.0, 0.0]]]), torch.tensor([[[0.0, 5.0], [0.0, 1.0]]])
    assert attention_transfer(student, teacher).tolist() == pytest.approx([1.0])


def test_attention_transfer_knows_no_scale():
    maps = doubles(2, 3, 4, 4)
    assert attention_transfer(maps, 10.0 * maps).tolist() == pytest.approx([0.0, 0.0], abs=1e-12)


def test_similarity_preserving():
    # Gram rows: student (1, 0), (0, 1); teacher (1, 1) / sqrt 2 twice. Entries differ by 1 - 1/sqrt 2 or 1/sqrt 2.
    student, teacher = torch.eye(2), torch.tensor([[1.0], [1.0]])
    near, far = (1 - 1 / math.sqrt(2)) ** 2, 0.5
    assert similarity_preserving(student, teacher).item() == pytest.approx((2 * near + 2 * far) / 4, abs=1e-6)


def test_similarity_of_a_batch_of_one_is_zero():
    assert similarity_preserving(torch.rand(1, 3), torch.rand(1, 5)).item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("loss", [hint, attention_transfer, similarity_preserving])
def test_gradients(loss):
    teacher = doubles(3, 4, 2, seed=1)
    assert gradcheck(lambda s: loss(s, teacher), doubles(3, 4, 2).requires_grad_())


@pytest.mark.parametrize("loss", [hint, attention_transfer, similarity_preserving])
def test_equal_features_are_zero(loss):
    x = doubles(3, 4, 2)
    assert loss(x, x.clone()).abs().max().item() == pytest.approx(0.0, abs=1e-12)
