"""The document of measured figures: a benchmark replaces its own section and nothing else."""

from __future__ import annotations

import math

import pytest

from streamkd_service.bench.report import machine, markdown_table, percentile, replace_section, write_section


def test_a_new_section_is_added_at_the_end():
    assert replace_section("# Title\n", "api", "figures").endswith("<!-- bench:api -->\nfigures\n<!-- /bench:api -->\n")


def test_a_section_is_replaced_in_its_place():
    text = replace_section(replace_section("# Title\n", "api", "old"), "scale", "other")
    again = replace_section(text, "api", "new")
    assert again == text.replace("old", "new")


def test_what_is_written_by_hand_stays():
    text = replace_section("# Title\n", "api", "old") + "\nBy hand.\n"
    assert replace_section(text, "api", "new").endswith("\nBy hand.\n")


@pytest.mark.parametrize(("name", "body"), [("Bad Name", "x"), ("api", "<!-- /bench:api -->")])
def test_what_would_break_the_document_is_refused(name, body):
    with pytest.raises(ValueError, match="can't be written"):
        replace_section("", name, body)


def test_the_file_is_begun_where_it_is_missing(tmp_path):
    write_section("api", "figures", tmp_path / "new" / "performance.md")
    assert "figures" in (tmp_path / "new" / "performance.md").read_text(encoding="utf-8")


def test_a_table_escapes_its_bars():
    assert markdown_table(["a"], [["x|y"]]).splitlines()[-1] == "| x\\|y |"


@pytest.mark.parametrize(("share", "expected"), [(0.5, 2.0), (0.95, 4.0), (1.0, 4.0), (0.0, 1.0)])
def test_percentiles_are_values_that_were_seen(share, expected):
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == expected


def test_the_percentile_of_nothing_is_no_number():
    assert math.isnan(percentile([], 0.5))


def test_the_machine_is_one_line():
    assert "\n" not in machine()
    assert "cores" in machine()
