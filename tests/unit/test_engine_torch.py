"""The PyTorch engine, on the CPU here: the same interface, the same answers as the network it runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import streamkd
from streamkd.bundle import read_bundle
from streamkd.distill.bundles import load_student
from streamkd.engine import open_engine
from streamkd.engine.openvino import OpenVinoEngine
from streamkd.engine.rows import StateRows
from streamkd.engine.torch import TorchEngine
from streamkd.errors import BundleError
from tests.fakes import make_tiny_bundle

SHIPPED = Path(streamkd.__file__).parent / "assets" / "student"


@pytest.fixture(scope="module")
def bundle():
    return read_bundle(SHIPPED)


@pytest.fixture(scope="module")
def engine(bundle):
    return TorchEngine(bundle, device="cpu")


@pytest.fixture(scope="module")
def frames(bundle):
    side = bundle.spec.input_size
    return np.random.default_rng(0).integers(0, 256, (6, 3, side, side, 3), dtype=np.uint8)


def play(engine, frames):
    """`[T, B, S, S, 3]` to the actions `[T, B, C]`."""
    states = [engine.init_state() for _ in frames[0]]
    told = []
    for batch in frames:
        output, states = engine.step(batch, states)
        told.append(output.action)
    return np.stack(told)


@torch.inference_mode()
def test_it_says_what_the_network_says(engine, bundle, frames):
    clip = torch.from_numpy(frames).permute(1, 0, 4, 2, 3).float()
    logits = load_student(bundle).clip(clip)[0].action / bundle.spec.temperature
    wanted = torch.softmax(logits, dim=-1).transpose(0, 1).numpy()
    np.testing.assert_allclose(play(engine, frames), wanted, atol=1e-4)


def test_an_answer_does_not_depend_on_the_batch(engine, frames):
    np.testing.assert_allclose(play(engine, frames)[:, :1], play(engine, frames[:, :1]), atol=1e-4)


def test_its_states_own_their_memory(engine, frames):
    _, states = engine.step(frames[0], [engine.init_state() for _ in range(3)])
    assert all(value.base is None for state in states for value in state.values())


def test_frames_without_a_state_are_a_mistake(engine, frames):
    with pytest.raises(ValueError, match="3 frames do not go with 1 states"):
        engine.step(frames[0], [engine.init_state()])


def test_weights_of_another_network_are_named(tmp_path):
    with pytest.raises(BundleError, match="don't fit"):
        TorchEngine(read_bundle(make_tiny_bundle(tmp_path / "tiny")), device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_best_device_is_the_cpu():
    assert isinstance(open_engine(SHIPPED, device="auto"), OpenVinoEngine)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu_it_says_what_it_says_on_the_cpu(engine, frames):
    # Its trunk computes in float16, with 11 bits; the CPU's network has 8.
    np.testing.assert_allclose(play(open_engine(SHIPPED, device="auto"), frames), play(engine, frames), atol=1e-2)


def test_rows_are_advanced_as_states_are(engine, frames):
    rows = StateRows(engine.spec.state)
    numbers = np.array([rows.take() for _ in frames[0]], np.intp)
    told = np.stack([engine.advance(list(batch), rows, numbers)[0].action for batch in frames])
    np.testing.assert_allclose(told, play(engine, frames), atol=1e-6)
