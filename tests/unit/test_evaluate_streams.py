"""`streamkd evaluate events` and `forecast` with the shipped student on shipped clips."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

from streamkd_service.cli import main


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Six clips of one source with both classes."""
    from tests.conftest import REPOSITORY

    demo = REPOSITORY / "tests" / "data" / "demo"
    rows = list(csv.DictReader((demo / "clips.csv").open()))
    sources = {row["source"] for row in rows}
    source = min(s for s in sources if len({row["label"] for row in rows if row["source"] == s}) == 2)
    chosen = [
        row
        for label in ("fight", "normal")
        for row in [one for one in rows if (one["source"], one["label"]) == (source, label)][:3]
    ]
    folder = tmp_path_factory.mktemp("few")
    with (folder / "clips.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "label", "source"], extrasaction="ignore")
        writer.writeheader()
        for row in chosen:
            (folder / row["file"]).parent.mkdir(exist_ok=True)
            shutil.copy(demo / row["file"], folder / row["file"])
            writer.writerow(row)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def test_events_are_measured_on_a_stream_as_long_as_asked(few, cache, capsys):
    assert main(["evaluate", "events", "--data", str(few), "--minutes", "0.5", "--json", "--cache", str(cache)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["stream_s"] >= 30
    assert set(told["map_by_iou"]) == {"0.3", "0.4", "0.5", "0.6", "0.7"}
    assert 0 <= told["frame_roc_auc"] <= 1
    assert told["delay"]["junctions"] + told["delay"]["negatives"] > 0
    assert told["in_lineage"] == 0


def test_forecasts_stand_beside_the_trivial_one(few, cache, capsys):
    assert main(["evaluate", "forecast", "--data", str(few), "--minutes", "0.1", "--cache", str(cache)]) == 0
    said = capsys.readouterr().out
    assert "+1 s: ROC AUC" in said
    assert "+2 s: ROC AUC" in said
    assert "same as now" in said


def test_clips_with_foreign_labels_are_refused(few, cache, tmp_path, capsys):
    shutil.copytree(few, tmp_path / "foreign")
    listing = tmp_path / "foreign" / "clips.csv"
    listing.write_text(listing.read_text().replace(",fight,", ",dance,").replace(",normal,", ",walk,"))
    assert main(["evaluate", "events", "--data", str(listing.parent), "--cache", str(cache)]) == 2
    assert "No clip has a label" in capsys.readouterr().err
