"""The OpenVINO engine: agrees with numpy, refuses what does not fit."""

from __future__ import annotations

import gc
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import streamkd
from streamkd.bundle import read_bundle, write_manifest
from streamkd.engine import open_engine
from streamkd.engine.base import softmax
from streamkd.engine.openvino import bare_request
from streamkd.engine.rows import StateRows
from streamkd.engine.slots import pieces
from streamkd.errors import BundleError
from tests.fakes import GREY, RED, TINY_SIZE, FakeEngine, make_tiny_bundle, tiny_spec


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def engine(bundle):
    engine = open_engine(bundle)
    engine.warm()
    return engine


def colour(value, count=1):
    frames = np.empty((count, TINY_SIZE, TINY_SIZE, 3), np.uint8)
    frames[:] = value
    return frames


@pytest.mark.parametrize("batch", [1, 3, 8, 33, 70])
def test_every_batch_size_gives_what_numpy_gives(engine, batch):
    rng = np.random.default_rng(batch)
    fake = FakeEngine()
    states = [engine.init_state() for _ in range(batch)]
    expected_states = [fake.init_state() for _ in range(batch)]
    for _ in range(3):
        rgb = rng.integers(0, 256, (batch, TINY_SIZE, TINY_SIZE, 3), np.uint8)
        output, states = engine.step(rgb, states)
        expected, expected_states = fake.step(rgb, expected_states)
    for name in ("action", "forecast", "embedding"):
        np.testing.assert_allclose(getattr(output, name), getattr(expected, name), atol=1e-5)
    for state, wanted in zip(states, expected_states, strict=True):
        for name in wanted:
            np.testing.assert_allclose(state[name], wanted[name], atol=1e-5)


@pytest.mark.parametrize(
    ("batch", "expected"), [(1, [1]), (3, [2, 1]), (8, [8]), (13, [8, 4, 1]), (16, [8, 8]), (23, [8, 8, 4, 2, 1])]
)
def test_a_batch_runs_in_pieces_that_fit_where_only_rows_cost(batch, expected):
    assert pieces(batch, (1, 2, 4, 8), 0.0) == expected


@pytest.mark.parametrize(
    ("batch", "expected"), [(1, [1]), (3, [4]), (8, [8]), (9, [8, 1]), (13, [8, 8]), (70, [8] * 9)]
)
def test_there_are_as_few_pieces_as_can_be_where_only_runs_cost(batch, expected):
    assert pieces(batch, (1, 2, 4, 8), math.inf) == expected


