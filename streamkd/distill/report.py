"""A run's report: one HTML file with everything in it, that opens without a network."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import confusion_matrix, roc_curve

from streamkd.distill.plots import Line, bar_chart, heat_table, line_chart
from streamkd.evaluate.metrics import ECE_BINS, ActionMetrics

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from streamkd.distill.run import EpochLog

_STYLE = """
body{font:14px/1.45 system-ui,sans-serif;max-width:960px;margin:2rem auto;padding:0 1rem;color:#222}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse}td,th{border:1px solid #ddd;padding:.25rem .6rem;text-align:right}
th{text-align:left;background:#f7f7f7}.matrix td{text-align:center}
svg text{font:11px system-ui,sans-serif;fill:#444}svg{margin:.3rem}pre{background:#f7f7f7;padding:.8rem;overflow:auto}
.warn{color:#9c4221}
"""


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a report shows.

    Attributes:
        title: Name of the run.
        summary: Key and value, for the table at the top.
        recipe: All settings.
        history: Every epoch.
        classes: Names.
        background: The class that is no action.
        labels: `[N]` of the clips that were kept back.
        student: `[N, C]` probabilities of the int8 export.
        teacher: `[N, C]` of the teacher, None where it has not been asked.
        figures: Of student and teacher on these clips.
        warnings: In one line each.
    """

    title: str
    summary: dict[str, str]
    recipe: dict[str, Any]
    history: tuple[EpochLog, ...]
    classes: tuple[str, ...]
    background: str
    labels: NDArray[np.int64]
    student: NDArray[np.float64]
    teacher: NDArray[np.float64] | None
    figures: dict[str, ActionMetrics]
    warnings: tuple[str, ...] = ()


def write_report(path: Path, report: RunReport) -> None:
    """Write the page, complete or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(render(report), encoding="utf-8")
    partial.replace(path)


def render(report: RunReport) -> str:
    """The whole page."""
    rows = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in report.summary.items())
    warnings = "".join(f'<p class="warn">{escape(line)}</p>' for line in report.warnings)
    sections = [
        f"<h1>{escape(report.title)}</h1>{warnings}<table>{rows}</table>",
        f"<h2>Clips that were kept back</h2>{_figures(report.figures)}",
        f"<h2>Training</h2>{_curves(report.history)}",
        f"<h2>Confusion matrix</h2>{_confusion(report)}",
        f"<h2>Reliability</h2>{_reliability(report.student, report.labels)}",
        f"<h2>ROC</h2>{_roc(report)}",
        f"<h2>Recipe</h2><pre>{escape(json.dumps(report.recipe, indent=1))}</pre>",
    ]
    head = f'<meta charset="utf-8"><title>{escape(report.title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(sections)}</body></html>'


def _figures(figures: dict[str, ActionMetrics]) -> str:
    rows = {name: asdict(one) for name, one in figures.items()}
    names = list(next(iter(rows.values()), {}))
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = [f"<tr><th></th>{head}</tr>"]
    for name, values in rows.items():
        cells = "".join(f"<td>{_number(values[key])}</td>" for key in names)
        lines.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _number(value: object) -> str:
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)  # noqa: RUF001


def _curves(history: Sequence[EpochLog]) -> str:
    epochs = [entry.epoch + 1 for entry in history]
    names = list(history[0].parts) if history else []
    losses = [Line("all, weighted", epochs, [entry.loss for entry in history])]
    losses += [Line(name, epochs, [entry.parts[name] for entry in history]) for name in names]
    watched = list(history[0].watched) if history else []
    figures = [Line(name, epochs, [entry.watched.get(name, np.nan) for entry in history]) for name in watched]
    charts = [line_chart(losses, x_label="epoch", y_label="loss")]
    if figures:
        charts.append(line_chart(figures, x_label="epoch", y_label="validation", y_range=(0.0, 1.0)))
    return "".join(charts)


def _confusion(report: RunReport) -> str:
    decided = report.student.argmax(axis=1)
    counts = confusion_matrix(report.labels, decided, labels=range(len(report.classes)))
    return heat_table(counts, report.classes, rows="is", columns="said")


def reliability(probs: NDArray[np.float64], labels: NDArray[np.int64], bins: int = ECE_BINS) -> NDArray[np.float64]:
    """Share that is right in each bin of confidence `[bins]`; NaN where no clip falls."""
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    return np.array([right[which == b].mean() if np.any(which == b) else np.nan for b in range(bins)])


def _reliability(probs: NDArray[np.float64], labels: NDArray[np.int64]) -> str:
    edges = np.linspace(0.0, 1.0, ECE_BINS + 1).tolist()
    heights = reliability(probs, labels).tolist()
    return bar_chart(edges, heights, x_label="confidence", y_label="share that is right", diagonal=True)


def _roc(report: RunReport) -> str:
    lines: list[Line] = []
    for who, probs in (("student", report.student), ("teacher", report.teacher)):
        for index, name in enumerate(report.classes):
            positive = report.labels == index
            if probs is None or name == report.background or positive.all() or not positive.any():
                continue
            false, true, _ = roc_curve(positive, probs[:, index])
            lines.append(Line(f"{who}, {name}", false.tolist(), true.tolist()))
    if not lines:
        return "<p>One class only was kept back: there is no curve.</p>"
    unit = (0.0, 1.0)
    return line_chart(lines, x_label="false alarms", y_label="found", x_range=unit, y_range=unit, diagonal=True)


__all__ = ["RunReport", "reliability", "render", "write_report"]
