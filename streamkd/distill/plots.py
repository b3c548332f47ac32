"""Small plots as inline SVG: no script, no font, no file beside the page."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#805ad5", "#b83280", "#718096", "#d69e2e", "#319795")
WIDTH, HEIGHT = 552, 280
LEFT, RIGHT, TOP, BOTTOM = 52, 144, 14, 38  # the legend stands right of the curves


@dataclass(frozen=True, slots=True)
class Line:
    """One curve."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def line_chart(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    diagonal: bool = False,
) -> str:
    """Curves with axes and a legend, as an `<svg>`; values that are not finite are left out."""
    xs = _finite([value for line in lines for value in line.x])
    ys = _finite([value for line in lines for value in line.y])
    x0, x1 = x_range or _range(xs)
    y0, y1 = y_range or _range(ys)

    def at(x: float, y: float) -> tuple[float, float]:
        across, up = (x - x0) / (x1 - x0), (y - y0) / (y1 - y0)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [_axes(x0, x1, y0, y1, x_label, y_label)]
    if diagonal:
        (ax, ay), (bx, by) = at(x0, y0), at(x1, y1)
        parts.append(f'<path d="M{ax:.1f} {ay:.1f}L{bx:.1f} {by:.1f}" stroke="#aaa" stroke-dasharray="4 3"/>')
    for index, line in enumerate(lines):
        colour = COLOURS[index % len(COLOURS)]
        points = [at(x, y) for x, y in zip(line.x, line.y, strict=True) if np.isfinite(x) and np.isfinite(y)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{colour}"/>' for x, y in points if len(points) < 25]
        place = TOP + 12 + 14 * index
        where = f'x="{WIDTH - RIGHT + 8}" y="{place}" style="fill:{colour}"'
        parts.append(f"<text {where}>{escape(line.name)}</text>")
    return _svg(parts)


def bar_chart(
    edges: Sequence[float], heights: Sequence[float], *, x_label: str, y_label: str, diagonal: bool = False
) -> str:
    """Bars between `edges` (one more than `heights`), both from 0 to 1; a height of NaN is an empty bin."""
    parts = [_axes(0.0, 1.0, 0.0, 1.0, x_label, y_label)]
    across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    for low, high, height in zip(edges[:-1], edges[1:], heights, strict=True):
        if np.isfinite(height):
            x, width, tall = LEFT + low * across, (high - low) * across - 1, height * up
            y = HEIGHT - BOTTOM - tall
            parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{tall:.1f}" fill="{COLOURS[0]}"/>')
    if diagonal:
        ends = f"M{LEFT} {HEIGHT - BOTTOM}L{WIDTH - RIGHT} {TOP}"
        parts.append(f'<path d="{ends}" stroke="#aaa" stroke-dasharray="4 3"/>')
    return _svg(parts)


def heat_table(counts: NDArray[np.int64], names: Sequence[str], *, rows: str, columns: str) -> str:
    """A matrix of counts as an HTML table, shaded by the share of its row."""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = [f"<tr><th>{escape(rows)} \\ {escape(columns)}</th>{head}</tr>"]
    for name, row in zip(names, counts.tolist(), strict=True):
        total = max(sum(row), 1)
        cells = "".join(
            f'<td style="background:rgba(43,108,176,{0.75 * value / total:.2f})">{value}</td>' for value in row
        )
        lines.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return f'<table class="matrix">{"".join(lines)}</table>'


def _axes(x0: float, x1: float, y0: float, y1: float, x_label: str, y_label: str) -> str:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#444"/>']
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = LEFT + share * (right - LEFT), bottom - share * (bottom - TOP)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#eee"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{x0 + share * (x1 - x0):.3g}</text>')
        parts.append(f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{y0 + share * (y1 - y0):.3g}</text>')
    middle = (LEFT + right) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    turn = f"rotate(-90 12 {(TOP + bottom) / 2})"
    parts.append(
        f'<text x="12" y="{(TOP + bottom) / 2}" transform="{turn}" text-anchor="middle">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _svg(parts: Sequence[str]) -> str:
    body = "".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">{body}</svg>'


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if np.isfinite(value)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


__all__ = ["Line", "bar_chart", "heat_table", "line_chart"]
