"""`streamkd explain` on a shipped clip, and its refusals."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from streamkd.errors import DependencyError
from streamkd_service.cli import main
from streamkd_service.needs import need_torch


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


EVENT = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


@pytest.fixture
def service(clip):
    """Knows one event, whose clip is a shipped one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            answers = {
                f"/v1/events/{EVENT}": json.dumps({"kind": "action", "label": "fight"}).encode(),
                f"/v1/events/{EVENT}/clip.mp4": clip.read_bytes() if self.server.has_clip else b"",
            }
            body = answers.get(self.path, b"")
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.has_clip = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_an_event_is_explained_by_its_clip(service, tmp_path, capsys):
    pytest.importorskip("torch", reason="needs the train extra")
    picture = tmp_path / "event.png"
    address = f"http://127.0.0.1:{service.server_port}"
    assert main(["explain", EVENT, "--url", address, "--out", str(picture)]) == 0
    assert picture.stat().st_size > 0
    assert "saw fight at" in capsys.readouterr().out


def test_an_event_without_a_clip_is_refused_with_a_way_out(service, capsys):
    pytest.importorskip("torch", reason="needs the train extra")
    service.has_clip = False
    assert main(["explain", EVENT, "--url", f"http://127.0.0.1:{service.server_port}"]) == 2
    said = capsys.readouterr().err
    assert "no recorded clip" in said
    assert "--start" in said


def test_without_torch_it_says_what_to_install():
    with pytest.raises(DependencyError, match="no_such_package") as refused:
        need_torch("streamkd explain", ("no_such_package",))
    assert "streamkd[train]" in str(refused.value.hint)
