"""`docs/results/performance.md`: a section a benchmark, between its own markers, replaced by the run that made it.

A section is plain Markdown between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`; everything else in the file is
written by hand and left alone.
"""

from __future__ import annotations

import math
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from streamkd.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

PERFORMANCE = Path("docs/results/performance.md")
_TITLE = "# Performance\n\nEvery section is the output of the command that it names, on the machine that it names.\n"
_NAME = re.compile(r"[a-z][a-z0-9-]*")


def replace_section(text: str, name: str, body: str) -> str:
    """The document with the section `name` holding `body`; a section that is not there yet is added at the end.

    Raises:
        ValueError: The name can't be a marker, or the body holds a marker of its own.
    """
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    if not _NAME.fullmatch(name) or "<!-- /bench:" in body:
        raise ValueError(f"section {name!r} can't be written: bad name, or a marker in its body")
    section = f"{begin}\n{body.strip()}\n{end}"
    found = re.search(f"{re.escape(begin)}.*?{re.escape(end)}", text, re.DOTALL)
    if found:
        return f"{text[: found.start()]}{section}{text[found.end() :]}"
    return f"{text.rstrip()}\n\n{section}\n"


def write_section(name: str, body: str, path: Path = PERFORMANCE) -> None:
    """Replace one benchmark's section in the file; the file is begun if it is not there.

    Raises:
        InputError: The file can't be written.
    """
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else _TITLE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(replace_section(text, name, body), encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"The report {path} can't be written: {error.strerror}.", hint="Name another file with --report."
        ) from error


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; `|` in a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def machine() -> str:
    """The machine in a line: processor, cores, memory, system, Python, day (UTC)."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8"), re.MULTILINE)
        model = found.group(1) if found else model
    memory_gib = psutil.virtual_memory().total / 2**30
    return (
        f"{model}, {psutil.cpu_count()} cores, {memory_gib:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}"
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the least value that at least `share` of all do not exceed; NaN of nothing."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


__all__ = ["PERFORMANCE", "machine", "markdown_table", "percentile", "replace_section", "write_section"]
