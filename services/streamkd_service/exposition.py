"""Prometheus' text format, version 0.0.4, written fast: a page of a thousand cameras has tens of thousands of samples.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_Key = TypeVar("_Key", bound=tuple[str, ...])
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SPECIAL = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}
_SERIES_CACHED = 2**14  # label sets of workers repeat at every scrape; cameras keep theirs themselves


@dataclass(slots=True)
class Family:
    """One metric with its samples; the name without the suffix of its kind."""

    name: str
    kind: str  # "counter", "gauge" or "histogram"
    text: str
    labels: tuple[str, ...] = ()
    _lines: list[str] = field(default_factory=list)

    def add(self, values: Mapping[_Key, float]) -> Family:
        """Samples by label values."""
        name = f"{self.name}_total" if self.kind == "counter" else self.name
        labels = self.labels
        self._lines += [f"{name}{label_set(labels, key)} {number(value)}" for key, value in values.items()]
        return self

    def add_lines(self, lines: Iterable[str]) -> Family:
        """Samples that are written already, each beginning with its `series`; several may be joined by newlines."""
        self._lines += lines
        return self

    def add_histogram(self, key: tuple[str, ...], buckets: Sequence[tuple[float, int]], total: float) -> Family:
        """A histogram's buckets, each (upper bound, cumulative count), the last of them infinite, and its sum."""
        for bound, count in buckets:
            shown = label_set((*self.labels, "le"), (*key, number(bound)))
            self._lines.append(f"{self.name}_bucket{shown} {number(count)}")
        if buckets:
            own = label_set(self.labels, key)
            self._lines.append(f"{self.name}_count{own} {number(buckets[-1][1])}")
            self._lines.append(f"{self.name}_sum{own} {number(total)}")
        return self

    def __str__(self) -> str:
        name = f"{self.name}_total" if self.kind == "counter" else self.name
        text = self.text.replace("\\", "\\\\").replace("\n", "\\n")
        return "\n".join((f"# HELP {name} {text}", f"# TYPE {name} {self.kind}", *self._lines, ""))


def render(families: Iterable[Family]) -> bytes:
    """The page."""
    return "".join(map(str, families)).encode()


def series(name: str, labels: tuple[str, ...], values: tuple[str, ...]) -> str:
    """What a sample begins with: all but its value."""
    return f"{name}{label_set(labels, values)} "


@lru_cache(maxsize=_SERIES_CACHED)
def label_set(labels: tuple[str, ...], values: tuple[str, ...]) -> str:
    """`{camera="gate",state="online"}`; empty without labels."""
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(labels, values, strict=True)) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def number(value: float) -> str:
    """A value as the format has it."""
    text = repr(float(value))
    return _SPECIAL.get(text, text)


__all__ = ["CONTENT_TYPE", "Family", "label_set", "number", "render", "series"]
