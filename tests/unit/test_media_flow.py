"""What is decoded when: nothing that no due frame needs, and of a still scene next to nothing until it wakes."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from pydantic import SecretStr

import streamkd
from streamkd.clock import FakeClock, SystemClock
from streamkd.config import CameraConfig, EventsConfig
from streamkd.engine import open_engine
from streamkd.media.due import DueFrames
from streamkd.media.flow import FlowCounts, PacketFlow, max_age_s
from streamkd.media.scenes import Part, measure_scene, write_scenes
from streamkd.media.source import Arrival, DecodedFrame, open_recording
from streamkd.media.stillness import Stillness, StillnessLimits
from streamkd.pipeline import Pipeline
from tests.media import make_clip

REPOSITORY = Path(streamkd.__file__).parents[1]
CLIPS = REPOSITORY / "tests" / "data" / "demo"
STILL = {"V726w0IKCp4": "nofi097.mp4"}  # by source: a clip with little but background; elsewhere nofi003
FPS, GOP = 15, 30


@cache
def picture(level):
    return av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format="rgb24")


@dataclass
class Packet:
    is_keyframe: bool


class Camera:
    """Arrivals of a made-up camera, and a decoder that says what it was given."""

    reorders = False

    def __init__(self):
        self.decoded = []
        self.value = 90  # grey level of every pixel

    def arrival(self, number, size=100, gop=GOP):
        keyframe = number % gop == 0
        at_s = number / FPS
        return Arrival(Packet(keyframe), at_s, 20_000 if keyframe else size, keyframe, 100 + at_s, 0.0)

    def decode(self, arrival):
        self.decoded.append(round((arrival.arrived_s - 100) * FPS))
        yield DecodedFrame(picture(self.value), arrival.pts_s, arrival.arrived_s, 0.0, 0.1)


def flow(camera, counts=None, **options):
    return PacketFlow(camera, DueFrames("cam", 5.0, 32), lambda decoded: [decoded], counts or FlowCounts(), **options)


def numbers(frames):
    return [round(frame.source_pts_s * FPS) for frame in frames]


def feed(subject, arrivals):
    return [frame for arrival in arrivals for frame in subject.push(arrival)]


def test_what_no_due_frame_needs_is_not_decoded():
    camera, counts = Camera(), FlowCounts()
    frames = feed(flow(camera, counts), [camera.arrival(n) for n in range(60)])
    assert numbers(frames) == list(range(0, 60, 3))
    assert camera.decoded == [*range(28), *range(30, 58)]  # 28 and 29 are followed by a keyframe
    assert counts.unneeded == 2


@pytest.mark.parametrize("first", range(1, 7))
def test_what_is_due_is_counted_from_a_keyframe_wherever_a_connection_begins(first):
    camera = Camera()
    frames = feed(flow(camera), [camera.arrival(n) for n in range(first, 90)])
    assert [number for number in numbers(frames) if number >= GOP] == list(range(GOP, 90, 3))
    assert [number for number in camera.decoded if number >= GOP] == [*range(30, 58), *range(60, 88)]


def test_a_due_frame_is_given_when_it_arrives():
    camera = Camera()
    subject = flow(camera)
    given = [numbers(subject.push(camera.arrival(n))) for n in range(7)]
    assert given == [[0], [], [], [3], [], [], [6]]


def test_without_times_everything_is_decoded_at_once():
    camera = Camera()
    subject = flow(camera)
    for number in range(5):
        at = camera.arrival(number)
        list(subject.push(Arrival(at.packet, None, at.size, at.entry, at.arrived_s, 0.0)))
    assert camera.decoded == [0, 1, 2, 3, 4]


def test_keyframes_only():
    camera = Camera()
    frames = feed(flow(camera, keyframes_only=True), [camera.arrival(n) for n in range(95)])
    assert numbers(frames) == camera.decoded == [0, 30, 60, 90]
    assert {frame.segment for frame in frames} == {0}


def test_of_a_still_scene_little_more_than_keyframes_is_analysed_and_the_rest_is_counted():
    camera, counts = Camera(), FlowCounts()
    frames = feed(flow(camera, counts, stillness=Stillness()), [camera.arrival(n) for n in range(20 * FPS + 1)])
    late = [number for number in numbers(frames) if number >= 6 * FPS]
    assert late == [number for number in range(6 * FPS, 20 * FPS + 1) if number % GOP in {0, 3}]  # 3: 1.8 s to the next
    assert counts.gated == 101 - sum(frame.same_as_s is None for frame in frames)
    assert {frame.segment for frame in frames} == {0}


def test_a_frame_of_a_still_scene_says_which_one_the_student_saw():
    camera = Camera()
    frames = feed(flow(camera, stillness=Stillness()), [camera.arrival(n) for n in range(30 * FPS)])
    seen = {frame.pts_s: frame for frame in frames if frame.same_as_s is None}
    still = [frame for frame in frames if frame.same_as_s is not None]
    assert len(still) > 0.6 * len([frame for frame in frames if frame.source_pts_s > 6])
    for frame in still:
        assert frame.same_as_s == max(pts_s for pts_s in seen if pts_s < frame.pts_s)
        assert frame.pts_s - frame.same_as_s < StillnessLimits().repeat_s
        assert frame.rgb is seen[frame.same_as_s].rgb  # and so is not converted


@pytest.mark.parametrize(("levels", "same"), [(2, True), (4, False)])
def test_what_differs_by_more_than_noise_is_seen_by_the_student(levels, same):
    camera = Camera()
    subject = flow(camera, stillness=Stillness())
    feed(subject, [camera.arrival(n) for n in range(10 * FPS + 30)])
    camera.value += levels
    (frame,) = feed(subject, [camera.arrival(10 * FPS + 30)])
    assert subject.is_still
    assert (frame.same_as_s is not None) == same


def test_what_the_student_saw_is_the_measure_of_a_slow_change():
    camera = Camera()
    subject = flow(camera, stillness=Stillness())
    feed(subject, [camera.arrival(n) for n in range(10 * FPS)])
    frames = []
    for number in range(10 * FPS, 30 * FPS):  # two levels in a group of pictures: no step of it is more than noise
        camera.value += not number % FPS
        frames += feed(subject, [camera.arrival(number)])
    seen_s = [frame.pts_s for frame in frames if frame.same_as_s is None]
    assert subject.is_still
    assert np.diff(seen_s).max() == pytest.approx(4.0)  # in every second group, sooner than after `repeat_s`


def test_after_a_gap_nothing_is_the_same():
    camera = Camera()
    subject = flow(camera, stillness=Stillness())
    frames = feed(subject, [camera.arrival(n) for n in [*range(10 * FPS), *range(20 * FPS, 20 * FPS + 1)]])
    assert (frames[-1].segment, frames[-1].same_as_s) == (1, None)


def test_where_keyframes_are_rare_the_answer_grows_no_older_than_two_seconds():
    camera = Camera()
    frames = feed(flow(camera, stillness=Stillness()), [camera.arrival(n, gop=150) for n in range(40 * FPS)])
    ages_s = np.diff([frame.source_pts_s for frame in frames])
    assert len(frames) < 100
    assert ages_s.max() <= 1.8 + 1.0 / FPS


@pytest.mark.parametrize("gop", [7, 15, 28, 30, 50, 150])
def test_answers_stay_young_and_as_little_as_can_be_is_decoded_for_it(gop):
    camera, groups = Camera(), 4
    subject = flow(camera, stillness=Stillness())
    begin = 30 * FPS // gop * gop
    feed(subject, [camera.arrival(n, gop=gop) for n in range(begin)])
    camera.decoded.clear()
    frames = feed(subject, [camera.arrival(n, gop=gop) for n in range(begin, begin + groups * gop)])
    assert np.diff([frame.source_pts_s for frame in frames]).max() <= 1.8 + 1.0 / FPS
    # What comes in the last 1.8 s before a keyframe needs no answer of its own.
    assert len(camera.decoded) <= groups * (max(0, gop - 1.8 * FPS) + 2)


def test_answers_that_shall_be_younger_from_now_on_do_not_make_every_camera_look_at_once():
    camera = Camera()
    subject = flow(camera, stillness=Stillness())
    feed(subject, [camera.arrival(n) for n in range(10 * FPS + 20)])  # looked at in the third picture of the group
    subject.max_age_s = 1.5
    assert feed(subject, [camera.arrival(n) for n in range(10 * FPS + 20, 10 * FPS + 30)]) == []
    again = feed(subject, [camera.arrival(n) for n in range(10 * FPS + 30, 10 * FPS + 60)])
    assert numbers(again) == [10 * FPS + 30, 10 * FPS + 38]  # the next group is looked at 1.5 s before its end


def test_the_next_keyframe_of_a_still_scene_is_not_slept_through():
    camera = Camera()
    subject = flow(camera, stillness=Stillness())
    feed(subject, [camera.arrival(n) for n in range(10 * FPS + 30)])  # the next one is a keyframe
    assert subject.is_still
    assert subject.quiet_until_s == pytest.approx((10 * FPS + 30) / FPS)


def test_waking_up_catches_up_from_the_last_analysed_frame():
    camera, counts = Camera(), FlowCounts()
    subject = flow(camera, counts, stillness=Stillness())
    feed(subject, [camera.arrival(n) for n in range(10 * FPS + 20)])
    assert subject.is_still
    frames = list(subject.push(camera.arrival(10 * FPS + 20, size=9000)))
    assert not subject.is_still
    assert numbers(frames) == [156, 159, 162, 165, 168]  # 153 was analysed
    assert all(frame.caught_up for frame in frames)
    assert counts.caught_up == len(frames)
    assert numbers(subject.push(camera.arrival(171, size=9000))) == [171]


def test_an_open_gop_is_decoded_through(tmp_path):
    """Pictures that come in another order than they are shown in are all decoded."""
    path = make_clip(tmp_path / "b.mp4", frames=60, b_frames=3)
    counts = FlowCounts()
    with open_recording(path, SystemClock()) as source:
        due = DueFrames("cam", 5.0, 32)
        subject = PacketFlow(source, due, lambda decoded: [decoded], counts, stillness=Stillness())
        frames = feed(subject, source.arrivals())
    assert numbers(frames) == list(range(0, 60, 3))


# --- fights in still footage: the gate changes nothing about them


def fights_by_source():
    with (CLIPS / "clips.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = {}
    for row in rows:
        found.setdefault(row["source"], {}).setdefault(row["label"], []).append(CLIPS / row["file"])
    return {source: clips for source, clips in found.items() if {"fight", "normal"} <= clips.keys()}


@pytest.fixture(scope="module")
def engine():
    loaded = open_engine(Path(streamkd.__file__).parent / "assets" / "student")
    loaded.warm()
    return loaded


def analyse(path, engine, *, gated):
    """Events of a recording as `(label, start)`, the gate's counts, and the largest gap between analysed frames."""
    counts = FlowCounts()
    config = CameraConfig(id="cam", url=SecretStr(str(path)), anomalies=False, cooldown_s=1.0)
    pipeline = Pipeline(engine, EventsConfig(), FakeClock(), "epoch")
    pipeline.add_camera(config)
    spec, events, pts_s = engine.spec, {}, []
    due = DueFrames("cam", spec.rate_hz, spec.view_size, keep_aspect=spec.keeps_aspect)
    with open_recording(path, SystemClock()) as source:
        subject = PacketFlow(source, due, lambda decoded: [decoded], counts, stillness=Stillness() if gated else None)
        for arrival in source.arrivals():
            for frame in subject.push(arrival):
                (result,) = pipeline.process([frame])
                pts_s.append(result.pts_s)
                events.update({update.id: (update.label, update.start_pts_s) for update in result.updates})
    return sorted(events.values(), key=lambda event: event[1]), counts, float(np.diff(pts_s).max())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fights_in_still_footage_are_the_same_events_as_without_the_gate(tmp_path, engine):
    plain, gated, skipped = [], [], 0
    for source, clips in fights_by_source().items():
        still = Part(CLIPS / "clips" / STILL.get(source, "nofi003.mp4"), 8.0)
        fights = [part for clip in clips["fight"][:2] for part in (Part(clip), still)]
        path = tmp_path / f"{source}.mp4"
        write_scenes([still, *fights], path, width=320, height=240, crf=22)
        plain += analyse(path, engine, gated=False)[0]
        events, counts, gap_s = analyse(path, engine, gated=True)
        gated += events
        skipped += counts.gated - counts.caught_up
        assert gap_s <= 2.1
    assert plain
    assert [label for label, _ in gated] == [label for label, _ in plain]
    frame_s = 1 / engine.spec.rate_hz + 1e-6  # 8.8 - 8.6 is a little more than 0.2 in floats
    assert [start_s for _, start_s in gated] == pytest.approx([start_s for _, start_s in plain], abs=frame_s)
    assert skipped > 100


