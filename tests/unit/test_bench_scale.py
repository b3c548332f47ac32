"""The simulation of many nodes: its small version, and what it promises."""

from __future__ import annotations

import json

import pytest

from streamkd_service import cli
from streamkd_service.bench.scale import ScaleOptions, ScaleResult, as_json, bench_scale, section


@pytest.fixture(scope="module")
def result() -> ScaleResult:
    return bench_scale(ScaleOptions().quick())


def test_a_death_moves_about_the_share_of_its_node(result):
    assert 0.2 / result.nodes <= result.node_dies.moved_share <= 2 / result.nodes


def test_a_death_moves_hardly_a_camera_of_a_living_node(result):
    assert result.node_dies.needless_share <= 0.2 / result.nodes


def test_a_node_that_joins_moves_no_more_than_its_share(result):
    assert 0 < result.node_joins.moved_share <= 4 / result.nodes


def test_a_camera_that_is_added_moves_hardly_any_other(result):
    assert result.camera_added.moved_share <= 0.1 / result.nodes


def test_the_first_placement_is_balanced(result):
    assert result.first_imbalance < 0.05


def test_a_decision_takes_less_than_a_second(result):
    assert result.ok


def test_the_report_names_command_and_figures(result):
    text = section(result, "streamkd bench scale --quick")
    assert "streamkd bench scale --quick" in text
    assert f"{result.cameras:,} cameras" in text


def test_the_command_prints_json_and_nothing_else(capsys):
    assert cli.main(["bench", "scale", "--nodes", "100", "--cameras", "1000", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["nodes"] == 100


def test_the_command_writes_its_section(tmp_path, capsys):
    report = tmp_path / "performance.md"
    cli.main(["bench", "scale", "--nodes", "100", "--cameras", "1000", "--report", str(report)])
    capsys.readouterr()
    assert "<!-- bench:scale -->" in report.read_text(encoding="utf-8")


def test_a_result_is_json(result):
    assert json.loads(json.dumps(as_json(result)))["ok"] == 1
