"""The recordings that benchmarks play, and the RTSP server that plays them, in a process of its own."""

from __future__ import annotations

import hashlib
import os
import queue
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil

import streamkd
from streamkd.errors import DependencyError, InputError, UnavailableError
from streamkd_service.demo_media import cache_folder, read_clips

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

REPOSITORY = Path(streamkd.__file__).resolve().parents[1]
CLIPS = REPOSITORY / "tests" / "data" / "demo"
SERVER = REPOSITORY / "tests" / "rtsp_server.py"
_SYSTEM_PYTHON = "/usr/bin/python3"  # GStreamer's bindings come with Debian's Python
_START_S, _ANSWER_S = 20.0, 10.0
_TICKS_HZ = 90_000  # of RTP's clock for video

FPS, GOP = 15, 30
CRF = 20.5  # gives the moving recordings about 1 Mbit/s; the still ones what their noise needs
ENCODING = f"640x480, {FPS} fps, x264 veryfast, GOP {GOP}, no B-frames, VBR (crf {CRF}, at most 2 Mbit/s)"
STILL_CLIPS = ("nofi003.mp4", "nofi080.mp4", "nofi097.mp4")  # a fixed camera each, of three sources
_STILL_S = 20.0
_VERSION = "1"  # part of the cache key: raise it when the way of making changes


@dataclass(frozen=True, slots=True)
class Content:
    """Recordings for cameras, long enough for one run; cameras take them in turn."""

    moving: tuple[Path, ...]
    still: tuple[Path, ...]

    def of(self, cameras: int, still_share: float) -> dict[str, Path]:
        """A recording for each camera; the first `1 - still_share` of them move."""
        still = round(cameras * still_share)
        moving = cameras - still
        return {
            f"cam-{index:03d}": self.moving[index % len(self.moving)]
            if index < moving
            else self.still[(index - moving) % len(self.still)]
            for index in range(cameras)
        }


def prepare_content(min_duration_s: float, *, still: bool, say: Callable[[str], None] = lambda _: None) -> Content:
    """Make the recordings, or find them in the cache.

    Raises:
        InputError: The clips of the repository are not there.
    """
    from streamkd.media.prepare import join_clips  # noqa: PLC0415 - loads FFmpeg
    from streamkd.media.scenes import Part, write_scenes  # noqa: PLC0415

    # Whole half minutes, so that runs of about one length share their recordings.
    length_s = 30.0 * max(1, -(-min_duration_s // 30.0))
    fights = [clip.path for clip in read_clips(CLIPS) if clip.label == "fight"]
    orders = [fights[turn:] + fights[:turn] for turn in range(0, len(fights), 3)]
    join = partial(join_clips, min_duration_s=length_s, crf=CRF)
    moving = [_cached(f"moving-{n}", order, length_s, say, partial(join, order)) for n, order in enumerate(orders)]
    scenes = [CLIPS / "clips" / name for name in STILL_CLIPS] if still else []
    make_still = partial(write_scenes, crf=CRF, min_duration_s=length_s)
    return Content(
        moving=tuple(moving),
        still=tuple(
            _cached(f"still-{clip.stem}", [clip], length_s, say, partial(make_still, [Part(clip, _STILL_S)]))
            for clip in scenes
        ),
    )


def _cached(
    name: str, clips: Sequence[Path], length_s: float, say: Callable[[str], None], make: Callable[[Path], None]
) -> Path:
    digest = hashlib.sha256(f"{_VERSION} {CRF} {length_s}".encode())
    for clip in clips:
        digest.update(clip.read_bytes())
    folder = cache_folder().with_name("bench")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}-{length_s:.0f}s-{digest.hexdigest()[:12]}.mp4"
    if not target.is_file():
        say(f"Making recording {target.name} (once)")
        part = target.with_suffix(f".{os.getpid()}.part.mp4")
        make(part)
        part.replace(target)
    return target


class CameraServer:
    """The RTSP server as a context; says when each camera's stream began, so that latency counts from sending.

    Args:
        recordings: A file for each camera's name.

    Raises:
        DependencyError: GStreamer's RTSP server does not start here.
    """

    def __init__(self, recordings: dict[str, Path]) -> None:
        if not SERVER.is_file():
            raise InputError(
                f"The RTSP server {SERVER} is missing.", hint="Run benchmarks from a clone of the repository."
            )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self._recordings = recordings
        self._folder = Path(tempfile.mkdtemp(prefix="streamkd-bench-"))
        self._ready = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._sent: queue.SimpleQueue[dict[str, int]] = queue.SimpleQueue()
        self.began_s: dict[str, float] = {}  # monotonic time at which the picture with PTS 0 was sent

    @property
    def urls(self) -> dict[str, str]:
        return {name: f"rtsp://127.0.0.1:{self._port}/{name}" for name in self._recordings}

    def cpu_s(self) -> float:
        """CPU time that the server has taken."""
        assert self._process is not None
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system

    def sent_ticks(self) -> dict[str, int]:
        """For each camera the RTP time of the picture that the server sent last; see `sent_s`.

        Raises:
            UnavailableError: The server does not answer.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("?\n")
            self._process.stdin.flush()
            return self._sent.get(timeout=_ANSWER_S)
        except (OSError, queue.Empty):
            raise UnavailableError("The RTSP server does not answer.", hint="Try fewer cameras.") from None

    def __enter__(self) -> Self:
        mounts = [word for name, path in self._recordings.items() for word in ("--mount", f"{name}={path}")]
        log = self._folder / "server.log"
        with log.open("wb") as errors:
            self._process = subprocess.Popen(  # noqa: S603 - our own script
                [_SYSTEM_PYTHON, str(SERVER), "--port", str(self._port), "--report", *mounts],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        threading.Thread(target=self._listen, name="rtsp-server-output", daemon=True).start()
        deadline_s = time.monotonic() + _START_S
        while not self._ready.wait(0.05):
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                lines = log.read_text(errors="replace").strip().splitlines() or ["it says nothing"]
                self.__exit__()
                raise DependencyError(
                    f"The RTSP server did not start: {lines[-1]}.", hint="Run make setup; it names the Debian packages."
                )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(2.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                words = line.split()
                if words[:1] == ["ready"]:
                    self._ready.set()
                elif words[:1] == ["playing"] and len(words) == 3:
                    self.began_s[words[1]] = float(words[2])
                elif words[:1] == ["sent"]:
                    self._sent.put({name: int(ticks) for name, _, ticks in (word.partition("=") for word in words[1:])})


def sent_s(before: Mapping[str, int], after: Mapping[str, int], passed_s: float) -> dict[str, float]:
    """Seconds of stream that each camera was sent between two answers of `sent_ticks`.

    Args:
        before: The earlier answer.
        after: The later one.
        passed_s: Time between them. A camera that connected again began to count somewhere else; where that shows (half
            as much again, and more), all of this time counts.
    """
    found = {name: (ticks - before[name]) % 2**32 / _TICKS_HZ for name, ticks in after.items() if name in before}
    return {name: one if one <= 1.5 * passed_s else passed_s for name, one in found.items()}


__all__ = ["CLIPS", "ENCODING", "FPS", "CameraServer", "Content", "prepare_content", "sent_s"]