def test_a_still_scene_has_the_noise_of_its_clip():
    scene = measure_scene(CLIPS / "clips" / "nofi080.mp4", 160, 120)
    pictures = np.stack(list(scene.pictures(30, np.random.default_rng(0)))).astype(float)
    assert 0.3 < scene.noise < 3.0
    assert pictures.std(axis=0).mean() == pytest.approx(scene.noise, rel=0.25)


def test_after_keyframes_only_decoding_goes_on_with_a_keyframe():
    camera = Camera()
    subject = flow(camera)
    feed(subject, [camera.arrival(n) for n in range(10)])
    subject.keyframes_only = True
    feed(subject, [camera.arrival(n) for n in range(10, 40)])
    subject.keyframes_only = False
    frames = feed(subject, [camera.arrival(n) for n in range(40, 70)])
    assert camera.decoded == [*range(10), 30, *range(60, 70)]
    assert numbers(frames) == [60, 63, 66, 69]


def test_keyframes_that_the_grid_does_not_meet_are_analysed_all_the_same():
    camera = Camera()
    due = DueFrames("cam", 0.3, 32)
    subject = PacketFlow(camera, due, lambda decoded: [decoded], FlowCounts(), keyframes_only=True)
    assert numbers(feed(subject, [camera.arrival(n) for n in range(125)])) == [0, 30, 60, 90, 120]


