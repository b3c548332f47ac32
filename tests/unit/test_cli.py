"""The command line: what it prints when something is wrong, and what it does not load."""

from __future__ import annotations

import subprocess
import sys

import pytest

from streamkd.errors import ConfigError
from streamkd_service import cli

HEAVY = ("ray", "torch", "openvino", "fastapi", "sqlalchemy", "av")


def loaded(code: str) -> set[str]:
    """Top-level modules that a fresh Python has loaded after `code`."""
    program = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in list(sys.modules)}})"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return set(ended.stdout.splitlines()[-1].split())


def test_the_overview_loads_nothing_heavy():
    found = loaded("from streamkd_service.cli import main\nmain(['--help'])")
    assert found.isdisjoint(HEAVY)


def test_a_worker_loads_no_database():
    assert loaded("import streamkd_service.runtime.worker").isdisjoint({"sqlalchemy", "alembic", "fastapi"})


def test_serving_loads_no_torch():
    parts = "actors", "controller", "worker", "handles"
    found = loaded(
        "".join(f"import streamkd_service.runtime.{part}\n" for part in parts) + "import streamkd.engine.openvino"
    )
    assert found.isdisjoint({"torch", "nncf"})


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: " ".join(command.words))
def test_every_command_explains_itself(command, capsys):
    assert cli.main([*command.words, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_an_error_is_one_line_without_a_traceback(monkeypatch, capsys):
    def fails() -> None:
        raise ConfigError("The file\nis wrong.", hint="Fix it.")

    monkeypatch.setattr(cli.Command, "load", lambda _: fails)
    assert cli.main(["serve"]) == cli.EXIT_ERROR
    assert capsys.readouterr().err == "error: The file is wrong. Fix it.\n"


def test_ctrl_c_is_quiet(monkeypatch, capsys):
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.Command, "load", lambda _: interrupted)
    assert cli.main(["serve"]) == cli.EXIT_INTERRUPTED
    assert capsys.readouterr().err.strip() in {"", "Aborted."}


def test_a_negative_answer_is_the_exit_status(monkeypatch):
    monkeypatch.setattr(cli.Command, "load", lambda _: lambda: 1)
    assert cli.main(["serve"]) == 1


def test_an_unknown_command_is_an_error(capsys):
    assert cli.main(["nonsense"]) == cli.EXIT_ERROR
    assert "nonsense" in capsys.readouterr().err


def test_the_version_is_printed(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out[0].isdigit()


def test_a_configuration_is_shown_with_its_secrets_masked(tmp_path, capsys):
    path = tmp_path / "c.yaml"
    path.write_text("cameras: [{id: gate, url: 'rtsp://u:hunter2@host/1'}]\napi: {token: hunter2}\n", encoding="utf-8")
    assert cli.main(["config", "check", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "rtsp://***@host/1" in shown
    assert "hunter2" not in shown
