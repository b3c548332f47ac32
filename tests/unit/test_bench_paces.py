"""What is left of a row of clips at each pace, and which clip a score belongs to."""

from __future__ import annotations

import numpy as np
import pytest

from streamkd.media.pace import Thinning
from streamkd_service.bench.paces import keeps, score_in_a_row, ways
from tests.fakes import FakeEngine, tiny_spec


@pytest.mark.parametrize(
    ("thinning", "kept"),
    [
        (Thinning(), list(range(10))),
        (Thinning(rate_share=0.5), [0, 2, 4, 6, 8]),
        (Thinning(rate_share=0.25), [0, 4, 8]),
        (Thinning(group_share=0.5), [0, 1, 2, 3, 4]),
        (Thinning(group_share=0.25), [0, 1, 2]),
        (Thinning(rate_share=0.25, keyframes_only=True), [0]),
    ],
)
def test_what_is_kept_of_a_group(thinning, kept):
    assert [number for number in range(10) if keeps(thinning, number, 10)] == kept


def test_every_pace_is_compared_in_both_ways_of_slowing_down():
    assert len(ways()) == len(set(ways().values())) == 6


def test_a_clip_gets_the_mean_of_what_was_said_of_its_frames_or_the_last_that_was_said_before():
    engine = FakeEngine(tiny_spec())
    size = engine.spec.input_size
    red = np.zeros((size, size, 3), np.uint8) + np.array([1, 0, 0], np.uint8)
    clips = [[red * level] * 3 for level in (20, 120, 220)]
    everything = score_in_a_row(clips, [2, 0, 1], [True] * 9, engine)
    first_of_each = score_in_a_row(clips, [2, 0, 1], [True, False, False] * 3, engine)
    one_not_seen = score_in_a_row(clips, [2, 0, 1], [True] * 3 + [False] * 3 + [True] * 3, engine)
    assert len({*everything.tolist()}) == 3
    assert first_of_each[2] != everything[2]
    assert one_not_seen[0] not in everything
    assert one_not_seen[2] == everything[2]
