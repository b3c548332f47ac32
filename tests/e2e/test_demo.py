"""`streamkd demo` as a new user runs it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from tests.processes import command_line, session_folders, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]
DEMO = [sys.executable, "-m", "streamkd_service", "demo"]


def left_behind(family: list[psutil.Process]) -> list[str]:
    _, alive = psutil.wait_procs(family, timeout=1.0)
    return [command_line(process) for process in alive]


@contextlib.contextmanager
def started(folder: Path, prefix: Sequence[str] = ()) -> Iterator[psutil.Popen]:
    """A demo with a camera online; what is left of it in the end is killed."""
    said = folder / "said"
    with said.open("wb") as out:
        demo = psutil.Popen([*prefix, *DEMO], stdout=out, stderr=out, start_new_session=True)
    family: list[psutil.Process] = []
    try:
        wait_for(lambda: b"state=online" in said.read_bytes(), timeout_s=200.0, why="a camera is online")
        family = demo.children(recursive=True)
        yield demo
    finally:
        for process in (demo, *family):
            with contextlib.suppress(psutil.Error):
                process.kill()
        demo.wait()


def test_it_ends_by_itself_and_is_content():
    ended = subprocess.run([*DEMO, "--seconds", "40"], capture_output=True, text=True, timeout=280, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr
    assert "fights were seen" in ended.stdout


@pytest.mark.parametrize("start", [[], ["sh", "-c", "trap '' INT; exec \"$@\"", "-"]], ids=["shell", "background job"])
def test_ctrl_c_ends_it_within_5_s_and_leaves_nothing(tmp_path: Path, start: list[str]):
    with started(tmp_path, start) as demo:
        family = demo.children(recursive=True)
        began_s = time.monotonic()
        demo.send_signal(signal.SIGINT)
        demo.wait(30)
        left = left_behind(family)
    assert (left, session_folders(*(process.pid for process in family))) == ([], [])
    assert time.monotonic() - began_s < 6.0  # 5 s, and the second that was waited above


def test_kill_9_leaves_no_service_behind(tmp_path: Path):
    with started(tmp_path) as demo:
        family = demo.children(recursive=True)
        demo.kill()
        _, left = psutil.wait_procs(family, timeout=10.0)
    assert ([command_line(process) for process in left], session_folders(*(p.pid for p in family))) == ([], [])
