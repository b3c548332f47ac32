"""Numbers about people's movements from their key points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import streamkd
from streamkd.models.pose_features import pose_clip_features
from streamkd.models.teachers.declared import read_declaration

COUNT = 360


def _person(y: float, x: float, height: float = 0.4, score: float = 0.9) -> np.ndarray:
    """An upright person, arms hanging down, as one row of 56 numbers."""
    ups = [-0.5, -0.48, -0.48, -0.46, -0.46, -0.3, -0.3, -0.1, -0.1, 0.05, 0.05, 0.0, 0.0, 0.25, 0.25, 0.5, 0.5]
    points = [(y + height * up, x + height * 0.05 * (-1) ** i, score) for i, up in enumerate(ups)]
    box = [y - height / 2, x - height / 6, y + height / 2, x + height / 6, score]
    return np.array([*(value for point in points for value in point), *box], np.float32)


def _clip(*people: list[np.ndarray]) -> np.ndarray:
    """`[T, 6, 56]`; missing people are rows of zeros."""
    frames = np.zeros((len(people[0]), 6, 56), np.float32)
    for slot, track in enumerate(people):
        for t, row in enumerate(track):
            frames[t, slot] = row
    return frames


def test_nobody_gives_zeros_but_for_nothing() -> None:
    features = pose_clip_features(np.zeros((10, 6, 56), np.float32), rate_hz=10.0, aspect=1.5)
    assert features.shape == (COUNT,)
    assert not features.any()


def test_a_single_frame_is_enough() -> None:
    features = pose_clip_features(_clip([_person(0.5, 0.5)]), rate_hz=10.0, aspect=1.5)
    assert np.isfinite(features).all()


def test_who_stands_still_has_no_speed_and_who_walks_has_one() -> None:
    still = pose_clip_features(_clip([_person(0.5, 0.5)] * 8), rate_hz=10.0, aspect=1.0)
    walking = pose_clip_features(_clip([_person(0.5, 0.3 + 0.02 * t) for t in range(8)]), rate_hz=10.0, aspect=1.0)
    assert not still[7:15].any()  # wrists: speed, and speed against the trunk
    assert walking[7] == pytest.approx(0.02 / 0.4 * 10, rel=1e-4)  # heights a second
    assert walking[11:15] == pytest.approx(0.0, abs=1e-4)


def test_far_people_count_like_near_ones() -> None:
    near = pose_clip_features(_clip([_person(0.5, 0.2 + 0.04 * t, 0.8) for t in range(6)]), rate_hz=10.0, aspect=1.0)
    far = pose_clip_features(_clip([_person(0.5, 0.2 + 0.01 * t, 0.2) for t in range(6)]), rate_hz=10.0, aspect=1.0)
    np.testing.assert_allclose(near[7:15], far[7:15], rtol=1e-3, atol=1e-4)


def test_order_of_people_in_a_frame_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    tracks = [[_person(0.5, 0.2 + 0.3 * i + 0.01 * t) for t in range(6)] for i in range(3)]
    whole = _clip(*tracks)
    mixed = np.stack([frame[rng.permutation(6)] for frame in whole])
    one, other = (pose_clip_features(clip, rate_hz=10.0, aspect=1.3) for clip in (whole, mixed))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_the_shipped_network_is_declared() -> None:
    declared = read_declaration(Path(streamkd.__file__).parent / "assets" / "teacher" / "models" / "pose.yaml")
    assert declared.kind == "file"
    assert declared.output.kind == "pose"
