"""The live table's figures, and which clips the demo's cameras show."""

from __future__ import annotations

import pytest
from rich.console import Console

from streamkd.config import RefreshConfig
from streamkd.errors import InputError
from streamkd.refresh.watch import Alarms, WatchLimits, too_many
from streamkd_service.demo import demo_config
from streamkd_service.demo_media import DemoCamera, DemoClip, cache_folder, plan_cameras, read_clips
from streamkd_service.top import Seen, drops_of, render, rows_of

STATUS = {"state": "online", "fps_analysed": 5.0, "action": "fight", "action_score": 0.91, "latency_ms": 14.2}
CAMERA = {"id": "gate", "status": STATUS | {"detail": ""}}
METRICS = """# TYPE streamkd_frames_dropped_total counter
streamkd_frames_dropped_total{camera="gate",reason="stale"} 2.0
streamkd_frames_dropped_total{camera="gate",reason="superseded"} 3.0
streamkd_frames_dropped_total{camera="yard",reason="stale"} 0.0
"""


def test_drops_of_all_reasons_are_added():
    assert drops_of(METRICS) == {"gate": 5, "yard": 0}


def test_a_row_shows_what_the_api_says():
    row = rows_of([CAMERA], {"gate": 5}, Seen())[0]
    assert row.cells() == ("gate", "online", "5.0", "fight", "0.91", "14 ms", "5", "0")


@pytest.mark.parametrize(
    ("score", "opens_at", "shown"),
    [(0.35, 0.68, "fight"), (0.33, 0.68, "–"), (0.24, None, "–"), (0.26, None, "fight")],  # noqa: RUF001
)
def test_an_action_is_named_from_half_of_the_score_that_opens_an_event(score, opens_at, shown):
    status = STATUS | {"action_score": score, "action_opens_at": opens_at}
    row = rows_of([{"id": "gate", "status": status}], {}, Seen())[0]
    assert row.cells()[3:5] == (shown, f"{score:.2f}")


def test_a_camera_without_a_status_is_shown_all_the_same():
    assert rows_of([{"id": "gate", "status": None}], {}, Seen())[0].state == "connecting"


def test_the_table_has_a_line_for_each_camera():
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(render(rows_of([CAMERA], {}, Seen()), title="t", caption="c"))
    assert "gate" in console.export_text()


def test_an_event_is_counted_once_however_often_it_is_told():
    seen = Seen()
    told = [seen.note_event({"id": "a", "camera_id": "gate", "label": "fight"}) for _ in range(2)]
    assert (told, seen.started["gate"]) == ([True, False], 1)


def test_a_camera_that_was_online_once_is_remembered():
    seen = Seen()
    rows_of([CAMERA], {}, seen)
    assert seen.ever_online == {"gate"}


def test_the_demo_has_four_cameras_two_of_them_at_dusk(demo_clips):
    cameras = plan_cameras(read_clips(demo_clips))
    assert [(camera.id, camera.dusk) for camera in cameras] == [
        ("fights", False),
        ("lobby", False),
        ("street", True),
        ("yard", True),
    ]


def test_the_cameras_of_the_demo_show_different_clips(demo_clips):
    fights, lobby, street, yard = (set(camera.clips) for camera in plan_cameras(read_clips(demo_clips)))
    assert {clip.label for clip in fights} == {"fight", "normal"}
    assert {clip.label for clip in lobby} == {"normal"}
    assert not street & yard
    assert not fights & lobby


def test_every_fight_is_shown(demo_clips):
    clips = read_clips(demo_clips)
    shown = [clip for clip in plan_cameras(clips)[0].clips if clip.label == "fight"]
    assert sorted(clip.path for clip in shown) == sorted(clip.path for clip in clips if clip.label == "fight")


def test_the_cached_recording_is_another_one_when_a_clip_changes(tmp_path):
    path = tmp_path / "a.mp4"
    names = []
    for content in (b"one", b"two"):
        path.write_bytes(content)
        clips = [DemoClip(path, "fight", "a"), DemoClip(path, "normal", "a"), DemoClip(path, "normal", "b")]
        names.append(plan_cameras(clips)[0].cache_name())
    assert names[0] != names[1]


def test_the_cached_recording_is_another_one_at_dusk(demo_clips):
    clips = tuple(read_clips(demo_clips)[:1])
    assert DemoCamera("a", clips).cache_name() != DemoCamera("a", clips, dusk=True).cache_name()


def test_a_folder_without_clips_is_named(tmp_path):
    with pytest.raises(InputError, match=str(tmp_path)):
        read_clips(tmp_path)


def test_the_cache_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder().is_relative_to(tmp_path)


@pytest.mark.parametrize("student", [None, "cold"])
def test_in_the_demo_too_what_a_refresh_brings_is_watched(tmp_path, student):
    config = demo_config(tmp_path, [], {}, 8400, student and tmp_path / student)
    assert RefreshConfig.model_validate(config["refresh"]).watch_s > 0


def test_a_student_that_sees_the_demo_s_fights_is_not_taken_back_for_them(tmp_path):
    refresh = RefreshConfig.model_validate(demo_config(tmp_path, [], {}, 8400, None)["refresh"])
    limits = WatchLimits(alarms_per_hour=refresh.watch_alarms_per_hour)
    blind, seeing = {"fights": Alarms(0, 3600.0)}, {"fights": Alarms(21, 450.0)}  # 16 in 336 s, as a replay says
    assert too_many(blind, seeing, limits) is None
