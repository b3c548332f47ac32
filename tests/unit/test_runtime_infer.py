"""An uploaded clip in its own process: the live path's words about it, and limits that its header can't talk away."""

from __future__ import annotations

import pytest

from streamkd.config import EventsConfig
from streamkd.errors import TooLargeError, UnsupportedMediaError
from streamkd_service.runtime.infer import analyse_clip
from tests.fakes import make_tiny_bundle
from tests.media import make_clip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_tiny_bundle(tmp_path_factory.mktemp("tiny"), bias=20.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("uploads")


def analyse(path, bundle, max_s=60.0):
    return analyse_clip(path, "mine.mp4", bundle, EventsConfig(min_frames=2), max_s)


def test_every_due_frame_has_scores(folder, bundle):
    analysis = analyse(make_clip(folder / "clip.mp4", frames=45), bundle)
    assert len(analysis.scores) == len(analysis.pts_s) == 15
    assert (analysis.model_version, [event.label for event in analysis.events]) == ("tiny-1", ["fight"])


def test_a_clip_that_is_too_long_is_refused(folder, bundle):
    with pytest.raises(TooLargeError, match=r"mine\.mp4 is longer than 1 s"):
        analyse(make_clip(folder / "long.mp4", frames=45), bundle, max_s=1.0)


def test_pictures_that_are_too_large_are_refused(folder, bundle):
    path = make_clip(folder / "huge.mp4", frames=1, width=4608, height=2592)
    with pytest.raises(TooLargeError, match=r"mine\.mp4 has pictures of 11\.9 megapixels"):
        analyse(path, bundle)


def test_a_container_that_uploads_may_not_have_is_refused(folder, bundle):
    with pytest.raises(UnsupportedMediaError, match=r"mine\.mp4"):
        analyse(make_clip(folder / "clip.flv", frames=15), bundle)
