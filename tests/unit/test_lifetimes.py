"""Folders and children that end with the process they belong to."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil

from streamkd_service.runtime.lifetimes import make_folder, remove_folders

PARENT = """
import signal, subprocess, sys, time
from streamkd_service.runtime.lifetimes import dies_with_parent
child = subprocess.Popen(["sleep", "60"], preexec_fn=dies_with_parent(signal.SIGTERM))
print(child.pid, flush=True)
time.sleep(60)
"""


def test_a_child_ends_with_a_parent_that_is_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_folders_of_dead_processes_are_removed_and_others_are_kept(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    for name, pid in {"dead": ended.pid, "alive": os.getppid()}.items():
        (tmp_path / f"x-{name}").mkdir()
        (tmp_path / f"x-{name}" / "owner").write_text(str(pid))
    (tmp_path / "x-foreign").mkdir()
    mine = make_folder("x-", str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"x-alive", "x-foreign", mine.name}
    remove_folders("x-", str(tmp_path), own=True)
    assert {path.name for path in tmp_path.iterdir()} == {"x-alive", "x-foreign"}
