"""The back-off keeps its bound whatever happens, and forgets failures only after a healthy run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkd.media.reconnect import BackOff, Phase, Signal, connecting, transition
from streamkd.types import FailureReason

POLICY = BackOff()
STEPS = st.lists(
    st.tuples(st.sampled_from(list(Signal)), st.floats(0, 40), st.sampled_from(list(FailureReason))), max_size=80
)


def drive(link, signal, now_s, reason=FailureReason.UNREACHABLE, seed=0):
    return transition(link, signal, now_s, np.random.default_rng(seed), POLICY, reason)


@given(STEPS, st.integers(0, 2**32 - 1))
def test_every_wait_lies_within_its_bound(steps, seed):
    link, now_s, rng = connecting(0.0), 0.0, np.random.default_rng(seed)
    for signal, pause_s, reason in steps:
        now_s += pause_s
        try:
            link = transition(link, signal, now_s, rng, POLICY, reason)
        except ValueError:
            continue
        if link.phase is Phase.WAITING:
            assert 0.5 * POLICY.base_s <= link.retry_at_s - now_s <= POLICY.cap_s
            assert link.failures >= 1
        assert (link.retry_at_s is not None) == (link.phase is Phase.WAITING)


@given(STEPS)
def test_only_a_decoded_frame_makes_a_camera_online(steps):
    link, now_s = connecting(0.0), 0.0
    for signal, pause_s, reason in steps:
        now_s += pause_s
        before = link
        try:
            link = drive(link, signal, now_s, reason)
        except ValueError:
            assert link is before
            continue
        assert (link.phase is Phase.ONLINE) == (signal is Signal.FRAME)


def failures_after(run_s):
    link = connecting(0.0)
    for _ in range(4):
        link = drive(drive(link, Signal.FAILED, 0.0), Signal.RETRY, 0.0)
    link = drive(drive(link, Signal.FRAME, 100.0), Signal.FRAME, 100.0 + run_s)
    return drive(link, Signal.FAILED, 100.0 + run_s + 60.0).failures


def test_a_healthy_run_forgets_failures():
    assert failures_after(POLICY.healthy_s) == 1


def test_a_short_run_does_not_forget_and_silence_is_no_health():
    assert failures_after(POLICY.healthy_s - 1) == 5


def test_bounds_double_up_to_the_cap():
    bounds = [POLICY.bound_s(n, FailureReason.UNREACHABLE) for n in range(1, 8)]
    assert bounds == [1, 2, 4, 8, 16, 30, 30]


def test_a_wrong_password_waits_at_the_cap_from_the_start():
    assert POLICY.bound_s(1, FailureReason.AUTH) == POLICY.cap_s


def test_cameras_do_not_come_back_at_the_same_moment():
    waits = {POLICY.delay_s(3, FailureReason.ENDED, np.random.default_rng(seed)) for seed in range(20)}
    assert len(waits) == 20


def test_an_impossible_signal_is_refused():
    with pytest.raises(ValueError, match="retry"):
        drive(connecting(0.0), Signal.RETRY, 1.0)
