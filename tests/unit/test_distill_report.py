"""Reports, plots and trackers of a distillation run."""

from __future__ import annotations

import math
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import numpy as np
import pytest

pytest.importorskip("torch")

from streamkd.distill.plots import Line, bar_chart, heat_table, line_chart
from streamkd.distill.report import RunReport, reliability, render, write_report
from streamkd.distill.run import EpochLog
from streamkd.distill.tracking import open_trackers
from streamkd.errors import DependencyError
from streamkd.evaluate.metrics import action_metrics

CLASSES = ("normal", "fight")
LABELS = np.array([0, 0, 1, 1])
PROBS = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])


def made_report(**changes) -> RunReport:
    history = tuple(EpochLog(i, 1.0 / (i + 1), {"labels": 0.5}, {"accuracy": 0.5 + 0.1 * i}) for i in range(3))
    values = {
        "title": "Distillation: <mine>",
        "summary": {"seed": "0"},
        "recipe": {"name": "<mine>"},
        "history": history,
        "classes": CLASSES,
        "background": "normal",
        "labels": LABELS,
        "student": PROBS,
        "teacher": PROBS[::-1],
        "figures": {"student": action_metrics(PROBS, LABELS, CLASSES, "normal")},
        "warnings": ("a & b",),
    }
    return RunReport(**(values | changes))


class Page(HTMLParser):
    """Tags that are opened and closed, and everything that would be loaded from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loaded += [value for name, value in attrs if name in {"src", "href"}]
        if tag not in {"meta", "path", "polyline", "circle", "rect"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read(page: str) -> Page:
    parser = Page()
    parser.feed(page)
    assert not parser.open
    return parser


def test_a_report_is_one_whole_page(tmp_path):
    write_report(tmp_path / "report.html", made_report())
    page = read((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.tags.count("svg") == 4  # losses, validation, reliability, ROC
    assert page.loaded == []
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_names_are_escaped():
    page = render(made_report())
    assert "<mine>" not in page
    assert "&lt;mine&gt;" in page
    assert "a &amp; b" in page


def test_a_report_without_teacher_or_epochs():
    page = read(render(made_report(teacher=None, history=())))
    assert page.tags.count("svg") == 3


def test_one_class_alone_has_no_curve():
    assert "there is no curve" in render(made_report(labels=np.zeros(4, dtype=np.int64)))


def test_reliability_by_hand():
    # confidences 0.9 (right), 0.6 (wrong), 0.7 (right), 0.8 (right)
    found = reliability(PROBS, LABELS)
    assert found[6:].tolist() == [0.0, 1.0, 1.0, 1.0]
    assert np.isnan(found[:6]).all()


def test_a_line_goes_from_corner_to_corner():
    svg = ET.fromstring(line_chart([Line("a", [0, 1], [0, 1])], x_label="x", y_label="y"))
    assert svg.find("polyline").attrib["points"] == "52.0,242.0 408.0,14.0"


def test_values_that_are_no_numbers_are_left_out():
    svg = ET.fromstring(line_chart([Line("a", [0, 1, 2], [0, math.nan, 1])], x_label="x", y_label="y"))
    assert len(svg.find("polyline").attrib["points"].split()) == 2


@pytest.mark.parametrize("y", [[], [2.0], [2.0, 2.0]])
def test_curves_of_little_or_no_extent(y):
    ET.fromstring(line_chart([Line("a", list(range(len(y))), y)], x_label="x", y_label="y"))


def test_empty_bins_have_no_bar():
    svg = ET.fromstring(bar_chart([0.0, 0.5, 1.0], [math.nan, 0.5], x_label="x", y_label="y"))
    (bar,) = svg.findall("rect")
    assert float(bar.attrib["height"]) == pytest.approx(0.5 * 228)


def test_a_matrix_shows_counts():
    table = ET.fromstring(heat_table(np.array([[3, 1], [0, 2]]), CLASSES, rows="is", columns="said"))
    assert [cell.text for cell in table.iter("td")] == ["3", "1", "0", "2"]


def test_a_tracker_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(DependencyError, match="pip install wandb"):
        open_trackers(["wandb"], tmp_path, "run", {})


def test_tensorboard_holds_what_was_logged(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (pip install 'streamkd[tracking]')")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for epochs in (2, 3):  # interrupted, then continued: every epoch is told again
        (tracker,) = open_trackers(["tensorboard"], tmp_path, "run", {"seed": 0})
        for epoch in range(epochs):
            tracker.log(epoch, {"loss/all": 1.0 / (epoch + 1)})
        tracker.close()
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert [(one.step, round(one.value, 4)) for one in found.Scalars("loss/all")] == [(0, 1.0), (1, 0.5), (2, 0.3333)]


def test_mlflow_holds_what_was_logged(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tracker,) = open_trackers(["mlflow"], tmp_path, "mine", {"seed": 0})
    tracker.log(0, {"loss/all": 0.5})
    tracker.close()
    (run,) = mlflow.search_runs(experiment_names=["streamkd"], output_format="list")
    assert run.data.metrics == {"loss/all": 0.5}


def test_wandb_holds_what_was_logged(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tracker,) = open_trackers(["wandb"], tmp_path, "mine", {"seed": 0})
    tracker.log(0, {"loss/all": 0.5})
    tracker.close()
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
