"""Recipes: what they say, and what is told about wrong ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch")

from streamkd.distill.recipe import Recipe, Schedule, find_recipe, load_recipe, plain, shipped_recipes
from streamkd.distill.terms import REGISTRY
from streamkd.errors import ConfigError

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "distillation.md"


def written(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def wrong(tmp_path, text) -> str:
    with pytest.raises(ConfigError) as caught:
        load_recipe(written(tmp_path, text))
    return caught.value.message


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_shipped_recipes_are_valid(name):
    assert find_recipe(name).name == name


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_objective_is_in_the_reference(name):
    assert f"`{name}`" in REFERENCE.read_text(encoding="utf-8")


def test_the_example_of_the_reference_is_valid(tmp_path):
    blocks = re.findall(r"```yaml\n(.*?)```", REFERENCE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert load_recipe(written(tmp_path, blocks[0])).objectives


@pytest.mark.parametrize(
    ("schedule", "done", "expected"),
    [
        ({"from": 3.0}, 0.7, 3.0),
        ({"schedule": "linear", "from": 4.0, "to": 1.0}, 0.5, 2.5),
        ({"schedule": "linear", "from": 0.0, "to": 1.0, "begin": 0.5}, 0.75, 0.5),
        ({"schedule": "linear", "from": 0.0, "to": 1.0, "end": 0.5}, 0.9, 1.0),
        ({"schedule": "cosine", "from": 2.0, "to": 0.0}, 0.5, 1.0),
        ({"schedule": "cosine", "from": 2.0, "to": 0.0}, 0.25, 1.0 + 2**-0.5),
        ({"from": 2.0, "warmup": 0.2}, 0.1, 1.0),
    ],
)
def test_schedules_by_hand(schedule, done, expected):
    assert Schedule.model_validate(schedule).value(done) == pytest.approx(expected)


def test_a_plain_number_is_constant(tmp_path):
    entry = load_recipe(written(tmp_path, "objectives:\n- {name: response, weight: 0.5, temperature: 4}\n")).objectives[
        0
    ]
    assert (entry.weight.value(0.3), entry.temperature.value(0.9)) == (0.5, 4.0)


def test_an_unknown_key_names_its_line(tmp_path):
    message = wrong(tmp_path, "seed: 1\ntrain:\n  epochs: 3\n  epoch: 4\nobjectives:\n- name: labels\n")
    assert "mine.yaml, line 4: train.epoch: unknown key" in message


def test_an_objectives_unknown_key_names_its_line(tmp_path):
    message = wrong(tmp_path, "objectives:\n- name: labels\n- name: decoupled\n  gamma: 2\n")
    assert "mine.yaml, line 4: objectives.1: decoupled.gamma: unknown key" in message
    assert "alpha, beta" in message


def test_an_unknown_objective_lists_those_that_there_are(tmp_path):
    message = wrong(tmp_path, "objectives:\n- name: respons\n")
    assert "line 2" in message
    assert "there is no objective 'respons'; there are annealed," in message


def test_a_value_out_of_range_names_its_line(tmp_path):
    assert "line 3: train.epochs" in wrong(tmp_path, "objectives: [{name: labels}]\ntrain:\n  epochs: 0\n")


def test_a_half_schedule_is_refused(tmp_path):
    assert "need 'from' and 'to'" in wrong(
        tmp_path, "objectives:\n- name: labels\n  weight: {schedule: linear, from: 1}\n"
    )


@pytest.mark.parametrize("text", ["- a list\n", "objectives: [\n", "seed: 3\n", "objectives: []\n"])
def test_what_is_no_recipe_is_one_clear_error(tmp_path, text):
    assert "mine.yaml" in wrong(tmp_path, text)


def test_an_objective_that_stands_twice_is_refused(tmp_path):
    assert "labels stands twice" in wrong(tmp_path, "objectives: [{name: labels}, {name: labels}]\n")


def test_an_initialisation_from_nothing_is_refused(tmp_path):
    assert "line 2: init: say from what" in wrong(tmp_path, "objectives: [{name: labels}]\ninit: {shrink: false}\n")


def test_a_reading_that_is_inherited_needs_a_teacher_and_is_kept():
    said = {"objectives": [{"name": "labels"}], "init": {"motion": True}}
    chosen = Recipe.model_validate(said)
    assert (chosen.taught, chosen.asks, chosen.fit_config().moving_rate) == (True, False, 0.0)
    trained = Recipe.model_validate({**said, "train": {"moving_rate": 0.5}})
    assert trained.fit_config().moving_rate == 0.5


def test_a_missing_file_names_the_shipped_recipes(tmp_path):
    with pytest.raises(ConfigError, match="response"):
        load_recipe(tmp_path / "none.yaml")


def test_what_a_recipe_says_in_full_is_the_same_recipe():
    recipe = find_recipe("everything")
    assert Recipe.model_validate(plain(recipe)) == recipe


def test_the_fingerprint_does_not_depend_on_tracking():
    recipe = find_recipe("response")
    assert recipe.model_copy(update={"tracking": ("wandb",)}).fingerprint() == recipe.fingerprint()
    assert recipe.model_copy(update={"seed": 1}).fingerprint() != recipe.fingerprint()
