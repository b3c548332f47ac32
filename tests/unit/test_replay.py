"""Replay: the live path's words about a recording, and the command that prints them."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

import streamkd
from streamkd.clock import FakeClock, SystemClock
from streamkd.config import CameraConfig, EventsConfig
from streamkd.engine import open_engine
from streamkd.errors import UnsupportedMediaError
from streamkd.events import RecordingTime
from streamkd.media.mailbox import MailboxSet
from streamkd.media.reader import CameraReader
from streamkd.pipeline import Pipeline
from streamkd.replay import analyse_frames, analyse_recording, collect, frames_of, paced, recording_camera
from streamkd.types import FrameResult
from streamkd_service.cli import EXIT_ERROR, main
from tests.fakes import GREY, RED, FakeEngine, make_frame, make_tiny_bundle

SHIPPED = Path(streamkd.__file__).parent / "assets" / "student"
EVENTS = EventsConfig(smoothing_s=0.6, min_frames=2, close_after_s=1.0)
FIGHT = [GREY] * 5 + [RED] * 15 + [GREY] * 15


def camera():
    return CameraConfig(id="cam", url="file.mp4")


def frames(colours):
    return [make_frame("cam", index * 0.2, colour) for index, colour in enumerate(colours)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_tiny_bundle(tmp_path_factory.mktemp("tiny"), bias=20.0)


@pytest.fixture(scope="module")
def alarming(bundle):
    """A student that always sees a fight."""
    return open_engine(bundle)


@pytest.fixture
def clip(demo_clips):
    with (demo_clips / "clips.csv").open() as file:
        return demo_clips / next(csv.DictReader(file))["file"]


def test_an_event_is_gathered_as_it_ended():
    replay = collect(analyse_frames(frames(FIGHT), FakeEngine(), camera(), EVENTS))
    (event,) = replay.events
    assert (event.label, event.is_open) == ("fight", False)
    assert len(replay.results) == len(FIGHT)


def test_an_event_that_is_still_open_ends_with_the_recording():
    replay = collect(analyse_frames(frames([RED] * 20), FakeEngine(), camera(), EVENTS))
    assert replay.events[0].end_pts_s == pytest.approx(19 * 0.2)


def test_two_runs_say_the_same():
    runs = [collect(analyse_frames(frames(FIGHT), FakeEngine(), camera(), EVENTS)) for _ in range(2)]
    assert runs[0] == runs[1]


def test_events_are_dated_from_the_start_that_is_given():
    start = datetime(2026, 5, 1, tzinfo=UTC)
    told = analyse_frames(frames(FIGHT), FakeEngine(), camera(), EVENTS, time_base=RecordingTime(start))
    event = collect(told).events[0]
    assert (event.start_utc - start).total_seconds() == pytest.approx(event.start_pts_s)


def test_replay_and_live_agree_on_the_same_frames():
    """Live: other cameras in the batch, another clock; the same PTS and no drops."""
    replayed = collect(analyse_frames(frames(FIGHT), FakeEngine(), camera(), EVENTS))
    live = Pipeline(FakeEngine(), EVENTS, FakeClock(), epoch="w1")
    live.add_camera(camera())
    live.add_camera(CameraConfig(id="mate", url="rtsp://h/s"))
    told = []
    for index, frame in enumerate(frames(FIGHT)):
        batch = live.process([make_frame("mate", index * 0.2, RED), frame])
        told += [result for result in batch if result.camera_id == "cam"]
    said = collect(told)
    for one, other in zip(said.results, replayed.results, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-3)
        assert one.anomaly_score == other.anomaly_score
    assert [(e.label, e.start_pts_s, e.end_pts_s) for e in said.events] == [
        (e.label, e.start_pts_s, e.end_pts_s) for e in replayed.events
    ]


def test_the_second_segment_of_a_recording_comes_after_the_first():
    told = [*frames(FIGHT), *(replace(frame, segment=1) for frame in frames(FIGHT))]
    cooled = camera().model_copy(update={"cooldown_s": 1.0})
    replay = collect(analyse_frames(told, FakeEngine(), cooled, EVENTS))
    assert replay.duration_s == pytest.approx(2 * 34 * 0.2)
    assert [event.start_pts_s for event in replay.events] == pytest.approx([replay.events[0].start_pts_s] * 2)
    assert (replay.events[1].start_utc - replay.events[0].start_utc).total_seconds() == pytest.approx(34 * 0.2)


def test_frames_are_held_back_to_their_pace():
    clock = FakeClock()
    began_s = clock.monotonic_s()
    for _ in paced(frames([GREY] * 11), 2.0, clock):
        pass
    assert clock.monotonic_s() - began_s == pytest.approx(1.0)


def test_a_recording_is_named_after_its_file(tmp_path):
    assert recording_camera(tmp_path / "Front Door 01.mp4").id == "front-door-01"


def test_a_recording_with_a_strange_name_has_one_too(tmp_path):
    assert recording_camera(tmp_path / "停車場.mp4").id == "recording"


def test_a_real_clip_is_analysed_at_the_models_rate(clip, alarming):
    replay = analyse_recording(clip, alarming)
    gaps = [b.pts_s - a.pts_s for a, b in zip(replay.results, replay.results[1:], strict=False)]
    assert len(replay.results) >= 8
    assert min(gaps) > 0.1


def test_a_real_clip_has_the_name_of_its_camera_on_every_result(clip, alarming):
    assert {result.camera_id for result in analyse_recording(clip, alarming).results} == {recording_camera(clip).id}


def test_frames_have_the_size_of_the_model(clip, alarming):
    assert next(iter(frames_of(clip, alarming, "cam"))).rgb.shape == (32, 32, 3)


def watch_live(config, engine):
    """What the live path says about one camera's first connection: reader thread, mailbox, pipeline."""
    mailboxes = MailboxSet()
    live = Pipeline(engine, EventsConfig(), SystemClock(), epoch="w1")
    live.add_camera(config)
    spec = engine.spec
    reader = CameraReader(config, mailboxes, spec.rate_hz, spec.view_size, keep_aspect=spec.keeps_aspect)
    reader.start()
    told = []
    try:
        while reader.counts().reconnects == {} and not any(result.segment for result in told):
            told += live.process(mailboxes.take(0.1))
    finally:
        reader.stop()
    ends = [update for result in told if result.segment for update in result.updates]
    return collect([*(result for result in told if not result.segment), *ends, *live.remove_camera(config.id)])