@pytest.mark.parametrize("batch", range(1, 40))
def test_pieces_cost_the_least_that_two_sizes_can(batch):
    def cost(cut):
        return sum(size + 0.64 for size in cut)

    every = [[8] * eights + [1] * max(0, batch - 8 * eights) for eights in range(batch // 8 + 2)]
    found = pieces(batch, (1, 8), 0.64)
    assert sum(found) >= batch
    assert cost(found) == pytest.approx(min(cost(cut) for cut in every))


def test_a_bare_request_keeps_the_memory_that_it_writes_to(bundle):
    infer = bare_request(bundle=read_bundle(bundle), batch=3, rng=np.random.default_rng(0))
    gc.collect()
    infer()
    slot = infer.__self__
    assert slot.output["action"].shape[0] == 3
    assert slot.output["action"].any()


def test_rows_of_other_cameras_and_what_they_say_of_numbers(engine):
    """In pieces of eight and of one: what is no number is told of its own row."""
    rows = StateRows(engine.spec.state)
    numbers = np.array([rows.take() for _ in range(14)], np.intp)
    rows.arrays["level"][numbers[9]] = np.nan
    output, numeric = engine.advance(list(colour(RED, 13)), rows, numbers[:13])
    assert numeric.tolist() == [row != 9 for row in range(13)]
    assert output.action.shape == (13, 2)
    assert rows.arrays["level"][numbers[:9], 0].all()
    assert not rows.arrays["level"][numbers[13]].any()


def test_shapes_are_those_of_the_spec(engine):
    output, _ = engine.step(colour(GREY, 2), [engine.init_state()] * 2)
    assert (output.action.shape, output.forecast.shape, output.embedding.shape) == ((2, 2), (2, 2, 2), (2, 3, 4, 4))


def test_probabilities_sum_to_one(engine):
    output, _ = engine.step(colour(RED), [engine.init_state()])
    np.testing.assert_allclose(output.forecast.sum(-1), 1.0, atol=1e-6)


def test_red_frames_become_a_fight(engine):
    states = [engine.init_state()]
    for _ in range(5):
        output, states = engine.step(colour(RED), states)
    assert output.action[0, 1] > 0.9


def test_outputs_survive_the_next_step(engine):
    first, _ = engine.step(colour(RED), [engine.init_state()])
    before = first.embedding.copy()
    engine.step(colour(GREY), [engine.init_state()])
    np.testing.assert_array_equal(first.embedding, before)


def test_states_given_are_not_changed(engine):
    state = engine.init_state()
    engine.step(colour(RED), [state])
    assert not state["level"].any()


def test_states_own_their_memory(engine):
    _, states = engine.step(colour(RED, 4), [engine.init_state()] * 4)
    assert all(array.base is None for state in states for array in state.values())


def test_the_temperature_softens(tmp_path, engine):
    path = make_tiny_bundle(tmp_path)
    spec = json.loads((path / "spec.json").read_text())
    (path / "spec.json").write_text(json.dumps({**spec, "temperature": 4.0}))
    write_manifest(path)
    soft, _ = open_engine(path).step(colour(RED), [engine.init_state()])
    hard, _ = engine.step(colour(RED), [engine.init_state()])
    np.testing.assert_allclose(soft.action, softmax(np.log(hard.action) / 4), atol=1e-5)


def test_frames_and_states_must_match_in_number(engine):
    with pytest.raises(ValueError, match="2 frames"):
        engine.step(colour(GREY, 2), [engine.init_state()])


def test_a_network_that_is_not_one_is_named(tmp_path):
    path = make_tiny_bundle(tmp_path)
    (path / "int8.xml").write_text("<nonsense/>")
    write_manifest(path)
    with pytest.raises(BundleError, match="can't load the network of model bundle"):
        open_engine(path)


def test_a_network_without_a_state_of_the_spec_is_named(tmp_path):
    path = make_tiny_bundle(tmp_path)
    spec = json.loads((path / "spec.json").read_text())
    spec["state"].append({"name": "memory", "shape": [7]})
    (path / "spec.json").write_text(json.dumps(spec))
    write_manifest(path)
    with pytest.raises(BundleError, match="lacks the input 'memory'"):
        open_engine(path)


def test_a_network_of_another_shape_is_named(tmp_path):
    path = make_tiny_bundle(tmp_path)
    spec = json.loads((path / "spec.json").read_text())
    (path / "spec.json").write_text(json.dumps({**spec, "input_size": 64}))
    write_manifest(path)
    with pytest.raises(BundleError, match="'frame' of shape"):
        open_engine(path)


@pytest.mark.parametrize("version", ["../../elsewhere", "", "a/b", "a\n", ".hidden"])
def test_a_version_that_can_not_be_a_folder_is_refused(tmp_path, version):
    path = make_tiny_bundle(tmp_path)
    spec = json.loads((path / "spec.json").read_text())
    (path / "spec.json").write_text(json.dumps({**spec, "version": version}))
    write_manifest(path)
    with pytest.raises(BundleError, match="version"):
        read_bundle(path)


def test_a_damaged_bundle_is_refused(tmp_path):
    path = make_tiny_bundle(tmp_path)
    (path / "int8.bin").write_bytes(b"x")
    with pytest.raises(BundleError, match="damaged"):
        open_engine(path)


def test_three_foreground_classes_follow_three_colours(tmp_path):
    engine = open_engine(make_tiny_bundle(tmp_path, ("normal", "fight", "fall", "flood")))
    states = [engine.init_state()] * 3
    rgb = np.concatenate([colour((255, 0, 0)), colour((0, 255, 0)), colour((0, 0, 255))])
    for _ in range(5):
        output, states = engine.step(rgb, states)
    assert output.action.argmax(-1).tolist() == [1, 2, 3]


def test_softmax_of_huge_logits_is_finite():
    np.testing.assert_allclose(softmax(np.array([[1000.0, 0.0]], np.float32)), [[1.0, 0.0]])


def test_the_fake_has_the_spec_of_the_bundle(engine):
    assert engine.spec == tiny_spec()


def test_serving_imports_no_torch():
    code = "import sys, streamkd.pipeline, streamkd.engine.openvino; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_shipped_network_is_rounded_in_its_trunk_alone():
    """Flow and head work on differences that are no larger than an int8 step."""
    text = (Path(streamkd.__file__).parent / "assets" / "student" / "int8.xml").read_text()
    rounded = re.findall(r'name="([^"]+)" type="FakeQuantize"', text)
    assert any("backbone" in name for name in rounded)
    head = re.compile(r"student\.(motion|moving|memory|direct|recall|reduce|standardise)|^aten::add")
    assert not [name for name in rounded if head.search(name)]
