"""What operators say about events reaches the gate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from streamkd.config import EventsConfig
from streamkd.engine import open_engine
from streamkd.media.writer import jpeg_of, write_jpeg_clip
from streamkd.refresh.evidence import _on_verdicts
from streamkd.refresh.gate import OPERATORS
from streamkd.refresh.verdicts import LONGEST_S, VerdictClip, event_frames, verdict_clips
from streamkd.store.records import JudgedClip
from streamkd.types import EventKind, EventUpdate, Verdict
from tests.fakes import GREEN, GREY, RED, make_tiny_bundle, tiny_spec

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RATE_HZ = 5.0
LEAD_S, EVENT_S, TAIL_S = 2.0, 3.0, 1.0


def clip_of(path, colour=RED, *, lead_s=LEAD_S, tail_s=TAIL_S):
    """Grey before the event, `colour` while it lasts, green after it."""
    stretches = ((GREY, lead_s), (colour, EVENT_S), (GREEN, tail_s))
    shown = [np.full((48, 64, 3), one, np.uint8) for one, seconds in stretches for _ in range(int(seconds * RATE_HZ))]
    write_jpeg_clip(path, [jpeg_of(picture) for picture in shown], RATE_HZ)
    return path


def verdict_clip(path, label="fight", unit="gate 12"):
    return VerdictClip(path, label, unit, EVENT_S, LEAD_S, TAIL_S)


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    bundle = make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")
    return open_engine(bundle), open_engine(bundle)


@pytest.mark.parametrize("lead_s", [LEAD_S, LEAD_S + 3.0])
def test_only_the_event_is_looked_at_after_a_warm_up(tmp_path, lead_s):
    spec = tiny_spec()
    frames = event_frames(verdict_clip(clip_of(tmp_path / "a.mkv", lead_s=lead_s)), spec)
    event = frames[spec.warmup_frames :]
    assert len(event) == EVENT_S * RATE_HZ
    assert all(abs(frame.astype(int) - RED).max() < 40 for frame in event)


def test_a_clip_that_was_cut_short_tells_nothing(tmp_path):
    assert event_frames(verdict_clip(clip_of(tmp_path / "a.mkv", lead_s=0.2, tail_s=0.2)), tiny_spec()) is None


def test_confirmed_events_are_of_their_class_and_rejected_ones_of_none(tmp_path, engines):
    confirmed, rejected = clip_of(tmp_path / "a.mkv"), clip_of(tmp_path / "b.mkv", GREY)
    found = _on_verdicts([verdict_clip(confirmed), verdict_clip(rejected, None, "yard 12")], engines)
    assert (found.name, found.units) == (OPERATORS, ("gate 12", "yard 12"))
    assert found.reference.tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert found.parent.argmax(axis=1).tolist() == [1, 0]


def test_clips_that_are_gone_or_of_another_class_are_left_out(tmp_path, engines):
    other = verdict_clip(clip_of(tmp_path / "a.mkv"), "fall")
    assert _on_verdicts([verdict_clip(tmp_path / "gone.mkv"), other], engines) is None


def test_events_of_one_camera_and_hour_are_one_unit(tmp_path):
    judged = [
        JudgedClip("gate", "fight", verdict, NOON + timedelta(minutes=minute), seconds, tmp_path / "a.mp4")
        for verdict, minute, seconds in (
            (Verdict.CONFIRMED, 0, 4.0),
            (Verdict.REJECTED, 59, 4.0),
            (Verdict.CONFIRMED, 60, 4.0),
            (Verdict.CONFIRMED, 5, LONGEST_S + 1.0),
        )
    ]
    clips = verdict_clips(judged, EventsConfig())
    assert [(clip.label, clip.unit[-2:]) for clip in clips] == [("fight", "12"), (None, "12"), ("fight", "13")]


def test_the_store_hands_out_judged_events_with_a_clip_newest_first(repository, media):
    def event(name, minute, *, kind=EventKind.ACTION, clip=True, verdict=Verdict.CONFIRMED, ended=True):
        start = NOON + timedelta(minutes=minute)
        end = start + timedelta(seconds=4) if ended else None
        update = EventUpdate(name, 1, "gate", kind, "fight", start, end, 0.0, 4.0 if ended else None, 0.9, "m")
        repository.apply_updates([update], media)
        if clip:
            repository.store_clip(name, 0, b"x", 1, media)
        if verdict is not None:
            repository.set_verdict(name, verdict)

    event("a", 0)
    event("b", 1, verdict=Verdict.REJECTED)
    event("c", 2, clip=False)
    event("d", 3, verdict=None)
    event("e", 4, kind=EventKind.ANOMALY)
    event("f", 5, ended=False)
    found = repository.judged_clips(media, 10)
    assert [(clip.verdict, clip.duration_s, clip.path.is_file()) for clip in found] == [
        (Verdict.REJECTED, 4.0, True),
        (Verdict.CONFIRMED, 4.0, True),
    ]
    assert len(repository.judged_clips(media, 1)) == 1
