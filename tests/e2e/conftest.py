"""One RTSP server and one service that most end-to-end tests share."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import make_tiny_bundle
from tests.processes import RtspServer, Service, has_rtsp_server, started

# The tiny student says "fight" to everything: events come and go every few seconds, whatever the clips show.
ALARMING = {"min_frames": 2, "smoothing_s": 0.4, "max_duration_s": 2.0, "close_after_s": 0.5}
QUICK = {"cooldown_s": 0.5, "anomalies": False, "open_timeout_s": 3.0, "read_timeout_s": 3.0}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mine = [item for item in items if "tests/e2e/" in item.nodeid]
    if mine and not has_rtsp_server():
        skip = pytest.mark.skip(reason="GStreamer's RTSP server is not installed; make setup names the packages")
        for item in mine:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory, demo_clips: Path) -> Path:
    """Real surveillance footage, two scenes in turn; so long that no camera comes to its end while tests look on."""
    from streamkd.media.prepare import join_clips

    path = tmp_path_factory.mktemp("recordings") / "street.mp4"
    join_clips([demo_clips / "clips" / name for name in ("fi001.mp4", "nofi001.mp4")], path, min_duration_s=600.0)
    return path


@pytest.fixture(scope="session")
def alarming_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "alarming", version="alarming", bias=20.0)


@pytest.fixture(scope="session")
def rtsp(recording: Path) -> Iterator[RtspServer]:
    server = RtspServer({"gate": recording, "yard": recording, "door": recording})
    yield server
    server.kill()


@pytest.fixture(scope="session")
def silent_port() -> Iterator[int]:
    """A server that takes connections and never says a word."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(16)
    held: list[socket.socket] = []

    def hold() -> None:
        while True:
            try:
                held.append(listener.accept()[0])
            except OSError:
                return

    threading.Thread(target=hold, daemon=True).start()
    yield listener.getsockname()[1]
    for connection in held:
        connection.close()
    listener.close()


@pytest.fixture(scope="module")  # two cameras are analysed all the time: not beside the tests of other files
def service(
    tmp_path_factory: pytest.TempPathFactory, rtsp: RtspServer, silent_port: int, alarming_bundle: Path
) -> Iterator[Service]:
    """Two live cameras, one that does not exist, one that is silent."""
    cameras = [
        {"id": "gate", "url": rtsp.url("gate")},
        {"id": "yard", "url": rtsp.url("yard")},
        {"id": "absent", "url": rtsp.url("absent")},
        {"id": "silent", "url": f"rtsp://127.0.0.1:{silent_port}/silent"},
    ]
    service = Service(
        tmp_path_factory.mktemp("service"),
        cameras=[camera | QUICK for camera in cameras],
        student={"bundle": str(alarming_bundle)},
        events=ALARMING,
    )
    with started(service):
        yield service
