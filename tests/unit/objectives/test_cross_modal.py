"""Cross-modal distillation."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch.autograd import gradcheck

from streamkd.distill.objectives.cross_modal import Fusion, attention_fusion, cosine_distance

LN3 = math.log(3.0)


def test_attention_fusion_by_hand():
    # scores (ln 3, 0): weights (3/4, 1/4) of values 4 and 8
    query, keys = torch.tensor([[1.0]]), torch.tensor([[[LN3], [0.0]]])
    assert attention_fusion(query, keys, torch.tensor([[[4.0], [8.0]]])).item() == pytest.approx(5.0)


def test_the_scale_is_the_root_of_the_width():
    query, keys = torch.ones(1, 4), torch.tensor([[[LN3 / 2] * 4, [0.0] * 4]])  # 4 (ln 3 / 2) / 2
    assert attention_fusion(query, keys, torch.tensor([[[4.0], [8.0]]])).item() == pytest.approx(5.0)


def test_what_a_clip_lacks_counts_nothing():
    present = torch.tensor([[False, True], [False, False]])
    found = attention_fusion(torch.ones(2, 1), torch.ones(2, 2, 1), torch.tensor([[[4.0], [8.0]]] * 2), present)
    assert found[:, 0].tolist() == [8.0, 0.0]


def test_cosine_distance():
    a = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    b = torch.tensor([[5.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    assert cosine_distance(a, b).tolist() == pytest.approx([0.0, 1.0, 2.0])


def test_a_missing_sound_does_not_reach_the_fusion():
    torch.manual_seed(0)
    fusion = Fusion({"flow": 3, "audio": 2}, 4, 2)
    flow = torch.randn(2, 3)
    silent = fusion({"flow": flow, "audio": torch.full((2, 2), math.nan)})
    assert torch.isfinite(silent).all()
    assert not torch.allclose(silent, fusion({"flow": flow, "audio": torch.ones(2, 2)}))


def test_the_pupil_can_not_move_the_target():
    # the classifier's loss reaches the fusion; a distance to the detached feature must not
    torch.manual_seed(0)
    fusion = Fusion({"flow": 3}, 4, 2)
    cosine_distance(
        torch.randn(2, 4, requires_grad=True), fusion({"flow": torch.randn(2, 3)}).detach()
    ).sum().backward()
    assert all(parameter.grad is None for parameter in fusion.parameters())


def test_gradients():
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((2, 3), (2, 2, 3), (2, 2, 4))]
    assert gradcheck(attention_fusion, tuple(part.requires_grad_() for part in parts))
    assert gradcheck(cosine_distance, (parts[0], parts[0].detach() + 1.0))
