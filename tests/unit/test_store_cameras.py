"""Cameras: the YAML's are replaced at every start, the API's live in the store."""

from __future__ import annotations

import json

import pytest

from streamkd.config import CameraConfig
from streamkd.errors import ConfigError, ConflictError, NotFoundError
from streamkd.store import open_repository
from streamkd.store.records import CameraOrigin
from streamkd.store.schema import CameraRow
from streamkd.store.serialize import camera_json
from streamkd.types import CameraState, CameraStatus


def camera(id_="gate", password="secret", **more):
    return CameraConfig(id=id_, url=f"rtsp://viewer:{password}@192.0.2.1/{id_}?key={password}", **more)


def ids(records):
    return [record.config.id for record in records]


def news(repository, after=0):
    return [(change.action, change.data["id"]) for change in repository.changes_after(after)[2]]


def test_an_added_camera_comes_back_with_its_password(repository, database_url):
    repository.add_camera(camera(labels=("fight",), sensitivity=0.7))
    with open_repository(database_url) as again:
        assert again.list_cameras()[0].config == camera(labels=("fight",), sensitivity=0.7)


def test_a_second_camera_with_the_same_id_is_a_conflict(repository):
    repository.add_camera(camera())
    with pytest.raises(ConflictError, match="'gate'"):
        repository.add_camera(camera())


def test_an_id_of_the_yaml_can_not_be_added(repository):
    repository.sync_config_cameras([camera()])
    with pytest.raises(ConflictError, match="'gate'"):
        repository.add_camera(camera())


def test_the_yaml_replaces_its_own_cameras_only(repository):
    repository.sync_config_cameras([camera("a"), camera("b")])
    repository.add_camera(camera("mine"))
    repository.sync_config_cameras([camera("c"), camera("b")])
    assert ids(repository.list_cameras()) == ["c", "b", "mine"]


def test_the_yaml_does_not_take_over_a_camera_of_the_api(repository):
    repository.add_camera(camera())
    with pytest.raises(ConfigError, match="'gate'"):
        repository.sync_config_cameras([camera("a"), camera("gate", "other")])
    assert ids(repository.list_cameras()) == ["gate"]


def test_a_sync_tells_what_changed_and_nothing_else(repository):
    repository.sync_config_cameras([camera("same"), camera("changed"), camera("gone")])
    latest = repository.changes_after(0)[1]
    repository.sync_config_cameras([camera("new"), camera("same"), camera("changed", sensitivity=0.9)])
    assert sorted(news(repository, latest)) == [("created", "new"), ("deleted", "gone"), ("updated", "changed")]


def test_an_update_is_kept(repository):
    repository.add_camera(camera())
    repository.update_camera(camera(enabled=False))
    assert repository.list_cameras()[0].config.enabled is False


def test_an_update_that_changes_nothing_is_no_news(repository):
    repository.add_camera(camera())
    repository.update_camera(camera())
    assert news(repository) == [("created", "gate")]


@pytest.mark.parametrize("change", ["update_camera", "delete_camera"])
def test_a_camera_of_the_yaml_is_read_only(repository, change):
    repository.sync_config_cameras([camera()])
    with pytest.raises(ConflictError, match="configuration file"):
        getattr(repository, change)("gate" if change == "delete_camera" else camera())


@pytest.mark.parametrize("change", ["update_camera", "delete_camera"])
def test_an_unknown_camera_is_not_found(repository, change):
    with pytest.raises(NotFoundError, match="'gate'"):
        getattr(repository, change)("gate" if change == "delete_camera" else camera())


def test_a_deleted_camera_is_gone_and_its_id_is_free(repository):
    repository.add_camera(camera())
    repository.delete_camera("gate")
    repository.add_camera(camera())
    assert news(repository) == [("created", "gate"), ("deleted", "gate"), ("created", "gate")]


def test_no_change_tells_a_secret(repository):
    repository.add_camera(camera(password="hunter2"))
    repository.update_camera(camera(password="hunter3"))
    told = json.dumps([change.data for change in repository.changes_after(0)[2]])
    assert "hunter" not in told
    assert "viewer" not in told


def test_a_setting_that_this_version_no_longer_knows_is_passed_over(repository):
    repository.add_camera(camera())
    with repository._db.write() as session:
        row = session.get(CameraRow, "gate")
        row.config = row.config | {"zoom": 3}
    assert ids(repository.list_cameras()) == ["gate"]


def test_a_camera_without_word_of_a_worker_has_no_status():
    found = camera_json(camera(), CameraOrigin.API)
    assert (found["status"], found["worker_id"], found["origin"]) == (None, None, "api")


def test_a_camera_as_json_is_json():
    status = CameraStatus("gate", CameraState.ONLINE, frame_age_s=0.1)
    found = camera_json(camera(labels=("fight",)), CameraOrigin.CONFIG, status, "worker-0")
    assert json.loads(json.dumps(found)) == found
    assert (found["url"], found["status"]["state"]) == ("rtsp://***@192.0.2.1/gate?***", "online")
