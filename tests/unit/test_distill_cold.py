"""The student that knows nothing yet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import streamkd
from streamkd.bundle import read_bundle
from streamkd.distill.cold import VERSION, cold_student
from streamkd.engine import open_engine

SHIPPED = Path(streamkd.__file__).parent / "assets" / "student"
CLIPS = Path(__file__).parents[1] / "data" / "demo"


@pytest.mark.slow
def test_it_gives_every_class_the_same_probability(tmp_path: Path) -> None:
    bundle = cold_student(read_bundle(SHIPPED), CLIPS, tmp_path / "cold")
    engine = open_engine(bundle.path)
    rng = np.random.default_rng(0)
    state = engine.init_state()
    for _ in range(3):
        frame = rng.integers(0, 256, (1, engine.spec.input_size, engine.spec.input_size, 3), np.uint8)
        output, (state,) = engine.step(frame, [state])
        np.testing.assert_allclose(output.action, 0.5, atol=1e-6)
    assert bundle.spec.version == VERSION
    assert bundle.lineage.parent == read_bundle(SHIPPED).spec.version
