"""Stalled, frozen, black and covered cameras; and those that are none of it."""

from __future__ import annotations

import numpy as np
import pytest

from streamkd.media.liveness import SightWatch, StallWatch, detail, mean_change
from streamkd.types import CameraState


def scene(seed=0):
    blocks = np.random.default_rng(seed).integers(30, 220, (12, 18), np.uint8)
    return np.kron(blocks, np.ones((20, 20), np.uint8))


def noisy(picture, sigma, rng):
    return np.clip(picture + rng.normal(0, sigma, picture.shape), 0, 255).astype(np.uint8)


def look(pictures, step_s=1.0):
    watch = SightWatch()
    return [watch.saw(picture, k * step_s) for k, picture in enumerate(pictures)]


def test_the_same_picture_for_long_is_frozen():
    states = look([scene()] * 15)
    assert states[:10] == [None] * 10
    assert states[-1] is CameraState.FROZEN


@pytest.mark.parametrize("sigma", [0.5, 2, 8])
def test_a_static_but_noisy_scene_is_not_frozen(sigma):
    rng = np.random.default_rng(1)
    assert set(look([noisy(scene(), sigma, rng) for _ in range(30)])) == {None}


def test_a_frozen_camera_that_moves_again_is_fine_at_once():
    assert look([scene()] * 15 + [scene(1)])[-1] is None


def test_black_is_black_whatever_its_noise():
    rng = np.random.default_rng(1)
    dark = [noisy(np.full((240, 360), 6, np.uint8), 2, rng) for _ in range(6)]
    assert look(dark)[-1] is CameraState.BLACK


def test_a_lamp_at_night_is_not_black():
    rng = np.random.default_rng(1)
    night = np.full((240, 360), 6, np.uint8)
    night[40:80, 100:160] = 220
    assert CameraState.BLACK not in look([noisy(night, 2, rng) for _ in range(10)])


def test_a_hand_on_the_lens_is_covered():
    rng = np.random.default_rng(1)
    hand = np.linspace(60, 90, 360)[None].repeat(240, 0)
    assert look([noisy(hand, 3, rng) for _ in range(8)])[-1] is CameraState.COVERED


def test_a_picture_with_detail_is_not_covered():
    rng = np.random.default_rng(1)
    assert look([noisy(scene(), 3, rng) for _ in range(8)])[-1] is None


def test_detail_averages_noise_out():
    flat = np.full((240, 360), 100, np.uint8)
    assert detail(flat) == 0
    assert detail(noisy(flat, 5, np.random.default_rng(0))) < 1


def test_mean_change_does_not_wrap():
    assert mean_change(np.full((2, 2), 250, np.uint8), np.full((2, 2), 5, np.uint8)) == 245


def watch_steps(interval_s, count):
    watch = StallWatch()
    for k in range(count):
        watch.saw(k * interval_s)
    return watch, (count - 1) * interval_s


def test_a_silence_is_one_stall():
    watch, last_s = watch_steps(0.04, 50)
    assert [watch.stalled(last_s + at) for at in (1.0, 2.5, 3.0)] == [False, True, True]
    watch.saw(last_s + 4.0)
    assert (watch.stalled(last_s + 4.1), watch.stalls) == (False, 1)


def test_a_stall_that_nobody_looked_at_is_counted():
    watch, last_s = watch_steps(0.04, 50)
    watch.saw(last_s + 10)
    assert watch.stalls == 1


def test_a_slow_camera_is_judged_by_its_own_interval():
    watch, last_s = watch_steps(4.0, 10)
    assert not watch.stalled(last_s + 15)
    assert watch.stalled(last_s + 21)


def test_before_the_first_frame_nothing_is_stalled():
    assert not StallWatch().stalled(100.0)
