"""The real things as processes: `streamkd serve` on a configuration of its own, and the RTSP server."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from streamkd_service.client import ApiClient
from tests.ports import free_port

RTSP_SERVER = Path(__file__).with_name("rtsp_server.py")
SYSTEM_PYTHON = "/usr/bin/python3"
_START_S = 90.0  # a machine that runs many tests at once is slow


def wait_for(what: Callable[[], Any], *, timeout_s: float = 30.0, why: str = "") -> Any:
    """The first true answer of `what`; fails after `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > deadline_s:
            pytest.fail(f"not within {timeout_s:.0f} s: {why or what}")
        time.sleep(0.1)


def sample(page: str, name: str, **labels: str) -> float:
    """A sample of a page of metrics, summed over the labels that are not given."""
    from prometheus_client.parser import text_string_to_metric_families

    return sum(
        found.value
        for family in text_string_to_metric_families(page)
        for found in family.samples
        if found.name == name and labels.items() <= found.labels.items()
    )


def has_rtsp_server() -> bool:
    """Whether GStreamer's RTSP server is installed."""
    check = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    if not Path(SYSTEM_PYTHON).exists():
        return False
    return subprocess.run([SYSTEM_PYTHON, "-c", check], capture_output=True, check=False).returncode == 0


class RtspServer:
    """GStreamer's RTSP server with a mount for each recording; may be killed and started again on its port."""

    def __init__(self, mounts: dict[str, Path]) -> None:
        self.port = free_port()
        self._mounts = mounts
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def url(self, name: str) -> str:
        return f"rtsp://127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        mounts = [word for name, path in self._mounts.items() for word in ("--mount", f"{name}={path}")]
        self._process = subprocess.Popen(
            [SYSTEM_PYTHON, str(RTSP_SERVER), "--port", str(self.port), *mounts], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith(b"ready")

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._process = None


class Service:
    """`streamkd serve`, its API, and its processes."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        self.folder = folder
        self.port = free_port()
        self.config = {
            "store": {
                "url": f"sqlite:///{folder / 'streamkd.db'}",
                "media_dir": str(folder / "media"),
                "models_dir": str(folder / "models"),
            },
            "api": {"port": self.port},
            **sections,
        }
        self.path = folder / "streamkd.yaml"
        self.log = folder / "service.log"
        self.api = ApiClient(f"http://127.0.0.1:{self.port}")
        self.process: psutil.Popen | None = None

    def start(self) -> None:
        """Start it and wait until every worker has the model."""
        self.launch()
        wait_for(self._ready, timeout_s=_START_S, why="the service is ready")

    def launch(self) -> None:
        """Start it and wait for nothing."""
        self.path.write_text(yaml.safe_dump(self.config), encoding="utf-8")
        with self.log.open("ab") as log:
            self.process = psutil.Popen(
                [sys.executable, "-m", "streamkd_service", "serve", "--config", str(self.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"RAY_ADDRESS": "127.0.0.1:1"},  # must be ignored
                start_new_session=True,
            )

    def _ready(self) -> bool:
        if self.process.poll() is not None:
            pytest.fail(f"the service ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}")
        with contextlib.suppress(Exception):
            return "ready" in self.api.text("/readyz")
        return False

    def family(self) -> list[psutil.Process]:
        """All its processes; itself first."""
        return [psutil.Process(self.process.pid), *self.process.children(recursive=True)]

    def process_of(self, title: str) -> psutil.Process:
        """The one process whose command line holds `title`, e.g. "ray::WorkerActor"."""
        return wait_for(lambda: next((p for p in self.family() if title in command_line(p)), None), why=title)

    def interrupt(self, timeout_s: float = 30.0) -> float:
        """Ctrl-C; returns how long it took to end."""
        began_s = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout_s)
        return time.monotonic() - began_s

    def kill(self) -> None:
        """kill -9 of the driver, and a wait until nothing of it is left."""
        family = self.family()
        self.process.kill()
        self.process.wait()
        _, alive = psutil.wait_procs(family, timeout=5)
        for process in alive:
            process.kill()

    def close(self) -> None:
        self.api.close()
        if self.process is not None and self.process.poll() is None:
            family = self.family()
            with contextlib.suppress(psutil.TimeoutExpired):
                self.interrupt(10.0)
            for process in family:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            self.process.wait()

    # --- what tests ask --------------------------------------------------------------------------------------------

    def status(self, camera_id: str) -> dict[str, Any]:
        return self.api.get(f"/v1/cameras/{camera_id}")["status"]

    def wait_state(self, camera_id: str, *states: str, timeout_s: float = 30.0) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            status = self.status(camera_id)
            return status if status["state"] in states else None

        return wait_for(reached, timeout_s=timeout_s, why=f"{camera_id} is {' or '.join(states)}")

    def counter(self, name: str, **labels: str) -> float:
        """A sample of /metrics, summed over the labels that are not given."""
        return sample(self.api.text("/metrics"), name, **labels)

    def events(self, **query: Any) -> list[dict[str, Any]]:
        return self.api.get("/v1/events", **query)["events"]


def session_folders(*driver_pids: int) -> list[Path]:
    """Folders of these drivers' Ray sessions; other services on this machine have theirs."""
    found = []
    for owner in Path("/tmp").glob("skd-*/owner"):
        with contextlib.suppress(FileNotFoundError):  # of another service that ends just now
            if owner.read_text(encoding="ascii") in map(str, driver_pids):
                found.append(owner.parent)
    return found


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@contextlib.contextmanager
def started(service: Service) -> Iterator[Service]:
    try:
        service.start()
        yield service
    finally:
        service.close()
