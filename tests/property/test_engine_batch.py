"""A camera's answers do not depend on who shares its batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamkd
from streamkd.engine import open_engine
from tests.fakes import make_tiny_bundle

SHIPPED = Path(streamkd.__file__).parent / "assets" / "student"
FLOAT32_LIMIT, INT8_LIMIT = 1e-4, 1e-2


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return open_engine(make_tiny_bundle(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def shipped():
    if not SHIPPED.is_dir():
        pytest.skip("no student is shipped yet")
    return open_engine(SHIPPED)


def together_and_alone(engine, batch, seed, steps=3):
    """The largest difference between the last of `batch` cameras in a batch and the same camera alone."""
    rng = np.random.default_rng(seed)
    size = engine.spec.input_size
    together, alone = [engine.init_state() for _ in range(batch)], [engine.init_state()]
    worst = 0.0
    for _ in range(steps):
        # Mates from black to white, so that a range shared by the batch would show.
        rgb = (rng.integers(0, 256, (batch, size, size, 3)) * rng.random((batch, 1, 1, 1))).astype(np.uint8)
        out, together = engine.step(rgb, together)
        own, alone = engine.step(rgb[-1:], alone)
        for name in ("action", "forecast"):
            worst = max(worst, float(np.abs(getattr(out, name)[-1] - getattr(own, name)[0]).max()))
    return worst


@settings(max_examples=30, deadline=None)
@given(batch=st.integers(2, 40), seed=st.integers(0, 2**32 - 1))
def test_float32_network(tiny, batch, seed):
    assert together_and_alone(tiny, batch, seed) <= FLOAT32_LIMIT


@settings(max_examples=8, deadline=None)
@given(batch=st.integers(2, 36), seed=st.integers(0, 2**32 - 1))
def test_int8_network(shipped, batch, seed):
    assert together_and_alone(shipped, batch, seed) <= INT8_LIMIT
