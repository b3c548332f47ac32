"""Initialisation from the teacher."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from streamkd.distill.objectives.initialise import change_units, matching_weights, select_elements, spread


@pytest.mark.parametrize(
    ("count", "available", "expected"), [(1, 5, (0,)), (2, 5, (0, 4)), (3, 12, (0, 6, 11)), (4, 4, (0, 1, 2, 3))]
)
def test_spread(count, available, expected):
    assert spread(count, available) == expected


def test_more_than_there_is_can_not_be_chosen():
    with pytest.raises(ValueError, match="3 of 2"):
        spread(3, 2)


def test_elements_are_evenly_spaced_on_every_axis():
    x = torch.arange(9.0).reshape(3, 3)
    assert select_elements(x, (2, 2)).tolist() == [[0.0, 2.0], [6.0, 8.0]]


def test_a_layer_says_the_same_in_other_units():
    """By hand: 2 (7 - 1) / 3 + 4 (5 - 1) / 2 - 3 = 9."""
    weight, bias = torch.tensor([[2.0, 4.0]]), torch.tensor([-3.0])
    scaled, moved = change_units(weight, bias, torch.tensor([1.0, 1.0]), torch.tensor([3.0, 2.0]))
    assert float(scaled @ torch.tensor([7.0, 5.0]) + moved) == pytest.approx(9.0)


def test_what_matches_is_copied_and_what_is_larger_is_shrunk():
    student = {
        "a": torch.zeros(2),
        "b": torch.zeros(2),
        "c": torch.zeros(3),
        "d": torch.zeros(2, 2),
        "e": torch.zeros(1),
    }
    teacher = {"a": torch.ones(2), "b": torch.tensor([1.0, 2.0, 3.0]), "c": torch.ones(2), "d": torch.ones(4)}
    found = matching_weights(student, teacher)
    assert {name: one.tolist() for name, one in found.items()} == {"a": [1.0, 1.0], "b": [1.0, 3.0]}


def test_without_shrinking_only_equal_shapes_count():
    assert not matching_weights({"b": torch.zeros(2)}, {"b": torch.ones(3)}, shrink=False)


def test_a_copy_is_not_the_teachers_own_tensor():
    teacher = {"a": torch.ones(2)}
    matching_weights({"a": torch.zeros(2)}, teacher)["a"].zero_()
    assert teacher["a"].tolist() == [1.0, 1.0]
