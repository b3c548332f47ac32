"""`streamkd demo`: real RTSP cameras on this machine, the real service on them, a live table; nothing left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

import streamkd
from streamkd.errors import DependencyError, InputError, StreamkdError, UnavailableError
from streamkd.shipped import SHIPPED_STUDENT
from streamkd_service.cli import EXIT_INTERRUPTED
from streamkd_service.client import ApiClient
from streamkd_service.demo_media import DUSK, DemoCamera, cache_folder, plan_cameras, read_clips
from streamkd_service.runtime.lifetimes import dies_with_parent, make_folder
from streamkd_service.top import LiveTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_REPOSITORY = Path(streamkd.__file__).resolve().parents[1]
_SYSTEM_PYTHON = "/usr/bin/python3"  # GStreamer's bindings come with Debian's Python
_LEAST_DURATION_S = 300.0
_SERVER_START_S = 15.0
_SERVICE_START_S = 60.0
_SERVICE_STOP_S = 4.5
_FIGHT = "fight"


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line may change."""

    seconds: float | None = None  # None: until Ctrl-C
    clips: Path = _REPOSITORY / "tests" / "data" / "demo"
    rtsp_server: Path = _REPOSITORY / "tests" / "rtsp_server.py"
    port: int = 0  # 0: any free one
    cold_start: bool = False  # with a student that knows nothing yet


def run_demo(options: DemoOptions, console: Console) -> int:
    """Run the demo; returns 0 if every camera came online and a fight was seen (or Ctrl-C ended it before it could be).

    Raises:
        StreamkdError: Something that the demo stands on is missing or does not start.
    """
    if not options.rtsp_server.is_file():
        raise InputError(
            f"The RTSP server {options.rtsp_server} is missing.",
            hint="Run the demo from a clone of the repository, or name the script with --rtsp-server.",
        )
    for number in (signal.SIGINT, signal.SIGTERM):  # however it is ended, it cleans up; also where SIGINT was ignored
        signal.signal(number, signal.default_int_handler)
    cameras = plan_cameras(read_clips(options.clips))
    recordings = _prepare(cameras, console)
    folder = make_folder("streamkd-demo-")
    began_s = time.monotonic()
    interrupted = False
    table: LiveTable | None = None
    try:
        student = _cold_student(options.clips, folder, console) if options.cold_start else None
        with contextlib.ExitStack() as stack:
            urls = stack.enter_context(_rtsp_server(options.rtsp_server, recordings, folder))
            api_port = options.port or _free_port()
            service = stack.enter_context(_service(folder, cameras, urls, api_port, student))
            client = stack.enter_context(ApiClient(f"http://127.0.0.1:{api_port}"))
            try:
                _wait_ready(client, service, folder)
                _say_where(console, client.url)
                until = _Until(service, options.seconds)
                table = LiveTable(client, console, until, title="streamkd demo")
                table.run()
            except KeyboardInterrupt:
                interrupted = True
            stopping_s = time.monotonic()
        console.print(f"Stopped in {time.monotonic() - stopping_s:.1f} s.", highlight=False)
        if service.returncode not in {0, -signal.SIGINT, *([EXIT_INTERRUPTED] if interrupted else [])}:
            raise UnavailableError(f"The service ended with status {service.returncode}: {_tail(folder)}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if table is None:
        return 130
    missing = _summary(console, cameras, table, time.monotonic() - began_s, fights=not options.cold_start)
    return 1 if missing and not (interrupted and options.seconds is None) else 0


class _Until:
    """Ends the table after so many seconds, or when the service has ended."""

    def __init__(self, service: subprocess.Popen[bytes], seconds: float | None) -> None:
        self._service = service
        self._end_s = None if seconds is None else time.monotonic() + seconds

    def __call__(self) -> bool:
        return self._service.poll() is not None or (self._end_s is not None and time.monotonic() >= self._end_s)


def _prepare(cameras: Sequence[DemoCamera], console: Console) -> dict[str, Path]:
    """One recording of at least five minutes for each camera, made once."""
    from streamkd.media.prepare import join_clips  # noqa: PLC0415 - loads FFmpeg

    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    recordings = {camera.id: cache / camera.cache_name() for camera in cameras}
    absent = [camera for camera in cameras if not recordings[camera.id].is_file()]
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not absent) as bars:
        for camera in absent:
            bar = bars.add_task(f"Preparing camera {camera.id} (once)", total=1.0)
            target = recordings[camera.id]
            part = target.with_suffix(f".{os.getpid()}.part.mp4")
            join_clips(
                [clip.path for clip in camera.clips],
                part,
                min_duration_s=_LEAST_DURATION_S,
                restyle=partial(DUSK.apply, rng=np.random.default_rng(0)) if camera.dusk else None,
                progress=partial(_advance, bars, bar),
            )
            part.replace(target)
    return recordings


def _advance(bars: Progress, bar: TaskID, share: float) -> None:
    bars.update(bar, completed=share)


