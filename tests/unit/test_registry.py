"""Where refreshed bundles lie and what is deleted."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from streamkd.errors import BundleError
from streamkd.refresh.registry import candidate_version, prune_work, publish, refresh_id, work_folder
from tests.fakes import make_tiny_bundle, tiny_spec

ID = "20261121-120301-3f9c2a"


def test_the_name_of_a_long_family_stays_a_version():
    version = candidate_version("x" * 100, refresh_id(datetime(2026, 1, 1, tzinfo=UTC), "3f9c2a"))
    assert tiny_spec(version).version == version


def test_an_id_sorts_by_time():
    ids = [refresh_id(datetime(2026, 1, day, tzinfo=UTC), "ffffff") for day in (1, 2, 11)]
    assert ids == sorted(ids)


def test_a_version_names_its_family_and_refresh():
    assert candidate_version("lite0-1", ID) == f"lite0-1-r{ID}"


def test_versions_do_not_grow_with_generations():
    assert candidate_version(f"lite0-1-r{ID}", "20261122-000000-aaaaaa") == "lite0-1-r20261122-000000-aaaaaa"


def test_a_family_that_happens_to_have_an_r_keeps_its_name():
    assert candidate_version("my-resnet", ID) == f"my-resnet-r{ID}"


@pytest.fixture
def candidate(tmp_path):
    return make_tiny_bundle(work_folder(tmp_path, ID) / "tiny-2", version="tiny-2")


def test_publishing_moves_the_bundle_among_the_versions(tmp_path, candidate):
    bundle = publish(candidate, tmp_path)
    assert bundle.path == tmp_path / "tiny-2"
    assert not candidate.exists()


def test_publishing_again_after_an_interruption_changes_nothing(tmp_path, candidate):
    publish(candidate, tmp_path)
    assert publish(candidate, tmp_path).spec.version == "tiny-2"


def test_a_damaged_candidate_is_not_published(tmp_path, candidate):
    (candidate / "int8.bin").write_bytes(b"x")
    with pytest.raises(BundleError):
        publish(candidate, tmp_path)
    assert not (tmp_path / "tiny-2").exists()


def test_a_version_is_never_overwritten(tmp_path, candidate):
    make_tiny_bundle(tmp_path / "tiny-2", version="tiny-2", bias=1.0)
    with pytest.raises(BundleError):
        publish(candidate, tmp_path)


def leave_footage(models_dir, name, size):
    folder = work_folder(models_dir, name)
    folder.mkdir(parents=True)
    (folder / "clip.mkv").write_bytes(b"x" * size)
    return folder


def test_the_oldest_footage_goes_first(tmp_path):
    old, new = leave_footage(tmp_path, "20260101-000000-a", 600), leave_footage(tmp_path, "20260102-000000-b", 600)
    assert prune_work(tmp_path, 1000) == [old.name]
    assert new.exists()


def test_the_running_refresh_keeps_its_footage(tmp_path):
    folder = leave_footage(tmp_path, "20260101-000000-a", 600)
    assert prune_work(tmp_path, 100, keep=folder.name) == []


def test_nothing_to_delete_where_nothing_was_made(tmp_path):
    assert prune_work(tmp_path, 100) == []
