"""Scalers that cameras share give each camera what its own would have given."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np
import pytest

from streamkd.media.convert import Scalers, to_grey, to_view

SIZES = ((64, 48), (96, 54), (128, 96))


def frame(seed, width=64, height=48, pixels="yuv420p", full_range=False):
    noise = np.random.default_rng(seed).integers(16, 235, (height * 3 // 2, width), np.uint8)
    made = av.VideoFrame.from_ndarray(noise, format=pixels)
    made.color_range = 2 if full_range else 1
    return made


def both(one, scalers):
    return to_view(one, 32, keep_aspect=True, scalers=scalers), to_grey(one, scalers)


@pytest.mark.parametrize("full_range", [False, True])
def test_what_was_converted_before_makes_no_difference(full_range):
    shared = Scalers()
    for size in SIZES:
        both(frame(1, *size, full_range=not full_range), shared)
    for size in SIZES:
        one = frame(2, *size, full_range=full_range)
        for mine, own in zip(both(one, shared), both(one, None), strict=True):
            assert np.array_equal(mine, own)


def test_many_threads_may_use_them_at_once():
    shared = Scalers()
    frames = [frame(seed, *SIZES[seed % 3]) for seed in range(60)]
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda one: both(one, shared), frames))
    for one, (view, grey) in zip(frames, found, strict=True):
        own_view, own_grey = both(one, None)
        assert np.array_equal(view, own_view)
        assert np.array_equal(grey, own_grey)


def test_a_stream_that_changes_its_size_again_and_again_fills_no_memory():
    shared = Scalers()
    for width in range(16, 1200, 2):
        to_grey(frame(0, width, 16), shared)
    assert len(shared._idle) <= 256
