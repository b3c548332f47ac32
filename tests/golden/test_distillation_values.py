"""The library's losses give the values of the published formulas, with the conventions of two public collections."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from streamkd.distill.objectives.classes import dist
from streamkd.distill.objectives.decoupled import decoupled_kd
from streamkd.distill.objectives.features import attention_transfer, hint, similarity_preserving
from streamkd.distill.objectives.response import response_kd, soft_cross_entropy
from tests.golden import distillation_reference

RECORDED: dict[str, float] = json.loads((Path(__file__).parent / "distillation.json").read_text(encoding="utf-8"))
T = {name: torch.from_numpy(value) for name, value in distillation_reference.tensors().items()}


def _with_labels() -> torch.Tensor:
    hard = soft_cross_entropy(T["student"], torch.nn.functional.one_hot(T["labels"], 5).double())
    return 0.3 * hard.mean() + 0.7 * response_kd(T["student"], T["teacher"], 4.0).mean()


def _decoupled(temperature: float, alpha: float, beta: float) -> torch.Tensor:
    options = {"temperature": temperature, "alpha": alpha, "beta": beta}
    return decoupled_kd(T["student"], T["teacher"], T["labels"], **options).mean()


LOSSES = {
    "kd_t1": lambda: response_kd(T["student"], T["teacher"], 1.0).mean(),
    "kd_t4": lambda: response_kd(T["student"], T["teacher"], 4.0).mean(),
    "kd_t4_alpha0.3": _with_labels,
    "dkd_t4_a1_b8": lambda: _decoupled(4.0, 1.0, 8.0),
    "dkd_t1_a2_b0.5": lambda: _decoupled(1.0, 2.0, 0.5),
    "fitnet": lambda: hint(T["regressed"], T["maps_teacher"]).mean(),
    "at": lambda: attention_transfer(T["maps_student"], T["maps_teacher"]).mean(),
    "sp": lambda: similarity_preserving(T["maps_student"], T["maps_teacher"]),
    "sp_order1": lambda: similarity_preserving(T["maps_student"], T["maps_teacher"], order=1),
    "dist_t1": lambda: dist(T["student"], T["teacher"]),
    "dist_t2_b2_g0.5": lambda: dist(T["student"], T["teacher"], temperature=2.0, inter=2.0, intra=0.5),
}


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_the_value_is_the_recorded_one(name):
    assert LOSSES[name]().item() == pytest.approx(RECORDED[name], rel=1e-6)


def test_the_record_is_what_the_formulas_give():
    assert distillation_reference.values() == pytest.approx(RECORDED, rel=1e-9)
