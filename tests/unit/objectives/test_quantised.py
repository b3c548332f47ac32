"""Quantisation-aware distillation."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch.autograd import gradcheck

from streamkd.distill.objectives.quantised import (
    apprentice,
    fake_quantise,
    observed_range,
)
from streamkd.distill.objectives.response import response_kd


def test_two_bits_by_hand():
    # 0 to 3 in steps of 1
    x = torch.tensor([-1.0, 0.4, 0.6, 2.4, 9.0])
    assert fake_quantise(x, torch.tensor(0.0), torch.tensor(3.0), 2).tolist() == [0.0, 0.0, 1.0, 2.0, 3.0]


def test_zero_stays_zero():
    assert fake_quantise(torch.zeros(1), torch.tensor(-0.37), torch.tensor(1.13)).item() == 0.0


def test_eight_bits_are_off_by_half_a_step_at_most():
    x = torch.linspace(-1.0, 2.0, 1001)
    gap = (fake_quantise(x, torch.tensor(-1.0), torch.tensor(2.0)) - x).abs().max().item()
    assert gap <= 3.0 / 255 + 1e-6  # the zero point is rounded as well: half a step more at the ends


def test_a_channel_that_never_changes_does_not_divide_by_zero():
    low, high = observed_range(torch.zeros(4, 2))
    assert fake_quantise(torch.zeros(4, 2), low, high).tolist() == torch.zeros(4, 2).tolist()


def test_the_gradient_passes_inside_the_range_and_stops_outside():
    x = torch.tensor([0.4, 9.0], requires_grad=True)
    fake_quantise(x, torch.tensor(0.0), torch.tensor(3.0), 2).sum().backward()
    assert x.grad.tolist() == [1.0, 0.0]


def test_apprentice_is_the_mean_of_two_distances():
    quantised, full, teacher = (torch.tensor([[a, 0.0]]) for a in (0.0, 1.0, 2.0))
    expected = 0.25 * response_kd(quantised, teacher, 2.0) + 0.75 * response_kd(quantised, full, 2.0)
    found = apprentice(quantised, full, teacher, temperature=2.0, share=0.25)
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)


def test_no_gradient_reaches_the_float_student():
    full = torch.tensor([[1.0, 0.0]], requires_grad=True)
    apprentice(torch.zeros(1, 2, requires_grad=True), full, torch.ones(1, 2), temperature=1.0).sum().backward()
    assert full.grad is None


def test_gradients():
    generator = torch.Generator().manual_seed(0)
    quantised, full, teacher = (torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    assert gradcheck(lambda q: apprentice(q, full, teacher, temperature=2.0), quantised.requires_grad_())
    assert math.isfinite(apprentice(quantised, full, teacher, temperature=1e6).sum().item())