@pytest.mark.parametrize("model", ["tiny", "shipped"])
def test_replay_and_a_live_reader_agree_on_a_recording(clip, bundle, model):
    """The live side decodes on its own thread, at the recording's pace, through the mailbox."""
    engine = open_engine(bundle if model == "tiny" else SHIPPED)
    engine.warm()
    config = recording_camera(clip)
    live = watch_live(config, engine)
    analysed = {result.pts_s for result in live.results}
    # On a busy machine the mailbox may have dropped a frame; what is compared is the same frames.
    same = (frame for frame in frames_of(clip, engine, config.id) if frame.pts_s in analysed)
    replayed = collect(analyse_frames(same, engine, config, EventsConfig()))
    assert len(live.results) >= 8
    assert [result.pts_s for result in live.results] == [result.pts_s for result in replayed.results]
    for one, other in zip(live.results, replayed.results, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-3)
    assert [(e.label, e.start_pts_s, e.end_pts_s) for e in live.events] == [
        (e.label, e.start_pts_s, e.end_pts_s) for e in replayed.events
    ]


def test_what_is_no_video_is_named(tmp_path, alarming):
    path = tmp_path / "notes.mp4"
    path.write_text("no video")
    with pytest.raises(UnsupportedMediaError, match=r"notes\.mp4"):
        analyse_recording(path, alarming)


def test_the_command_prints_one_json_object_a_line(clip, bundle, capsys):
    assert main(["replay", str(clip), "--json", "--model", str(bundle)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["type"] for line in lines].count("summary") == 1
    assert {line["type"] for line in lines} == {"frame", "event", "summary"}
    assert set(next(line for line in lines if line["type"] == "frame")["scores"]) == {"normal", "fight"}


def test_the_command_prints_events_for_people(clip, bundle, capsys):
    assert main(["replay", str(clip), "--model", str(bundle)]) == 0
    out = capsys.readouterr().out
    assert "fight" in out
    assert "1 event in" in out


def test_the_command_goes_on_after_a_file_that_is_no_video(tmp_path, clip, bundle, capsys):
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    assert main(["replay", str(bad), str(clip), "--model", str(bundle)]) == EXIT_ERROR
    printed = capsys.readouterr()
    assert "bad.mp4" in printed.err
    assert "1 event in" in printed.out
    assert "Traceback" not in printed.err


@pytest.mark.parametrize("speed", ["fast", "0", "-1", "inf", "nan"])
def test_a_wrong_speed_is_named(clip, bundle, capsys, speed):
    assert main(["replay", str(clip), f"--speed={speed}", "--model", str(bundle)]) == EXIT_ERROR
    assert "--speed" in capsys.readouterr().err


def test_a_model_that_is_none_is_named(tmp_path, clip, capsys):
    assert main(["replay", str(clip), "--model", str(tmp_path)]) == EXIT_ERROR
    assert "is not a model bundle" in capsys.readouterr().err


@pytest.mark.shared
def test_the_command_evaluates_the_anomaly_score(shared_data, capsys):
    assert main(["evaluate", "anomaly", "--data", str(shared_data / "ucsd-ped2"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["micro_auc"] == pytest.approx(0.880, abs=0.005)
    assert report["n"] == 2010


def test_the_command_says_what_a_folder_lacks(tmp_path, capsys):
    assert main(["evaluate", "anomaly", "--data", str(tmp_path)]) == EXIT_ERROR
    assert "labels.csv" in capsys.readouterr().err


def test_results_and_updates_are_told_apart():
    items = list(analyse_frames(frames([RED] * 20), FakeEngine(), camera(), EVENTS))
    assert [isinstance(item, FrameResult) for item in items] == [True] * 20 + [False]
