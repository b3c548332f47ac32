"""The pipeline: a camera's story does not depend on other cameras; a swap of the model loses and invents nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkd.clock import FakeClock
from streamkd.config import CameraConfig, EventsConfig
from streamkd.engine import open_engine
from streamkd.events import RecordingTime
from streamkd.events.timebase import EPOCH
from streamkd.pipeline import Pipeline
from tests.fakes import GREEN, GREY, RED, FakeEngine, make_frame, make_tiny_bundle, tiny_spec

EVENTS = EventsConfig(smoothing_s=0.6, min_frames=2, close_after_s=0.6, anomaly_warmup_s=5.0)
PERIOD_S = 0.2
WARMUP = 3

colours = st.lists(st.tuples(st.sampled_from([GREY, RED, GREEN]), st.integers(1, 8)), min_size=1, max_size=8).map(
    lambda runs: [colour for colour, length in runs for _ in range(length)]
)


def pipeline(engine, names):
    built = Pipeline(engine, EVENTS, FakeClock(), time_base=RecordingTime())
    for name in names:
        built.add_camera(CameraConfig(id=name, url="rtsp://h/s", cooldown_s=1.0))
    return built


def frame(name, index, colour):
    return make_frame(name, index * PERIOD_S, colour)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return open_engine(make_tiny_bundle(tmp_path_factory.mktemp("tiny")))


@settings(max_examples=25, deadline=None)
@given(own=colours, mates=st.lists(colours, min_size=1, max_size=6), turns=st.randoms(use_true_random=False))
def test_a_camera_says_the_same_alone_and_in_company(tiny, own, mates, turns):
    alone = pipeline(tiny, ["own"])
    expected = [result for index, colour in enumerate(own) for result in alone.process([frame("own", index, colour)])]
    names = [f"mate{index}" for index in range(len(mates))]
    company = pipeline(tiny, ["own", *names])
    found = []
    for index, colour in enumerate(own):
        batch = [frame("own", index, colour)]
        for name, theirs in zip(names, mates, strict=True):
            if index < len(theirs) and turns.random() < 0.8:
                batch.append(frame(name, index, theirs[index]))
        turns.shuffle(batch)
        found += [result for result in company.process(batch) if result.camera_id == "own"]
    for one, other in zip(found, expected, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-4)
        assert one.action_score == pytest.approx(other.action_score, abs=1e-4)
        assert [(u.id, u.revision, u.is_open) for u in one.updates] == [
            (u.id, u.revision, u.is_open) for u in other.updates
        ]


@settings(max_examples=60, deadline=None)
@given(played=colours, at=st.lists(st.integers(0, 40), max_size=4))
def test_swaps_between_equal_models_change_no_word_of_the_story(played, at):
    """New versions of a model without memory: every frame has its answer, events are those of a run without swaps."""
    plain = pipeline(FakeEngine(tiny_spec("v"), decay=0.0), ["cam"])
    swapped = pipeline(FakeEngine(tiny_spec("v"), decay=0.0), ["cam"])
    for index, colour in enumerate(played):
        for number in [n for n, when in enumerate(at) if when == index]:
            swapped.swap(FakeEngine(tiny_spec(f"v{number}"), decay=0.0))
        (expected,) = plain.process([frame("cam", index, colour)])
        (found,) = swapped.process([frame("cam", index, colour)])
        assert found.warming == expected.warming
        assert [(u.id, u.revision, u.is_open, u.end_pts_s) for u in found.updates] == [
            (u.id, u.revision, u.is_open, u.end_pts_s) for u in expected.updates
        ]


@settings(max_examples=60, deadline=None)
@given(
    before=st.integers(0, 12),
    presence=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=25),
)
def test_each_camera_moves_after_exactly_its_own_warm_up(before, presence):
    names = ["a", "b", "c"]
    subject = pipeline(FakeEngine(tiny_spec("old")), names)
    for index in range(before):
        subject.process([frame(name, index, GREY) for name in names])
    subject.swap(FakeEngine(tiny_spec("new")))
    seen = dict.fromkeys(names, 0)
    for index, here in enumerate(presence):
        now = [name for name, is_here in zip(names, here, strict=True) if is_here]
        results = subject.process([frame(name, before + index, GREY) for name in now])
        assert [result.camera_id for result in results] == now
        for result in results:
            new = before == 0 or seen[result.camera_id] >= WARMUP
            assert result.model_version == ("new" if new else "old")
            seen[result.camera_id] += 1
    assert subject.swap_pending == (before > 0 and any(count <= WARMUP for count in seen.values()))


def _undated(updates):
    """Updates without what follows the time of arrival: UTC, and the id that is made from it."""
    return tuple(replace(update, id="", start_utc=EPOCH, end_utc=None) for update in updates)


@given(colour=st.sampled_from([GREY, RED]), seed=st.integers(0, 1000))
def test_the_answer_is_a_function_of_frames_and_pts_alone(colour, seed):
    """Neither arrival times nor the wall clock enter scores or events."""
    rng = np.random.default_rng(seed)
    stories = []
    for _ in range(2):
        subject = pipeline(FakeEngine(), ["cam"])
        told = []
        for index in range(12):
            late = replace(frame("cam", index, colour), received_s=float(rng.random() * 100))
            told += [replace(result, updates=_undated(result.updates)) for result in subject.process([late])]
        stories.append(told)
    assert stories[0] == stories[1]
