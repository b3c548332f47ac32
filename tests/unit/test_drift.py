"""Drift made from real footage."""

from __future__ import annotations

import numpy as np

from streamkd.evaluate.drift import Dusk

COLOURS = np.array([[[200, 40, 40], [40, 200, 40], [255, 255, 255]]], dtype=np.uint8)


def test_dusk_without_grain_is_its_formula():
    dusk = Dusk(gain=0.5, gamma=2.0, grain=0.0, colour=1.0)
    expected = np.round(0.5 * (COLOURS / 255.0) ** 2 * 255.0)
    assert np.abs(dusk.apply(COLOURS, np.random.default_rng(0)) - expected).max() <= 1


def test_dusk_takes_colour():
    grey = Dusk(grain=0.0, colour=0.0).apply(COLOURS, np.random.default_rng(0))
    assert (grey == grey[..., :1]).all()


def test_the_grain_is_as_strong_as_said_and_the_same_for_the_same_seed():
    still = np.full((200, 200, 3), 128, dtype=np.uint8)
    pictures = [Dusk(grain=0.04).apply(still, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert (pictures[0] == pictures[1]).all()
    assert (pictures[0] != pictures[2]).any()
    assert abs(pictures[0].std() / 255.0 - 0.04) < 0.004
