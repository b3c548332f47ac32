"""What must not outlive the process that made it: children, and temporary folders."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

_OWNER = "owner"  # a file with the pid of the process that the folder belongs to
_PR_SET_PDEATHSIG = 1  # from linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36


def make_folder(prefix: str, parent: str | None = None) -> Path:
    """A new temporary folder of this process; those of processes that are no more are deleted."""
    remove_folders(prefix, parent)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    (folder / _OWNER).write_text(str(os.getpid()), encoding="ascii")
    return folder


def remove_folders(prefix: str, parent: str | None = None, *, own: bool = False) -> None:
    """Delete the folders whose process was killed; with `own`, this process's too."""
    for owner in Path(parent or tempfile.gettempdir()).glob(f"{prefix}*/{_OWNER}"):
        try:
            pid = int(owner.read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        if not psutil.pid_exists(pid) or (own and pid == os.getpid()):
            shutil.rmtree(owner.parent, ignore_errors=True)


def dies_with_parent(number: signal.Signals) -> Callable[[], None]:
    """A `preexec_fn`: the child gets this signal when its parent ends, however it ends. Linux only."""
    return partial(_die_with, os.getpid(), number, ctypes.CDLL(None))  # loaded before the fork


def _die_with(parent: int, number: int, libc: ctypes.CDLL) -> None:
    with contextlib.suppress(AttributeError):
        libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != parent:  # it has ended meanwhile
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of grandchildren whose parent ends; an init that does not reap would keep them as zombies."""
    with contextlib.suppress(OSError, AttributeError):  # Linux only; elsewhere init does it
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


__all__ = ["adopt_orphans", "dies_with_parent", "make_folder", "remove_folders"]
