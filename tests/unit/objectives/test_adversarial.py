"""Adversaries: discriminator and attacked inputs."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch.autograd import gradcheck

from streamkd.distill.objectives.adversarial import (
    Discriminator,
    discriminator_loss,
    pgd,
    reverse_gradient,
)


def test_discriminator_loss():
    # D(teacher) = 3/4, D(student) = 1/4: -2 ln(3/4)
    teacher, student = torch.tensor([math.log(3.0)]), torch.tensor([-math.log(3.0)])
    assert discriminator_loss(teacher, student).item() == pytest.approx(-2 * math.log(0.75), abs=1e-6)


def test_a_reversed_gradient():
    x = torch.tensor([2.0], requires_grad=True)
    (3.0 * reverse_gradient(x, 0.5)).backward()
    assert x.grad.item() == -1.5


def test_a_discriminator_learns_to_tell_two_clouds_apart():
    torch.manual_seed(0)
    real, fake, judge = torch.randn(64, 3) + 2.0, torch.randn(64, 3) - 2.0, Discriminator(3)
    optimizer = torch.optim.Adam(judge.parameters(), lr=0.05)
    for _ in range(30):
        optimizer.zero_grad()
        discriminator_loss(judge(real), judge(fake)).mean().backward()
        optimizer.step()
    assert discriminator_loss(judge(real), judge(fake)).mean().item() < 0.1


def test_one_step_goes_along_the_sign():
    x = torch.tensor([[1.0, -1.0]])
    assert pgd(x, lambda v: (v * torch.tensor([2.0, -3.0])).sum(), 0.1, steps=1)[0].tolist() == pytest.approx(
        [1.1, -1.1]
    )
    assert x.tolist() == [[1.0, -1.0]]


def test_pgd_stays_in_its_box():
    x = torch.zeros(1, 3)
    found = pgd(x, lambda v: (v - 10.0).square().sum(), 0.2, steps=10)
    assert found.abs().max().item() == pytest.approx(0.2)


def test_pgd_misleads_at_least_as_far_as_one_step():
    def loss(v):
        return (torch.sin(7.0 * v)).sum()

    x = torch.tensor([[0.1, 0.3]])
    assert loss(pgd(x, loss, 0.2, steps=8)) >= loss(pgd(x, loss, 0.2, steps=1))


def test_an_attack_leaves_no_gradient_behind():
    weight = torch.ones(2, requires_grad=True)
    pgd(torch.zeros(1, 2), lambda v: (v * weight).sum(), 0.1)
    assert weight.grad is None


def test_gradients():
    a, b = torch.tensor([0.3, -0.8], dtype=torch.float64), torch.tensor([1.1, 0.2], dtype=torch.float64)
    assert gradcheck(discriminator_loss, (a.requires_grad_(), b.requires_grad_()))
