"""Real media for tests: clips whose pictures carry their number, the RTSP server, a line that goes dead."""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Self

import av
import numpy as np
import pytest
from pydantic import SecretStr

from streamkd.config import CameraConfig
from streamkd.media.mailbox import MailboxSet
from streamkd.types import Frame
from tests.ports import free_port

SYSTEM_PYTHON = "/usr/bin/python3"
RTSP_SERVER = Path(__file__).with_name("rtsp_server.py")
_BITS = 16
_START_S = 15.0


# --- clips ---------------------------------------------------------------------------------------------------------


def numbered_picture(number: int, width: int = 320, height: int = 240) -> np.ndarray:
    """`[H, W, 3]` uint8 whose upper half is a row of black and white bars: the number's bits; it survives coding."""
    picture = np.full((height, width, 3), 90, np.uint8)
    bits = np.array([255 * (number >> bit & 1) for bit in range(_BITS)], np.uint8)
    picture[: height // 2] = np.repeat(bits, width // _BITS)[None, :, None]
    picture[height // 2 :, number * 7 % width :][:, :24] = (200, 120, 40)  # something that moves
    return picture


def number_of(grey: np.ndarray) -> int:
    """The number that a picture carries, from its grey frame of any size."""
    height, width = grey.shape
    row = grey[height // 8 : height // 3].mean(0)
    bars = row[: width // _BITS * _BITS].reshape(_BITS, -1) if width % _BITS == 0 else _resample(row)
    middle = bars[:, bars.shape[1] // 4 : -(bars.shape[1] // 4) or None].mean(1)
    return int(sum(1 << bit for bit in range(_BITS) if middle[bit] > 128))


def _resample(row: np.ndarray) -> np.ndarray:
    at = (np.arange(_BITS * 16) + 0.5) / (_BITS * 16) * len(row)
    return row[at.astype(int)].reshape(_BITS, 16)


def make_clip(
    path: Path,
    *,
    frames: int = 150,
    fps: int = 15,
    gop: int = 15,
    width: int = 320,
    height: int = 240,
    b_frames: int = 0,
    slices: int = 1,
    codec: str = "libx264",
    pts: Sequence[int] | None = None,
    picture: Callable[[int], np.ndarray] | None = None,
) -> Path:
    """A clip of numbered pictures.

    Args:
        path: The file; its suffix gives the format.
        frames: How many pictures.
        fps: Frame rate.
        gop: Frames from keyframe to keyframe.
        width: Of the pictures.
        height: Of the pictures.
        b_frames: Most B-frames in a row.
        slices: Slices a picture.
        codec: Of PyAV.
        pts: Time of each picture in 1 / fps; by default 0, 1, 2, …
        picture: Makes `[H, W, 3]` uint8; numbered pictures by default.
    """
    picture = picture or (lambda number: numbered_picture(number, width, height))
    options = {}
    if codec == "libx264":
        options = {
            "preset": "ultrafast",
            "bf": str(b_frames),
            "g": str(gop),
            "keyint_min": str(gop),
            "sc_threshold": "0",
            "x264-params": f"slices={slices}:sliced-threads=0:threads=1",
        }
    with av.open(str(path), mode="w") as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, fps)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = number if pts is None else pts[number], Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make_sound(path: Path, *, seconds: float = 1.0) -> Path:
    """A file with a sound track and no picture."""
    with av.open(str(path), mode="w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, int(8000 * seconds)), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


# --- servers -------------------------------------------------------------------------------------------------------


@cache
def rtsp_missing() -> str:
    """Why the RTSP server can't run here; empty if it can."""
    check = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    try:
        done = subprocess.run([SYSTEM_PYTHON, "-c", check], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{SYSTEM_PYTHON} can't be run: {error}"
    return "" if done.returncode == 0 else f"{SYSTEM_PYTHON} has no GStreamer RTSP server: gir1.2-gst-rtsp-server-1.0"


def needs_rtsp() -> pytest.MarkDecorator:
    """Marks tests that need the RTSP server: they skip with a reason where it is missing."""
    reason = rtsp_missing()
    return pytest.mark.skipif(bool(reason), reason=reason or "the RTSP server is there")


class RtspServer:
    """The RTSP server in a process of its own; may be stopped and started again on the same port.

    Args:
        mounts: Name and H.264 MP4 of each camera.
        audio: Names of streams without video.
        user: Asked for, with `password`, if given.
        password: See `user`.
        shared: All clients of a mount see the same moment.
        port: 0 for any free one.
    """

    def __init__(
        self,
        mounts: dict[str, Path] | None = None,
        *,
        audio: Sequence[str] = (),
        user: str = "",
        password: str = "",
        shared: bool = False,
        port: int = 0,
    ) -> None:
        self.port = port or free_port()
        self._arguments = [word for name, path in (mounts or {}).items() for word in ("--mount", f"{name}={path}")]
        self._arguments += [word for name in audio for word in ("--audio-mount", name)]
        self._arguments += ["--user", user, "--password", password] if user else []
        self._arguments += ["--shared"] if shared else []
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, mount: str, *, port: int = 0, user: str = "") -> str:
        return f"rtsp://{user + '@' if user else ''}127.0.0.1:{port or self.port}/{mount}"

    def start(self) -> Self:
        command = [SYSTEM_PYTHON, str(RTSP_SERVER), "--port", str(self.port), *self._arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _START_S)
        line = self._process.stdout.readline() if ready else b""
        if not line.startswith(b"ready"):
            self.stop()
            raise RuntimeError("the RTSP server did not start")
        return self

    def stop(self, *, kill: bool = False) -> None:
        if self._process is not None:
            self._process.kill() if kill else self._process.terminate()
            self._process.wait(5)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class DeadLine:
    """A TCP proxy whose line can go dead: connections stay open, nothing passes; later everything goes on.

    While it is dead, what the server sends piles up in it, as it would in a network.
    """

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._alive = threading.Event()
        self._alive.set()
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._spawn(self._accept)

    def go_dead(self) -> None:
        self._alive.clear()

    def go_on(self) -> None:
        self._alive.set()

    def close(self) -> None:
        self._ended.set()
        self._alive.set()
        self._listener.close()
        for thread in self._threads:
            thread.join(2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _spawn(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        self._listener.settimeout(0.1)
        while not self._ended.is_set():
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to_port), 2)
            except TimeoutError:
                continue
            except OSError:
                if self._ended.is_set():
                    return
                client.close()
                continue
            self._spawn(self._pass_on, client, server)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        """Both directions; bytes are always taken from the sender, so that a backlog can build up."""
        waiting: dict[socket.socket, bytearray] = {client: bytearray(), server: bytearray()}
        other = {client: server, server: client}
        with client, server, contextlib.suppress(OSError):
            while not self._ended.is_set():
                readable, _, _ = select.select([client, server], [], [], 0.02)
                for one in readable:
                    data = one.recv(65536)
                    if not data:
                        return
                    waiting[other[one]] += data
                if self._alive.is_set():
                    for one, data in waiting.items():
                        if data:
                            one.sendall(data)
                            data.clear()


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0, what: str = "") -> float:
    """Wait for a condition; returns how long it took in seconds."""
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > timeout_s:
            raise AssertionError(f"not within {timeout_s} s: {what or condition}")
        time.sleep(0.01)
    return time.monotonic() - began_s


class KeptMailboxes(MailboxSet):
    """Mailboxes that remember every frame that is left: what a reader gave, and when, whoever empties them how fast."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[tuple[float, Frame]] = []  # monotonic time, frame

    def put(self, frame: Frame) -> Frame | None:
        self.given.append((time.monotonic(), frame))
        return super().put(frame)


def camera(url: str, camera_id: str = "cam", **settings: object) -> CameraConfig:
    """A camera's configuration; short timeouts unless given."""
    settings = {"open_timeout_s": 2.0, "read_timeout_s": 2.0} | settings
    return CameraConfig(id=camera_id, url=SecretStr(url), **settings)


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]
