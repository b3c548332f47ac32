"""`streamkd train` and `streamkd evaluate actions` as a user calls them: wrong input, and one small real run."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("nncf")

from streamkd.bundle import read_bundle
from streamkd.distill import develop
from streamkd.distill.develop import split_classes
from streamkd.distill.local_teacher import MEMBERS, TeacherFeatures
from streamkd.errors import TrainingError
from streamkd.evaluate.dataset import read_dataset
from streamkd.shipped import TRAINED
from streamkd_service import needs
from streamkd_service.cli import main
from streamkd_service.cli.train import resolve_model


@pytest.fixture
def few_clips(demo_clips, tmp_path):
    """Two clips of each class and source among the shipped ones, with their list."""
    folder = tmp_path / "data"
    (folder / "clips").mkdir(parents=True)
    taken: dict[tuple[str, str], int] = {}
    with (demo_clips / "clips.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = []
    for row in rows:
        key = (row["source"], row["label"])
        if taken.get(key, 0) < 2:
            taken[key] = taken.get(key, 0) + 1
            chosen.append(row)
            shutil.copy(demo_clips / row["file"], folder / row["file"])
    with (folder / "clips.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(chosen)
    return folder


def run(capsys, *words: object) -> tuple[int, str, str]:
    status = main([str(word) for word in words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_folder_without_clips_is_one_clear_line(tmp_path, capsys):
    status, _, err = run(capsys, "train", "--data", tmp_path, "--out", tmp_path / "x", "--cache", tmp_path / "c")
    assert status == 2
    assert "No clips found" in err
    assert "Traceback" not in err


def test_one_class_only_is_refused(few_clips, tmp_path, capsys):
    listing = few_clips / "clips.csv"
    listing.write_text("".join(line for line in listing.open() if ",fight," not in line))
    status, _, err = run(capsys, "train", "--data", few_clips, "--out", tmp_path / "x", "--cache", tmp_path / "c")
    assert status == 2
    assert "at least two classes" in " ".join(err.split())


def test_a_class_of_one_source_is_refused_before_anything_is_computed(few_clips, tmp_path, capsys):
    with (few_clips / "clips.csv").open("a") as file:
        file.write("clips/fall.mp4,fall,kitchen,,,,\n")
    shutil.copy(next(few_clips.glob("clips/*.mp4")), few_clips / "clips" / "fall.mp4")
    status, _, err = run(capsys, "train", "--data", few_clips, "--out", tmp_path / "x", "--cache", tmp_path / "c")
    assert (status, list(tmp_path.glob("c/features"))) == (2, [])
    assert "Too few sources show fall" in " ".join(err.split())


def test_a_folder_that_holds_something_else_is_not_overwritten(few_clips, tmp_path, capsys):
    mine = tmp_path / "mine" / "letters.txt"
    mine.parent.mkdir()
    mine.write_text("dear")
    status, _, err = run(capsys, "train", "--data", few_clips, "--out", mine.parent, "--cache", tmp_path / "c")
    assert (status, "is no model bundle" in err, mine.read_text()) == (2, True, "dear")


def test_a_version_that_is_no_folder_s_name_is_refused(few_clips, tmp_path, capsys):
    status, _, err = run(capsys, "train", "--data", few_clips, "--version", "../x", "--cache", tmp_path / "c")
    assert status == 2
    assert "'../x'" in err


def test_a_list_in_disorder_is_one_clear_line(tmp_path, capsys):
    (tmp_path / "clips.csv").write_bytes(b"file,label\n\xff.mp4,fight\n")
    status, _, err = run(capsys, "train", "--data", tmp_path)
    assert (status, "can't be read" in err, "Traceback" in err) == (2, True, False)


def test_a_missing_background_names_the_labels(few_clips):
    with pytest.raises(TrainingError, match=r"'calm'.*fight, normal"):
        split_classes(read_dataset(few_clips), "calm")


def test_without_torch_the_extra_is_named(few_clips, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(needs, "find_spec", lambda name: None)
    status, _, err = run(capsys, "train", "--data", few_clips, "--out", tmp_path / "x")
    assert status == 2
    assert "pip install 'streamkd[train]'" in err


@pytest.mark.slow
@pytest.mark.timeout(300)  # two int8 exports
def test_a_small_run_makes_a_bundle_that_evaluates(few_clips, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (few_clips / "clips" / "broken.mp4").write_bytes(b"no video")
    with (few_clips / "clips.csv").open("a") as file:
        file.write("clips/broken.mp4,fight,other,,,,\n")
    out, cache = tmp_path / "models" / "mine", tmp_path / "cache"
    shared = ("--data", few_clips, "--cache", cache)
    settings = ("--no-oof", "--folds", 3, "--variants", 0, "--epochs", 1, "--threads", 1)
    status, said, err = run(capsys, "train", *shared, "--version", "mine", *settings)
    assert status == 0, err
    assert "broken.mp4" in err
    assert "The clips come from 4 sources" in err
    assert f"student: {{bundle: {out}}}" in said
    bundle = read_bundle(out)
    assert bundle.spec.classes == ("normal", "fight")
    status, text, _ = run(capsys, "evaluate", "actions", *shared, "--model", out, "--json")
    assert status == 0
    report = json.loads(text)
    assert {"accuracy", "precision", "recall", "f1", "roc_auc", "ece", "n"} <= set(report)
    assert sorted(report["in_lineage"]) == sorted(clip["file"] for clip in report["clips"])


@pytest.mark.slow
@pytest.mark.timeout(300)  # two int8 exports
def test_a_student_learns_from_a_teacher_of_its_own_clips(few_clips, tmp_path, capsys, monkeypatch):
    def made_up(records, *_, **_settings) -> TeacherFeatures:
        rng = np.random.default_rng(0)
        seen = {one.name: torch.from_numpy(rng.normal(size=(len(records), 1, 20))).float() for one in MEMBERS[:2]}
        return TeacherFeatures(seen, tuple(torch.zeros(4, 8) for _ in records))

    monkeypatch.setattr(develop, "teacher_features", made_up)
    rows = [line.split(",") for line in (few_clips / "clips.csv").read_text().splitlines()]
    at = rows[0].index("source")
    alone = [rows[0], *([*row[:at], row[0], *row[at + 1 :]] for row in rows[1:])]
    (few_clips / "clips.csv").write_text("\n".join(map(",".join, alone)))
    recipe = tmp_path / "short.yaml"
    recipe.write_text("objectives: [{name: labels}, {name: response}]\ntrain: {epochs: 1}\n")
    shared = ("--data", few_clips, "--cache", tmp_path / "cache", "--out", tmp_path / "mine")
    status, _, err = run(capsys, "train", *shared, "--distil", recipe, "--no-oof", "--variants", 0)
    assert status == 0, err
    bundle = read_bundle(tmp_path / "mine")
    assert bundle.lineage.recipe.startswith("short")
    assert "cross-fitted twice" in bundle.lineage.teachers[0]


def test_a_version_that_was_trained_without_a_place_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (TRAINED / "v1").mkdir(parents=True)
    assert resolve_model("v1") == TRAINED / "v1"
