"""The int8 trunk as a source of features is the trunk of the export; the quick benchmark on shipped clips."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("nncf", reason="needs the train extra")

from streamkd.distill.bench.data import thin
from streamkd.distill.bench.full import FullBudget
from streamkd.distill.bench.results import append, read_results
from streamkd.distill.bench.rows import QUICK_CLIPS
from streamkd.distill.bench.runner import BenchRequest, run_bench
from streamkd.distill.export import int8_model
from streamkd.distill.features import FeatureSet
from streamkd.distill.quantise import Int8Trunk, refit_recipe
from streamkd.distill.recipe import Recipe
from streamkd.distill.run import head_logits
from streamkd.errors import InputError
from streamkd.evaluate.dataset import read_dataset
from streamkd.models.student import Student, student_spec
from tests.conftest import REPOSITORY

SAMPLES = 12


@pytest.fixture(scope="module")
def student() -> Student:
    torch.manual_seed(0)
    return Student(student_spec("test", ("normal", "fight"))).to(memory_format=torch.channels_last).eval()


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (frames, 160, 160, 3), dtype=np.uint8) for frames in (5, 4, 6)]


@pytest.fixture(scope="module")
def trunk(student, clips) -> Int8Trunk:
    return Int8Trunk(student, clips, samples=SAMPLES)


def _is_step(operation) -> bool:
    return operation.get_type_name() == "FakeQuantize"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_head_on_the_int8_trunk_says_what_the_export_says(student, clips, trunk):
    import openvino as ov

    raw = trunk.raw(clips[:2])
    said = head_logits(student, FeatureSet(tuple(raw), ()))
    model = int8_model(student, student.spec, clips, samples=SAMPLES)
    assert len(model.outputs) == 3 + len(student.spec.state)
    stepped = [one.input_value(0).get_node().get_type_name() for one in model.get_ops() if _is_step(one)]
    assert stepped
    assert not {"Abs", "ReduceMax"} & set(stepped)  # what the head reads stays in float
    request = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    for clip, expected in zip(clips, said, strict=False):
        state = {one.name: np.zeros((1, *one.shape), np.float32) for one in student.spec.state}
        for t, frame in enumerate(clip):
            request.infer({"frame": frame[None].transpose(0, 3, 1, 2).astype(np.float32), **state})
            assert request.get_tensor("action").data[0] == pytest.approx(expected[t].numpy(), abs=5e-2)
            state = {name: request.get_tensor(f"next_{name}").data.copy() for name in state}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_the_trunk_shows_does_not_depend_on_who_is_played_beside(clips, trunk):
    together, alone = trunk.raw(clips), [trunk.raw([clip])[0] for clip in clips]
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one.float(), other.float(), atol=2e-2)


def test_a_refit_keeps_the_objectives_and_lowers_the_rate():
    recipe = Recipe.model_validate({"objectives": [{"name": "labels"}]})
    again = refit_recipe(recipe)
    assert again.objectives == recipe.objectives
    assert again.train.lr_head < recipe.train.lr_head


@pytest.fixture(scope="module")
def request_(tmp_path_factory) -> BenchRequest:
    """The quick benchmark on shipped clips, of one row, with short streams."""
    folder = tmp_path_factory.mktemp("bench")
    return BenchRequest(
        data=REPOSITORY / "tests" / "data" / "demo",
        cache=folder / "cache",
        results=folder / "results.jsonl",
        report=folder / "report.md",
        quick=True,
        rows=("response alone, T 2",),
        long_s=20.0,
        samples=SAMPLES,
    )


def silent(_what: str, _share: float) -> None:
    pass


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_quick_benchmark_ends_with_a_report_and_goes_on_where_it_was(request_):
    run_bench(request_, silent, pytest.fail)
    entries = read_results(request_.results).entries
    assert [one["row"] for one in entries] == ["labels only", "response alone, T 2"]
    assert all(np.isfinite(one["int8"]).all() for one in entries)
    assert "| response alone, T 2 |" in request_.report.read_text()
    before = request_.results.read_bytes()
    run_bench(request_, silent, pytest.fail)
    assert request_.results.read_bytes() == before
    assert json.loads(before.splitlines()[0])["type"] == "data"


@pytest.mark.parametrize(("known", "whose"), [(0, "other clips"), (QUICK_CLIPS, "another teacher")])
def test_results_of_something_else_are_refused_before_anything_is_computed(request_, tmp_path, known, whose):
    given = replace(request_, results=tmp_path / "results.jsonl", cache=tmp_path / "cache")
    files = [record.file for record in thin(read_dataset(request_.data), QUICK_CLIPS)][:known]
    lists = {name: [] for name in ("positive", "sources", "folds", "seconds", "teacher")}
    append(given.results, {"type": "data", "files": files, "teacher_name": "x", "shortcut_roc_auc": None, **lists})
    with pytest.raises(InputError, match=whose):
        run_bench(given, lambda what, _: pytest.fail(what), pytest.fail)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_full_training_moves_the_trunk_and_is_measured_alike(request_, tmp_path):
    full = replace(
        request_,
        full=True,
        rows=("labels only",),
        results=tmp_path / "full.jsonl",
        report=None,
        budget=FullBudget(head_epochs=1, trunk_epochs=1),
    )
    (entry,) = run_bench(full, silent, pytest.fail).entries
    assert entry["budget"].startswith("full: 1 passes of the head, 1 of the trunk")
    assert np.isfinite(entry["int8"]).all()
    assert entry["long"]["shortest_s"] >= 20.0
    assert sorted(path.stem.rpartition("-")[2] for path in (full.cache / "bench" / "full").glob("*.pt")) == [
        "head",
        "trunk",
    ]