def _cold_student(clips: Path, folder: Path, console: Console) -> Path:
    """A student that gives every class the same probability; made by torch, in a process of its own."""
    out = folder / "cold-start"
    with console.status("Making a student that knows nothing yet (about 20 s)"):
        made = subprocess.run(  # noqa: S603 - ourselves
            [sys.executable, "-m", "streamkd.distill.cold", str(SHIPPED_STUDENT), str(clips), str(out)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    if made.returncode:
        why = (made.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise UnavailableError(f"No such student could be made: {why}.", hint="It needs torch: run make setup.")
    console.print("The student knows nothing yet: no event will open until a refresh has taught it.", highlight=False)
    return out


@contextlib.contextmanager
def _rtsp_server(script: Path, recordings: dict[str, Path], folder: Path) -> Iterator[dict[str, str]]:
    """Serve every recording as a camera; gives the URL of each."""
    port = _free_port()
    mounts = [word for name, path in recordings.items() for word in ("--mount", f"{name}={path}")]
    log = folder / "rtsp-server.log"
    with log.open("wb") as errors:
        server = subprocess.Popen(  # noqa: S603 - our own script
            [_SYSTEM_PYTHON, str(script), "--port", str(port), *mounts],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            preexec_fn=dies_with_parent(signal.SIGKILL),  # noqa: PLW1509 - no other thread runs here
        )
    try:
        assert server.stdout is not None
        os.set_blocking(server.stdout.fileno(), False)
        deadline_s = time.monotonic() + _SERVER_START_S
        said = b""
        while b"ready" not in said.lower():
            said += server.stdout.read() or b""
            if server.poll() is not None or time.monotonic() > deadline_s:
                reason = (log.read_text(errors="replace").strip().splitlines() or ["it says nothing"])[-1]
                raise DependencyError(
                    f"The RTSP server did not start: {reason}.", hint="Run make setup; it names the Debian packages."
                )
            time.sleep(0.05)
        yield {name: f"rtsp://127.0.0.1:{port}/{name}" for name in recordings}
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(1.0)
        server.kill()
        server.wait()


def demo_config(
    folder: Path, cameras: Sequence[DemoCamera], urls: dict[str, str], port: int, student: Path | None
) -> dict[str, Any]:
    """What the demo's service is configured with; `student` is the one that knows nothing, None the shipped one."""
    config: dict[str, Any] = {
        "cameras": [
            {"id": camera.id, "url": urls[camera.id], "group": "dusk" if camera.dusk else "day"} for camera in cameras
        ],
        "api": {"port": port},
        # Each camera plays half a minute over and over: nearly all of a minute is kept, so that enough different
        # moments are held back for the gate to judge by. And "fights" shows one every twenty seconds: that many alarms
        # are no reason to take a student back.
        "refresh": {"clips_per_camera": 24, "watch_alarms_per_hour": 200},
        "store": {
            "url": f"sqlite:///{folder / 'streamkd.db'}",
            "media_dir": str(folder / "media"),
            "models_dir": str(folder / "models"),
        },
    }
    if student is not None:
        config["student"] = {"bundle": str(student)}
    return config


@contextlib.contextmanager
def _service(
    folder: Path, cameras: Sequence[DemoCamera], urls: dict[str, str], port: int, student: Path | None
) -> Iterator[subprocess.Popen[bytes]]:
    """`streamkd serve` on a configuration of its own, in a process group of its own: Ctrl-C is ours to pass on."""
    config = demo_config(folder, cameras, urls, port, student)
    path = folder / "demo.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    with (folder / "service.log").open("wb") as log:
        service = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", "streamkd_service", "serve", "--config", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=dies_with_parent(signal.SIGTERM),  # noqa: PLW1509 - no other thread runs here
        )
    try:
        yield service
    finally:
        stop_service(service)


def stop_service(service: subprocess.Popen[bytes], patience_s: float = _SERVICE_STOP_S) -> None:
    """Ask the service to stop as Ctrl-C does; what is left of it afterwards is killed."""
    family: list[psutil.Process] = []
    try:
        with contextlib.suppress(psutil.Error):
            family = psutil.Process(service.pid).children(recursive=True)
        service.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            service.wait(patience_s)
    except KeyboardInterrupt:  # a second Ctrl-C means: at once
        pass
    finally:
        if service.poll() is None:
            service.kill()
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.kill()
        service.wait()


def _wait_ready(client: ApiClient, service: subprocess.Popen[bytes], folder: Path) -> None:
    deadline_s = time.monotonic() + _SERVICE_START_S
    while True:
        try:
            client.text("/healthz")
        except StreamkdError:
            if service.poll() is not None:
                raise UnavailableError(f"The service did not start: {_tail(folder)}") from None
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.2)
        else:
            return


def _tail(folder: Path) -> str:
    lines = (folder / "service.log").read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it says nothing"


def _say_where(console: Console, url: str) -> None:
    console.print(f"Page     {url}/\nAPI      {url}/docs\nMetrics  {url}/metrics\nCtrl-C ends it.", highlight=False)


def _summary(
    console: Console, cameras: Sequence[DemoCamera], table: LiveTable, ran_s: float, *, fights: bool
) -> list[str]:
    """Print how it went; returns what is missing for a success."""
    seen = table.seen
    offline = [camera.id for camera in cameras if camera.id not in seen.ever_online]
    found = sum(count for (_, label), count in seen.labels.items() if label == _FIGHT)
    missing = [f"camera {name} never came online" for name in offline]
    if fights and not found:
        missing.append("no fight event was raised")
    console.print(f"\nThe demo ran for {ran_s:.0f} s on {len(cameras)} cameras.", highlight=False)
    for row in table.rows:
        labels = ", ".join(
            f"{count} {label}" for (name, label), count in sorted(seen.labels.items()) if name == row.camera
        )
        latency = "no frame" if row.latency_ms is None else f"{row.latency_ms:.0f} ms"
        console.print(
            f"  {row.camera:<8} {row.state:<9} {row.fps:4.1f} fps  {latency:>8}  {row.drops} dropped  "
            f"events: {labels or 'none'}",
            highlight=False,
        )
    console.print(
        f"Missing: {'; '.join(missing)}."
        if missing
        else f"Every camera came online{' and fights were seen' if found else ''}."
    )
    return missing


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


__all__ = ["DemoOptions", "run_demo", "stop_service"]
