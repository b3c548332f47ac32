"""Streams joined for training: what a student can learn about one and two seconds ahead."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from streamkd.distill.features import FeatureSet
from streamkd.distill.streams import SETTLE_FRAMES, join_streams


@pytest.fixture
def batches():
    """Clips of 11 frames whose features name clip and frame."""
    clips = tuple(torch.stack([torch.tensor([c, t]) for t in range(11)]).half() for c in range(60))
    return join_streams(FeatureSet(clips, ()), 20, 4, np.random.default_rng(0))


def test_every_frame_is_the_one_that_it_says(batches):
    for batch in batches:
        shown = batch.weight > 0
        assert torch.equal(batch.front[..., 0].long()[shown], batch.clip[shown])
        assert torch.equal(batch.front[..., 1].long()[shown], batch.frame[shown])


@pytest.mark.parametrize("ahead", [5, 10])
def test_some_clips_go_on_for_as_long_as_a_forecast_reaches(batches, ahead):
    together = sum(
        int(((one.clip[:, ahead:] == one.clip[:, :-ahead]) & (one.weight[:, :-ahead] > 0)).sum()) for one in batches
    )
    assert together > 20


def test_a_clip_that_is_played_on_goes_to_and_fro_without_its_first_frame(batches):
    rows = [
        (row, clip, weight)
        for one in batches
        for row, clip, weight in zip(one.frame, one.clip, one.weight, strict=True)
    ]
    swung = [row for row, clip, weight in rows if len(set(clip.tolist())) == 1 and weight[-1] > 0]
    assert swung
    for row in swung:
        assert row[0] == 0
        assert bool((row[1:] > 0).all())
        assert bool((row.diff().abs() == 1).all())


def test_nothing_is_asked_right_after_a_cut(batches):
    for one in batches:
        assert not one.weight[:, :SETTLE_FRAMES].any()


def test_every_clip_is_shown_once_an_epoch(batches):
    clips = {c for one in batches for c in one.clip[one.weight > 0].tolist()}
    assert clips == set(range(60))
