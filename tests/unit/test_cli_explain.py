"""`streamkd explain` on a shipped clip, and its refusals."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from streamkd.errors import DependencyError
from streamkd_service.cli import main
from streamkd_service.cli.needs import need_torch


@pytest.fixture
def clip(demo_clips):
    return min((demo_clips / "clips").glob("fi*.mp4"))


def test_a_clip_becomes_a_picture(clip, tmp_path, capsys):
    pytest.importorskip("torch", reason="needs the train extra")
    picture = tmp_path / "why.png"
    assert main(["explain", str(clip), "--out", str(picture), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    with Image.open(picture) as drawn:
        assert drawn.width % len(told["at_s"]) == 0
    assert told["label"] == "fight"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such-file.mp4"], "neither a file nor the id of an event"),
        (["{clip}", "--label", "dance"], "no class 'dance'"),
        (["{clip}", "--start", "3", "--end", "1"], "not after"),
        (["{clip}", "--out", "{clip}/x.png"], "can't be written"),
        (["00000000-0000-0000-0000-000000000000", "--url", "http://127.0.0.1:9"], "No streamkd service answers"),
    ],
)
def test_what_can_not_be_explained_is_refused_in_one_line(clip, capsys, arguments, said):
    pytest.importorskip("torch", reason="needs the train extra")
    assert main(["explain", *[one.format(clip=clip) for one in arguments]]) == 2
    assert said in capsys.readouterr().err


def test_without_torch_it_says_what_to_install():
    with pytest.raises(DependencyError, match="no_such_package") as refused:
        need_torch("streamkd explain", ("no_such_package",))
    assert "streamkd[train]" in str(refused.value.hint)