def test_a_camera_that_is_slowed_to_keyframes_is_found_still():
    camera, counts = Camera(), FlowCounts()
    subject = flow(camera, counts, stillness=Stillness(), keyframes_only=True)
    feed(subject, [camera.arrival(n) for n in range(10 * FPS)])
    assert subject.is_still
    assert camera.decoded == [0, 30, 60, 90, 120]
    subject.keyframes_only = False
    frames = feed(subject, [camera.arrival(n) for n in range(10 * FPS, 20 * FPS)])
    assert len(frames) == 10  # two a group of pictures, not ten


def test_a_camera_that_is_slowed_to_keyframes_and_moves_is_not_found_still():
    camera = Camera()
    levels = iter(np.tile([60, 120], 50))
    camera.decode = lambda arrival: iter(
        [DecodedFrame(picture(next(levels)), arrival.pts_s, arrival.arrived_s, 0.0, 0.1)]
    )
    subject = flow(camera, stillness=Stillness(), keyframes_only=True)
    feed(subject, [camera.arrival(n) for n in range(20 * FPS)])
    assert not subject.is_still


def test_of_each_group_of_pictures_the_first_part_can_be_decoded_at_the_full_rate():
    camera, counts = Camera(), FlowCounts()
    subject = flow(camera, counts)
    subject.group_share = 0.5
    frames = feed(subject, [camera.arrival(n) for n in range(120)])
    # how long a group is has to be seen once
    assert numbers(frames) == [*range(0, 30, 3), 30, 33, 36, 39, 42, 60, 63, 66, 69, 72, 90, 93, 96, 99, 102]
    assert [number for number in camera.decoded if number >= 60] == [*range(60, 73), *range(90, 103)]
    assert {frame.segment for frame in frames} == {0}


