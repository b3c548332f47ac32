"""What a long command says on standard error while it works."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def bars() -> Iterator[Callable[[str, float], None]]:
    """A progress bar per stage on a terminal; a stage is what stands before the first comma."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as shown:
        tasks: dict[str, object] = {}

        def progress(what: str, share: float) -> None:
            stage = what.split(",", maxsplit=1)[0]
            if stage not in tasks:
                tasks[stage] = shown.add_task(what, total=1.0)
            shown.update(tasks[stage], description=what, completed=share)  # type: ignore[arg-type]

        yield progress


def warn(line: str) -> None:
    """A line about something that is left out or looks wrong, while the rest goes on."""
    Console(stderr=True).print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)


def say(what: str) -> None:
    """What is done now."""
    print(f"… {what}", file=sys.stderr)


__all__ = ["bars", "say", "warn"]
