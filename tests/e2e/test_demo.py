"""`streamkd demo` as a new user runs it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.processes import command_line, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]
DEMO = [sys.executable, "-m", "streamkd_service", "demo"]


def left_behind(family: list[psutil.Process]) -> list[str]:
    _, alive = psutil.wait_procs(family, timeout=1.0)
    return [command_line(process) for process in alive]


def test_it_ends_by_itself_and_is_content():
    ended = subprocess.run([*DEMO, "--seconds", "40"], capture_output=True, text=True, timeout=280, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr
    assert "fights were seen" in ended.stdout


def test_ctrl_c_ends_it_within_5_s_and_leaves_nothing(tmp_path: Path):
    said, sessions = tmp_path / "said", set(Path("/tmp").glob("skd-*"))
    with said.open("wb") as out:
        demo = psutil.Popen(DEMO, stdout=out, stderr=out, start_new_session=True)
        wait_for(lambda: b"state=online" in said.read_bytes(), timeout_s=200.0, why="a camera is online")
        family = demo.children(recursive=True)
        began_s = time.monotonic()
        demo.send_signal(signal.SIGINT)
        demo.wait(30)
    assert left_behind(family) == []
    assert set(Path("/tmp").glob("skd-*")) <= sessions
    assert time.monotonic() - began_s < 6.0  # 5 s, and the second that was waited above
