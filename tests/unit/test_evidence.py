"""What the gate looks at: anchors as filmed and in each group's look, held-out clips against the judges."""

from __future__ import annotations

import time

import numpy as np
import pytest

from streamkd.bundle import file_sha256
from streamkd.distill.labels import ClipLabels, MemberLabels, write_labels
from streamkd.engine import open_engine
from streamkd.media.writer import jpeg_of, write_jpeg_clip
from streamkd.refresh.evidence import gather, time_steps
from streamkd.refresh.gate import AS_FILMED, GateLimits
from streamkd.refresh.steps import SiteClip
from tests.fakes import GREY, RED, FakeEngine, make_tiny_bundle

CLIPS = 10  # held out, more than are scored together
GROUPS = ("day", "dusk")


def _clip(path, colour, noise_seed):
    rng = np.random.default_rng(noise_seed)
    shown = np.clip(np.array(colour) + rng.normal(0, 4, (8, 48, 64, 3)), 0, 255).astype(np.uint8)
    write_jpeg_clip(path, [jpeg_of(picture) for picture in shown], 5.0)
    return path


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Ten held-out clips and a training clip of "day", one training clip of "dusk", one that was deleted."""
    folder = tmp_path_factory.mktemp("site")
    held_out = [_clip(folder / f"{i}.mkv", RED if i % 2 else GREY, i) for i in range(CLIPS)]
    others = [_clip(folder / f"{group}.mkv", GREY, 90 + i) for i, group in enumerate(GROUPS)]
    return [
        *(SiteClip(path, file_sha256(path), "day", held_out=True) for path in held_out),
        *(SiteClip(path, file_sha256(path), group, held_out=False) for path, group in zip(others, GROUPS, strict=True)),
        SiteClip(folder / "gone.mkv", "f" * 64, "day", held_out=True),
    ]


@pytest.fixture(scope="module")
def found(site, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gate")
    anchors = folder / "anchors"
    anchors.mkdir()
    for name, colour in (("a", GREY), ("b", RED)):
        _clip(anchors / f"{name}.mkv", colour, 70)
    (anchors / "clips.csv").write_text("file,label,source\na.mkv,normal,yard\nb.mkv,fight,gate\n")
    judge = MemberLabels("judge", "judge", tuple((0.1, 0.9) if i % 2 else (0.8, 0.2) for i in range(len(site))))
    names, hashes = zip(*((clip.path.name, clip.sha256) for clip in site), strict=True)
    write_labels(folder, ClipLabels("teacher", ("normal", "fight"), names, hashes, (judge,)))
    engines = (
        open_engine(make_tiny_bundle(folder / "parent")),
        open_engine(make_tiny_bundle(folder / "candidate", bias=0.5)),
    )
    return gather(engines, anchors, folder, site, seed=0, progress=lambda *_: None)


def test_anchors_are_shown_as_filmed_and_in_each_groups_look(found):
    assert [one.name for one in found.anchors] == [AS_FILMED, *GROUPS]


def test_only_groups_with_clips_held_out_are_judged(found):
    assert [one.name for one in found.site] == ["day"]


def test_every_clip_that_is_there_is_scored_once_in_order(found, site):
    assert found.site[0].units == tuple(clip.sha256 for clip in site[:CLIPS])
    assert found.site[0].parent.shape == found.site[0].candidate.shape == (CLIPS, 2)


def test_clips_meet_what_the_judges_said_of_them(found):
    assert found.site[0].reference.argmax(axis=1).tolist() == [0, 1] * (CLIPS // 2)
    assert found.site[0].parent.argmax(axis=1).tolist() == [0, 1] * (CLIPS // 2)


class Waiting(FakeEngine):
    """Is kept waiting for the processor now and then, as a job of the lowest priority is."""

    def step(self, rgb, states):
        time.sleep(0.01)
        return super().step(rgb, states)


class Busy(FakeEngine):
    """Computes for five milliseconds more."""

    def step(self, rgb, states):
        began_s = time.process_time()
        while time.process_time() < began_s + 0.005:
            pass
        return super().step(rgb, states)


class BusyAndWaiting(Busy, Waiting):
    """Computes for as long as `Busy`, and waits too."""


def test_a_step_that_has_to_wait_is_no_slower():
    parent_ms, candidate_ms = time_steps((Busy(), BusyAndWaiting()))
    assert np.median(candidate_ms / parent_ms) < GateLimits().max_slowdown


def test_a_step_that_computes_for_longer_is_slower():
    parent_ms, candidate_ms = time_steps((FakeEngine(), Busy()))
    assert np.median(candidate_ms / parent_ms) > GateLimits().max_slowdown