def test_past_the_part_that_is_decoded_the_reader_may_sleep_until_the_next_group():
    camera = Camera()
    subject = flow(camera)
    subject.group_share = 0.5
    feed(subject, [camera.arrival(n) for n in range(75)])
    assert subject.quiet_until_s == pytest.approx(75 / FPS)
    feed(subject, [camera.arrival(75)])
    assert subject.quiet_until_s == pytest.approx(90 / FPS)


def test_whoever_wants_whole_groups_again_gets_them_from_the_next_one_on():
    camera = Camera()
    subject = flow(camera)
    subject.group_share = 0.25
    feed(subject, [camera.arrival(n) for n in range(75)])
    subject.group_share = 1.0
    frames = feed(subject, [camera.arrival(n) for n in range(75, 105)])
    assert numbers(frames) == [90, 93, 96, 99, 102]


def test_where_groups_differ_in_length_the_longest_of_the_last_ones_counts():
    camera = Camera()
    subject = flow(camera)
    assert subject.entries_apart_s is None
    feed(subject, [camera.arrival(n) for n in range(31)])
    feed(subject, [camera.arrival(n, gop=40) for n in range(31, 45)])
    assert subject.entries_apart_s == pytest.approx(2.0)
    feed(subject, [camera.arrival(n, gop=6) for n in range(45, 67)])
    assert subject.entries_apart_s == pytest.approx(8 / FPS)


def test_while_only_keyframes_are_wanted_the_reader_may_sleep_until_the_next():
    camera = Camera()
    subject = flow(camera, keyframes_only=True)
    feed(subject, [camera.arrival(n) for n in range(GOP + 5)])
    assert subject.quiet_until_s == pytest.approx(2 * GOP / FPS)


@pytest.mark.parametrize(("latency_s", "age_s"), [(0.0, 1.8), (0.15, 1.8), (0.25, 1.7), (0.3, 1.64), (3.0, 1.6)])
def test_the_longer_answers_take_the_sooner_a_still_scene_is_looked_at_again(latency_s, age_s):
    assert max_age_s(latency_s) == pytest.approx(age_s)
