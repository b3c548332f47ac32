"""The gate of still scenes: closed only where pixels and sizes agree, open at once when one of them does not."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkd.media.stillness import Scene, Stillness, StillnessLimits

FPS, GOP, PER_PICTURE = 15, 30, 3
LIMITS = StillnessLimits()
QUIET, LOUD = 0.5, 20.0


class Camera:
    """Feeds a gate as a reader does: every size, and every third picture's motion (keyframes only once it is still)."""

    def __init__(self, gate):
        self.gate, self.number = gate, 0

    def send(self, sizes, motion=QUIET, keyframe_bytes=40_000):
        scenes = []
        for size in sizes:
            at_s, keyframe = self.number / FPS, self.number % GOP == 0
            self.gate.packet(keyframe_bytes if keyframe else size, at_s, keyframe=keyframe)
            if keyframe if self.gate.scene is Scene.STILL else self.number % PER_PICTURE == 0:
                self.gate.picture(motion, at_s)
            scenes.append(self.gate.scene)
            self.number += 1
        return scenes


def noise(seed, median, spread, count):
    return (median * np.random.default_rng(seed).lognormal(0.0, spread, count)).astype(int).tolist()


seeds = st.integers(0, 2**32 - 1)
medians = st.floats(60.0, 3000.0)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, median=medians, spread=st.floats(0.0, 0.3))
def test_a_quiet_scene_becomes_still_but_not_before_its_time(seed, median, spread):
    scenes = Camera(Stillness()).send(noise(seed, median, spread, 10 * FPS))
    assert Scene.STILL not in scenes[: int(LIMITS.quiet_s * FPS)]
    assert Scene.STILL in scenes


@settings(max_examples=40, deadline=None)
@given(seed=seeds, median=medians, missed=st.integers(1, GOP - 1))
def test_a_connection_that_begins_between_keyframes_becomes_still_too(seed, median, missed):
    camera = Camera(Stillness())
    camera.number = missed
    camera.gate.picture(None, missed / FPS)
    assert camera.gate.wants_picture
    assert Scene.STILL in camera.send(noise(seed, median, 0.2, 10 * FPS))


@settings(max_examples=40, deadline=None)
@given(seed=seeds, median=medians)
def test_what_came_before_the_first_picture_counts_neither_as_still_nor_as_moving(seed, median):
    gate = Stillness()
    for number, size in enumerate(noise(seed, median, 0.2, 4 * FPS)):
        gate.packet(size, number / FPS, keyframe=False)
    gate.picture(None, 4.0)
    camera = Camera(gate)
    camera.number = 4 * FPS
    assert Scene.STILL in camera.send(noise(seed, median, 0.2, 10 * FPS))


@settings(max_examples=40, deadline=None)
@given(seed=seeds, median=medians, spread=st.floats(0.0, 0.3))
def test_a_large_picture_wakes_it_at_once(seed, median, spread):
    camera = Camera(Stillness())
    sizes = noise(seed, median, spread, 10 * FPS + 1)
    camera.send(sizes)
    if camera.gate.scene is Scene.STILL:
        assert camera.send([6 * max(sizes) + 1000])[-1] is Scene.MOVING


@settings(max_examples=40, deadline=None)
@given(seed=seeds, budget=st.floats(1000.0, 50_000.0))
def test_a_constant_bitrate_is_never_gated(seed, budget):
    scenes = Camera(Stillness()).send(noise(seed, budget, 0.1, 60 * FPS), keyframe_bytes=int(4 * budget))
    assert set(scenes) == {Scene.MOVING}


@settings(max_examples=40, deadline=None)
@given(seed=seeds, median=medians)
def test_moving_pixels_are_never_gated(seed, median):
    scenes = Camera(Stillness()).send(noise(seed, median, 0.1, 30 * FPS), motion=LOUD)
    assert set(scenes) == {Scene.MOVING}


@settings(max_examples=40, deadline=None)
@given(seed=seeds, median=medians)
def test_a_gate_that_was_wrong_stays_open_for_a_while(seed, median):
    camera = Camera(Stillness())
    camera.send(noise(seed, median, 0.05, 10 * FPS))
    assert camera.gate.scene is Scene.STILL
    camera.send(noise(seed + 1, median, 0.05, GOP), motion=LOUD)  # a keyframe shows motion, the sizes did not
    assert camera.gate.wrong == 1
    scenes = camera.send(noise(seed + 2, median, 0.05, int((LIMITS.off_s - 5) * FPS)))
    assert set(scenes) == {Scene.MOVING}


@settings(max_examples=20, deadline=None)
@given(seed=seeds, median=medians, spread=st.floats(0.05, 0.25))
def test_an_encoders_noise_is_learnt(seed, median, spread):
    camera = Camera(Stillness())
    camera.send(noise(seed, median, spread, 60 * FPS))
    before = camera.gate.wakes
    camera.send(noise(seed + 1, median, spread, 60 * FPS))
    assert camera.gate.wakes - before <= 3
