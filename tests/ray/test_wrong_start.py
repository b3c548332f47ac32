"""What is wrong before the service starts is one clear line, and nothing has been started."""

from __future__ import annotations

import fcntl
import socket
import subprocess
import sys

import pytest
import yaml

from tests.fakes import make_tiny_bundle


def serve(folder, **sections) -> subprocess.CompletedProcess[str]:
    config = {"store": {"url": f"sqlite:///{folder / 's.db'}"}, **sections}
    path = folder / "streamkd.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [sys.executable, "-m", "streamkd_service", "serve", "--config", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=folder)


def complaint(ended: subprocess.CompletedProcess[str]) -> str:
    """The one line; fails if there is more, or a traceback."""
    assert ended.returncode == 2
    lines = ended.stderr.strip().splitlines()
    assert len(lines) == 1, ended.stderr
    return lines[0]


def test_a_taken_port_is_named(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "tiny")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        line = complaint(serve(tmp_path, api={"port": port}, student={"bundle": str(bundle)}))
    assert str(port) in line
    assert "taken" in line


def test_an_address_of_another_machine_is_named(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "tiny")
    api = {"host": "192.0.2.1", "port": 0, "token": "secret"}
    assert "Set api.host" in complaint(serve(tmp_path, api=api, student={"bundle": str(bundle)}))


def test_an_unknown_key_is_named_with_its_line(tmp_path):
    line = complaint(serve(tmp_path, api={"prot": 1}))
    assert "line 2" in line
    assert "api.prot" in line


def test_a_damaged_bundle_is_named(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "tiny")
    (bundle / "int8.bin").write_bytes(b"damaged")
    assert "checksum" in complaint(serve(tmp_path, student={"bundle": str(bundle)}))


def test_a_bundle_of_another_schema_is_named(tmp_path):
    from streamkd.bundle import write_manifest

    bundle = make_tiny_bundle(tmp_path / "tiny")
    spec = (bundle / "spec.json").read_text().replace('"schema_version": 1', '"schema_version": 2')
    (bundle / "spec.json").write_text(spec)
    write_manifest(bundle)
    assert "schema version 2" in complaint(serve(tmp_path, student={"bundle": str(bundle)}))


def test_a_camera_that_is_named_twice_is_refused(tmp_path):
    camera = {"id": "gate", "url": "rtsp://user:secret@host/1"}
    line = complaint(serve(tmp_path, cameras=[camera, camera]))
    assert "'gate'" in line
    assert "secret" not in line


def test_listening_to_the_outside_without_a_token_is_refused(tmp_path):
    assert "api.token" in complaint(serve(tmp_path, api={"host": "0.0.0.0", "port": 0}))


def test_a_database_that_another_service_uses_is_refused(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "tiny")
    with (tmp_path / "s.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        line = complaint(serve(tmp_path, api={"port": 0}, student={"bundle": str(bundle)}))
    assert "in use" in line


def test_a_database_that_can_not_be_opened_is_named(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "tiny")
    store = {"url": "sqlite:////dev/null/s.db"}
    line = complaint(serve(tmp_path, api={"port": 0}, student={"bundle": str(bundle)}, store=store))
    assert "/dev/null/s.db" in line


@pytest.mark.parametrize("key", ["media_dir", "models_dir"])
def test_a_folder_that_can_not_be_written_to_is_named(tmp_path, key):
    bundle = make_tiny_bundle(tmp_path / "tiny")
    folders = {"media_dir": str(tmp_path / "media"), "models_dir": str(tmp_path / "models"), key: "/dev/null/here"}
    store = {"url": f"sqlite:///{tmp_path / 's.db'}", **folders}
    line = complaint(serve(tmp_path, api={"port": 0}, student={"bundle": str(bundle)}, store=store))
    assert "/dev/null/here can't be written to" in line
    assert f"store.{key}" in line


def test_a_ray_cluster_that_is_not_there_is_named(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "tiny")
    workers = {"ray_address": "127.0.0.1:1"}
    ended = serve(tmp_path, api={"port": 0}, student={"bundle": str(bundle)}, workers=workers)
    assert (ended.returncode, "No Ray cluster answers at 127.0.0.1:1" in ended.stderr.splitlines()[-1]) == (2, True)
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", [["check", "/nowhere.mp4"], ["models", "list", "--url", "http://127.0.0.1:1"]])
def test_other_commands_complain_in_one_line_too(command):
    ended = subprocess.run(
        [sys.executable, "-m", "streamkd_service", *command], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode in {1, 2}
    assert "Traceback" not in ended.stderr
