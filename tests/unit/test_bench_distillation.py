"""The distillation benchmark on made-up features: rows, results, report, going on after a kill."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

torch = pytest.importorskip("torch", reason="needs the train extra")

from streamkd.distill.bench import report as reporting
from streamkd.distill.bench.data import BenchData, JoinedSource, LongStream, thin
from streamkd.distill.bench.figures import chosen_on_other_folds, row_figures
from streamkd.distill.bench.measure import Bench, Budget, linear_start, site_halves, visible_labels
from streamkd.distill.bench.results import append, facts_of, read_results
from streamkd.distill.bench.rows import APART, BASELINE, BY_NAME, ROWS
from streamkd.distill.bench.runner import best_rows
from streamkd.distill.features import FeatureSet
from streamkd.distill.local_teacher import MEMBERS, MOTION, LocalTeacher, TeacherFeatures, fit_logistic, frame_changes
from streamkd.distill.run import head_logits
from streamkd.errors import InputError, TrainingError
from streamkd.evaluate.cost import StudentCost
from streamkd.evaluate.dataset import ClipRecord
from streamkd.evaluate.joined import Junction
from streamkd.models.backbone import HEAD_CHANNELS
from streamkd.models.motion import STATISTICS
from streamkd.models.student import POOLED

FOLDS, PER_FOLD, FRAMES, WIDTH = 4, 8, 9, POOLED + 160 + STATISTICS
BUDGET = Budget(epochs=2, variants=1, folds=(0, 1, 2, 3))


pytestmark = pytest.mark.timeout(600)  # many small trainings


@pytest.fixture(scope="module")
def data() -> BenchData:
    """Clips in which the foreground moves a little more, from four folds of two sources each."""
    rng = np.random.default_rng(0)
    count = FOLDS * PER_FOLD
    labels = tuple(i % 2 for i in range(count))
    folds = tuple(i // PER_FOLD for i in range(count))
    records = tuple(
        ClipRecord(Path("x"), f"{i}.mp4", ("normal", "fight")[labels[i]], f"s{i // 4}", f"{i:064x}", 0.0, None, (1.0,))
        for i in range(count)
    )

    def seen(label: int) -> torch.Tensor:
        return torch.from_numpy(rng.random((FRAMES, WIDTH)) + 0.3 * label * rng.random((FRAMES, 1))).half()

    raw = FeatureSet(tuple(seen(one) for one in labels), (tuple(seen(one) for one in labels),))
    int8 = FeatureSet(tuple(one + 0.01 for one in raw.plain), raw.variants)
    inside = {k: [i for i in range(count) if folds[i] == k] for k in range(FOLDS)}
    long = {k: LongStream(tuple(v * 2), torch.cat([int8.plain[i] for i in v * 2])) for k, v in inside.items()}
    joined = {
        k: tuple(
            JoinedSource(Junction((a, b), positive=labels[b] == 1), torch.cat([int8.plain[a], int8.plain[b]]), FRAMES)
            for a, b in ((v[0], v[1]), (v[0], v[2]))
        )
        for k, v in inside.items()
    }
    shift = torch.tensor(labels)[:, None, None]
    numbers = {one.name: STATISTICS if one is MOTION else 60 for one in MEMBERS[:2]}
    clips = {
        name: torch.from_numpy(rng.normal(size=(count, 1, wide))).float() + shift for name, wide in numbers.items()
    }
    frames = tuple(torch.from_numpy(rng.random((FRAMES, 12))).half() for _ in range(count))
    return BenchData(
        records,
        labels,
        folds,
        ("normal", "fight"),
        (FRAMES,) * count,
        raw,
        int8,
        long,
        joined,
        TeacherFeatures(clips, frames),
    )


def without_teacher(data: BenchData) -> BenchData:
    return replace(data, teacher=TeacherFeatures({}, ()))


def quiet(_what: str, _share: float) -> None:
    pass


def entry(data: BenchData, name: str, seed: int = 0, budget: str = "heads") -> dict:
    return {"type": "row", "budget": budget, **Bench(data, BUDGET).run(BY_NAME[name], seed, quiet)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_trains_and_measures_every_clip(data, row):
    found = Bench(data, Budget(1, 1, (0,))).run(row, 0, quiet)
    scores = np.array(found["int8"])
    assert sorted(found["clips"]) == (list(range(PER_FOLD)) if row.split == "source" else sorted(found["clips"]))
    assert np.isfinite(scores).all()
    assert ((scores >= 0) & (scores <= 1)).all()


def test_a_site_s_footage_is_learnt_from_without_labels_and_measured_in_turn(data):
    for fold in set(data.folds):
        one, other = site_halves(data, fold)
        assert sorted([*one, *other]) == [i for i, k in enumerate(data.folds) if k == fold]
        assert {data.records[i].source for i in one} == {data.records[i].source for i in other}
    turned = tuple(1 - label if data.folds[i] == 0 else label for i, label in enumerate(data.labels))
    row = BY_NAME["the site's own clips unlabelled"]
    said = [Bench(one, Budget(1, 1, (0,))).run(row, 0, quiet)["int8"] for one in (data, replace(data, labels=turned))]
    assert said[0] == said[1]


def test_a_quick_run_takes_clips_of_every_source_and_label(data):
    records = data.records  # eight sources, two clips of each label in each
    some = thin(records, 20)
    assert len(some) == 20
    assert {(one.source, one.label) for one in some} == {(one.source, one.label) for one in records}
    assert [one.file for one in some] == [one.file for one in records if one in some]
    assert thin(records, None) == records
    assert thin(records, 1000) == records


def test_a_quick_run_of_more_sources_than_clips_still_has_each_label(data):
    by_label = sorted(data.records, key=lambda one: one.label)  # as in a table that lists all fights first
    some = thin(by_label, 6)
    assert Counter(one.label for one in some) == {"fight": 3, "normal": 3}
    assert len({one.source for one in some}) == 3


@pytest.mark.parametrize("row", [one for one in ROWS if one.one_fold][::6], ids=lambda row: row.name)
def test_a_quick_run_needs_int8_features_of_one_fold_only(data, row):
    there = [fold == 0 for fold in data.folds]
    nothing = torch.zeros(0, 1)
    int8 = FeatureSet(tuple(x if k else nothing for x, k in zip(data.int8.plain, there, strict=True)), ())
    found = Bench(replace(data, int8=int8), Budget(1, 1, (0,))).run(row, 0, quiet)
    assert len(found["int8"]) == PER_FOLD


def test_rows_have_names_of_their_own():
    assert len(BY_NAME) == len(ROWS)
    assert all(row.against in BY_NAME for row in ROWS)


def test_a_row_is_reproducible_from_its_seed(data):
    once, again = (entry(data, BASELINE) for _ in range(2))
    assert once["int8"] == again["int8"]
    assert entry(data, BASELINE, seed=1)["int8"] != once["int8"]


def test_the_streams_are_measured_too(data):
    found = entry(data, BASELINE)
    assert found["long"]["shortest_s"] == pytest.approx(2 * PER_FOLD * FRAMES / 5)
    assert found["delay"]["junctions"] == FOLDS
    assert [one["horizon_s"] for one in found["forecast"]] == [1.0, 2.0]


def test_no_clip_is_labelled_by_heads_that_saw_its_fold_or_the_measured_one(data):
    """Labels of the measured fold turned round change nothing of what is taught; those of any other do."""
    everyone = range(len(data.labels))

    def said(flipped: int) -> torch.Tensor:
        records = [
            replace(one, label=("fight", "normal")[data.labels[i]]) if data.folds[i] == flipped else one
            for i, one in enumerate(data.records)
        ]
        return LocalTeacher(data.teacher, records, everyone, data.folds, data.classes).signals(0).logits

    asked = torch.tensor(data.folds) == 1
    told = LocalTeacher(data.teacher, data.records, everyone, data.folds, data.classes).signals(0).logits[asked]
    assert torch.equal(said(0)[asked], told)
    assert torch.equal(said(1)[asked], told)
    assert not torch.equal(said(2)[asked], told)


def test_the_reading_that_is_handed_over_saw_nothing_of_the_measured_fold(data):
    """Labels of the measured fold turned round change nothing of it; those of any other do."""

    def handed(flipped: int) -> torch.Tensor:
        records = [
            replace(one, label=("fight", "normal")[data.labels[i]]) if data.folds[i] == flipped else one
            for i, one in enumerate(data.records)
        ]
        teacher = LocalTeacher(data.teacher, records, range(len(records)), data.folds, data.classes)
        return teacher.signals(0).motion.hidden_weight

    untouched = handed(-1)
    assert torch.equal(handed(0), untouched)
    assert not torch.equal(handed(1), untouched)


def test_a_reading_fitted_apart_says_nothing_of_a_teacher(data):
    row = BY_NAME[APART]
    said = [Bench(one, Budget(1, 1, (0,))).run(row, 0, quiet)["int8"] for one in (data, without_teacher(data))]
    assert said[0] == said[1]


def test_a_teacher_that_goes_on_says_what_it_said(data, tmp_path):
    arguments = (data.teacher, data.records, range(len(data.labels)), data.folds, data.classes, tmp_path)
    once, again = (LocalTeacher(*arguments).signals() for _ in range(2))
    assert torch.equal(once.logits, again.logits)
    assert torch.equal(once.members, again.members)


def test_what_changes_from_frame_to_frame_ends_with_the_clip():
    features = torch.full((4, HEAD_CHANNELS + 8), torch.nan)
    features[:3] = torch.tensor([1.0, 3.0, 2.0])[:, None]
    assert frame_changes(features)[:, 0].tolist() == [0.0, 2.0, 1.0]


def test_hidden_labels_reach_neither_student_nor_teacher(data):
    visible = visible_labels(data, "quarter")
    hidden = [label if i in visible else -1 for i, label in enumerate(data.labels)]
    flipped = [label if i in visible else -1 for i, label in enumerate(1 - np.array(data.labels))]
    assert len(visible) < len(data.labels) / 2
    assert {data.labels[i] for i in visible} == {0, 1}
    assert [one for one in hidden if one < 0] == [one for one in flipped if one < 0]


def test_a_teacher_without_a_class_is_refused(data):
    normal = [i for i, label in enumerate(data.labels) if label == 0]
    with pytest.raises(TrainingError, match="one label"):
        LocalTeacher(data.teacher, data.records, normal, data.folds, data.classes).signals()


def test_a_linear_start_reads_what_the_regression_reads(data):
    inside = list(range(PER_FOLD, 3 * PER_FOLD))
    student = linear_start(data.raw.subset(inside), [data.labels[i] for i in inside], data.classes, 0)
    with torch.no_grad():
        for layer in (student.recall,):
            layer.weight.zero_()
            layer.bias.zero_()
    answers = [float((one[1:, 1] - one[1:, 0]).mean()) for one in head_logits(student, data.raw.subset(inside))]
    labels = np.array([data.labels[i] for i in inside])
    assert np.mean(np.array(answers)[labels == 1]) > np.mean(np.array(answers)[labels == 0])


@pytest.fixture(scope="module")
def lines(data) -> list[dict]:
    """Of three rows; a second seed is the first with other scores."""
    bench = Bench(data, Budget(1, 1, (0, 1, 2, 3)))
    found = [facts_of(data, bench.teacher_scores(), "made up", 0.55, 5.0)]
    rng = np.random.default_rng(0)
    for name in (BASELINE, "response alone, T 2", "labels only, random split"):
        first = {"type": "row", "budget": "heads", **bench.run(BY_NAME[name], 0, quiet)}
        found += [first, {**first, "seed": 1, "int8": rng.random(len(first["int8"])).tolist()}]
    return found


@pytest.fixture
def results(lines, tmp_path):
    path = tmp_path / "results.jsonl"
    for line in lines:
        append(path, line)
    return path


def test_results_come_back_as_they_were_written(data, results):
    found = read_results(results)
    assert found.facts.files == tuple(one.file for one in data.records)
    assert found.has(BASELINE, 1, "heads")
    assert not found.has(BASELINE, 2, "heads")


def test_a_line_cut_short_by_a_kill_is_left_out_and_the_next_one_is_whole(results):
    results.write_bytes(results.read_bytes()[:-40])
    before = len(read_results(results).entries)
    append(results, {"type": "row", "row": "x", "seed": 0, "budget": "heads"})
    assert len(read_results(results).entries) == before + 1 == 6


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "other.jsonl"
    path.write_text('{"a": 1}\n')
    with pytest.raises(InputError, match="no results of this benchmark"):
        read_results(path)


def test_the_report_says_what_was_measured(results):
    text = reporting.markdown(read_results(results), "a machine", StudentCost(3_500_000, 200_000_000))
    assert "| response alone, T 2 |" in text
    assert "| ROC AUC, teacher | ≥ 0.92 |" in text
    assert "3.50 M parameters" in text
    assert "*size and frame rate alone* | 0.550" in text
    assert "+2 s" in text


def test_the_row_of_a_fold_is_chosen_without_that_fold(results):
    found = read_results(results)
    rows = row_figures(found, "heads")
    scores, names = chosen_on_other_folds(found.facts, rows)
    assert set(names) == set(range(FOLDS))
    assert np.isfinite(scores).all()


def test_a_gain_is_paired_with_the_row_that_it_is_measured_against(results):
    rows = {row.name: row for row in row_figures(read_results(results), "heads")}
    assert rows[BASELINE].gain is None
    gain = rows["response alone, T 2"].gain
    assert gain.value == pytest.approx(rows["response alone, T 2"].auc.value - rows[BASELINE].auc.value)


def test_full_training_takes_the_best_rows_of_the_heads(tmp_path):
    assert best_rows(read_results(tmp_path / "none.jsonl")) == ("response, T 4, a 0.7", "response + DIST")


def test_a_fit_in_the_span_of_its_clips_is_the_fit():
    rng = np.random.default_rng(0)
    x, labels, seen = torch.from_numpy(rng.normal(size=(20, 50))).float(), np.arange(20) % 2, np.arange(20) < 14
    standard = ((x - x[seen].mean(dim=0)) / (x[seen].std(dim=0) + 1e-3)).clamp(-8, 8).double().numpy()
    direct = LogisticRegression(C=0.01, max_iter=2000).fit(standard[seen], labels[seen]).decision_function(standard)
    found = fit_logistic(x, seen, labels, 0.01)
    assert found[:, 1] - found[:, 0] == pytest.approx(direct, abs=1e-3)
