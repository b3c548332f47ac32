"""Flow inside the student: against known shifts, at cuts and first frames, and in numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

from streamkd.bundle import MotionSpec
from streamkd.models.motion import STATISTICS, Flow, Motion, SmallGrey, flow_statistics, pack, unpack

SIDE, RATE_HZ, INPUT = 80, 5.0, 160


def picture(right: float = 0.0, down: float = 0.0, seed: int = 0):
    """A smooth pattern `[1, 1, 80, 80]`, -0.5..0.5, shifted by so many pixels."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(np.arange(SIDE) - down, np.arange(SIDE) - right, indexing="ij")
    waves = [(*rng.uniform(-0.35, 0.35, 2), rng.uniform(0, 6.28)) for _ in range(12)]
    total = sum(np.sin(a * x + b * y + c) for a, b, c in waves) / 12
    return torch.from_numpy(total.astype(np.float32))[None, None]


@pytest.fixture(scope="module")
def motion() -> Motion:
    return Motion(MotionSpec(keep=0.8), INPUT, RATE_HZ)


def empty(batch: int = 1):
    return torch.zeros(batch, 1, SIDE, SIDE), torch.zeros(batch, 2, 20, 20), torch.zeros(batch, STATISTICS + 2)


@pytest.mark.parametrize(("right", "down"), [(0.5, 0.0), (0.0, -1.5), (3.0, 2.0), (-4.0, 1.0)])
def test_a_shift_is_found(right, down):
    flow, cut = Flow(SIDE, RATE_HZ)(picture(), picture(right, down))
    middle = flow[0, :, 4:-4, 4:-4].flatten(1).median(dim=1).values * SIDE / RATE_HZ
    np.testing.assert_allclose(middle.numpy(), [right, down], atol=0.35)
    assert float(cut) == 0.0


def test_nothing_moves_in_a_picture_that_stays():
    flow, cut = Flow(SIDE, RATE_HZ)(picture(), picture())
    assert float(flow.abs().max()) < 1e-6
    assert float(cut) == 0.0


def test_another_scene_is_a_cut():
    _, cut = Flow(SIDE, RATE_HZ)(picture() - 0.2, picture(seed=3) + 0.2)
    assert float(cut) == 1.0


def test_statistics_against_a_hand_calculation():
    """Everything moves right by 0.3 after standing: speed and turn are 0.3 everywhere, and nothing diverges."""
    flow = torch.zeros(1, 2, 20, 20)
    flow[:, 0] = 0.3
    found = flow_statistics(flow, torch.zeros_like(flow))[0].reshape(4, 5)
    for row in found[:2]:
        torch.testing.assert_close(row, torch.full((5,), math.log(0.3)), atol=5e-3, rtol=0)
    torch.testing.assert_close(found[2:], torch.full((2, 5), math.log(1e-3)), atol=2e-3, rtol=0)


def test_the_first_frame_and_the_first_after_a_cut_say_nothing(motion):
    scene, other = picture() - 0.2, picture(seed=3) + 0.2
    frames = torch.cat([scene, scene, other, other])[None]
    means, (_, _, moving) = motion(frames, *empty())
    assert float(means[0, 0].abs().max()) == 0.0  # no frame before
    still = math.log(1e-3)
    torch.testing.assert_close(means[0, 1], torch.full((STATISTICS,), still), atol=2e-3, rtol=0)
    assert float(means[0, 2].abs().max()) == 0.0  # another scene
    torch.testing.assert_close(means[0, 3], torch.full((STATISTICS,), still), atol=2e-3, rtol=0)
    assert moving[0, -2:].tolist() == [1.0, 1.0]


def test_the_mean_fades(motion):
    """Still, then moving: the newest frame counts most, and all weights add up to one."""
    frames = torch.cat([picture(), picture(), picture(1.0)])[None]
    means, _ = motion(frames, *empty())
    alone = motion(torch.cat([picture(), picture(1.0)])[None], *empty())[0][0, 1]
    # Turn differs: in one of the two nothing came before the move.
    for index in (*range(5), *range(10, 20)):
        expected = (0.8 * means[0, 1, index] + alone[index]) / 1.8
        assert float(means[0, 2, index]) == pytest.approx(float(expected), abs=1e-4)


def test_frame_by_frame_is_the_whole(motion):
    frames = torch.cat([picture(0.7 * t, -0.4 * t * t) for t in range(6)])[None]
    whole, last = motion(frames, *empty())
    state = empty()
    for t in range(6):
        one, state = motion(frames[:, t : t + 1], *state)
        torch.testing.assert_close(one[:, 0], whole[:, t], atol=1e-5, rtol=1e-5)
    for mine, theirs in zip(state, last, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_grey_is_luma_of_two_by_two_pixels():
    frames = torch.zeros(1, 3, 4, 4)
    frames[0, 1, :2, :2] = torch.tensor([[255.0, 0.0], [0.0, 255.0]])
    found = SmallGrey()(frames)[0, 0]
    assert found[0, 0] == pytest.approx(0.587 / 2 - 0.5, abs=1e-6)
    assert found[1, 1] == pytest.approx(-0.5, abs=1e-6)


def test_packing_loses_nothing():
    grey = picture(seed=5)
    assert pack(grey).shape == (1, 16, 20, 20)
    assert torch.equal(unpack(pack(grey)), grey)
