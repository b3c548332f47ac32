"""Which processors this process may use, how many, and how busy they are. A container may have fewer."""

from __future__ import annotations

import os
import time
from math import ceil, inf
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

_CGROUPS, _MEMBER_OF = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")  # of version 2


def usable_processors() -> frozenset[int]:
    """Numbers of the processors that this thread may run on; where the system does not say (macOS), of all."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def own_group(groups: Path = _CGROUPS, member_of: Path = _MEMBER_OF) -> Path:
    """The folder of this process's control group (cgroups(7)): of its container, or of its systemd unit."""
    try:
        lines = member_of.read_text(encoding="utf-8").splitlines()
    except OSError:
        return groups
    return next((groups / line[3:].strip("/") for line in lines if line.startswith("0::/")), groups)


def quota(group: Path) -> float | None:
    """Seconds of processor time a second that a control group allows (cgroup v2, `cpu.max`); None: no limit."""
    try:
        limit, period = (group / "cpu.max").read_text(encoding="ascii").split()
        return int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such group; "max"
        return None


def usable_count(group: Path | None = None) -> int:
    """How many threads can run at a time: processors that this process may run on, within its group's quota."""
    return max(1, ceil(min(len(usable_processors()), quota(group or own_group()) or inf)))


class ProcessorLoad:
    """How busy the processors are that this process may run on, with whatever.

    Args:
        processors: Tells which these are; they may change (`streamkd_service.runtime.process.stay`).
        busy: Percent of every processor of the machine since it was last asked.
        group: The control group whose quota counts as well; None: this process's own.
        now_s: Monotonic time.
    """

    def __init__(
        self,
        processors: Callable[[], Collection[int]] = usable_processors,
        busy: Callable[[], Sequence[float]] = lambda: psutil.cpu_percent(percpu=True),
        group: Path | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._processors, self._busy, self._now_s = processors, busy, now_s
        self._group = group or own_group()
        self._used: tuple[float, float] | None = None  # when, seconds of processor time of the group until then

    def share(self) -> float:
        """What was done of what could be since the last call, 0 to 1: of the processors, or the quota if more."""
        percents = self._busy()
        ours = [percents[number] for number in self._processors() if number < len(percents)]
        return max(sum(ours) / len(ours) / 100.0 if ours else 0.0, self._share_of_quota())

    def _share_of_quota(self) -> float:
        allowed, before, now = quota(self._group), self._used, self._group_used()
        self._used = now
        if allowed is None or before is None or now is None or now[0] <= before[0]:
            return 0.0
        return min(1.0, (now[1] - before[1]) / (now[0] - before[0]) / allowed)

    def _group_used(self) -> tuple[float, float] | None:
        try:
            lines = (self._group / "cpu.stat").read_text(encoding="ascii").splitlines()
            micros = next(int(line.split()[1]) for line in lines if line.startswith("usage_usec "))
        except (OSError, ValueError, IndexError, StopIteration):
            return None
        return self._now_s(), micros / 1e6


__all__ = ["ProcessorLoad", "own_group", "quota", "usable_count", "usable_processors"]
