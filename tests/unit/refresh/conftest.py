"""The anchor clips of a refresh, and what runs it."""

from __future__ import annotations

import numpy as np
import pytest

from streamkd.media.writer import jpeg_of, write_jpeg_clip
from streamkd_service.runtime import refresh_runner
from tests.fakes import GREY, RED
from tests.refreshes import RATE_HZ, Host


@pytest.fixture(scope="module")
def anchors(tmp_path_factory):
    """Six sources, one red (fight) and one grey (normal) clip each."""
    folder = tmp_path_factory.mktemp("anchors")
    rows = ["file,label,source"]
    for source in range(6):
        for label, colour in (("fight", RED), ("normal", GREY)):
            picture = np.empty((48, 64, 3), np.uint8)
            picture[:] = np.clip(np.array(colour) - 5 * source, 0, 255)
            write_jpeg_clip(folder / f"{label}{source}.mkv", [jpeg_of(picture)] * 10, RATE_HZ)
            rows.append(f"{label}{source}.mkv,{label},source{source}")
    (folder / "clips.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


@pytest.fixture
def host(tmp_path, anchors, monkeypatch):
    monkeypatch.setattr(refresh_runner, "_TELL_EVERY_S", 0.01)
    monkeypatch.setattr(refresh_runner, "_LOOK_EVERY_S", 0.01)
    found = Host(tmp_path, anchors)
    yield found
    found.repository.close()
