"""What an augmented copy of a clip is: every change is the same for all of its frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamkd.distill.features import augment, draw_variant

STILL = replace(
    draw_variant(np.random.default_rng(0)),
    flip=False,
    rotation_deg=0.0,
    scale=1.0,
    aspect=1.0,
    brightness=0.0,
    contrast=1.0,
    saturation=1.0,
    gamma=1.0,
    noise=0.0,
    phase=0,
    slow=False,
    jpeg_quality=0,
)


@pytest.fixture
def clip() -> np.ndarray:
    picture = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(6, 0).repeat(6, 1)
    return np.stack([picture] * 8)


def changed(clip: np.ndarray, **how: object) -> np.ndarray:
    return augment(clip, replace(STILL, **how), 40, np.random.default_rng(2)).numpy()


def test_a_variant_that_changes_nothing_only_resizes(clip):
    out = changed(clip)
    assert out.shape == (4, 3, 40, 40)
    assert abs(float(out.mean()) - float(clip.mean())) < 3


@pytest.mark.parametrize(
    "how",
    [
        {"flip": True},
        {"rotation_deg": 5.0},
        {"scale": 0.7},
        {"aspect": 1.15},
        {"brightness": 25.0},
        {"contrast": 1.4},
        {"saturation": 0.0},
        {"gamma": 1.3},
        {"jpeg_quality": 15},
    ],
    ids=lambda how: next(iter(how)),
)
def test_each_change_changes_something_and_is_the_same_for_all_frames(clip, how):
    out = changed(clip, **how)
    assert np.abs(out - changed(clip)).mean() > 1.0
    assert np.abs(out - out[:1]).max() < 1e-3


def test_noise_differs_from_frame_to_frame(clip):
    assert np.abs(np.diff(changed(clip, noise=5.0), axis=0)).mean() > 1.0


def test_playback_speed_changes_which_frames_are_taken():
    ramp = np.arange(48, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    taken = {
        tuple(augment(ramp, replace(STILL, slow=True), 8, np.random.default_rng(seed))[:, 0, 0, 0].tolist())
        for seed in range(8)
    }
    assert len(taken) > 1


def test_a_rotation_by_nothing_is_the_picture_itself(clip):
    assert np.array_equal(changed(clip, rotation_deg=0.0), changed(clip))


def test_a_seed_draws_the_same_variants_again():
    assert draw_variant(np.random.default_rng(5)) == draw_variant(np.random.default_rng(5))
