"""The actors' log lines reach the service's own log, whole and in order."""

from __future__ import annotations

import io

from streamkd_service.runtime import log_relay
from streamkd_service.runtime.log_relay import LogRelay
from tests.processes import wait_for


def test_lines_are_copied_as_they_come(tmp_path):
    path, copy = tmp_path / "log", io.StringIO()
    relay = LogRelay(path, copy)
    with path.open("a", buffering=1) as file:
        file.write("one\n")
        wait_for(lambda: copy.getvalue() == "one\n", timeout_s=5)
        file.write("two\n")
    relay.stop()
    assert copy.getvalue() == "one\ntwo\n"


def test_the_file_stays_small(tmp_path, monkeypatch):
    monkeypatch.setattr(log_relay, "_TRUNCATE_BYTES", 10)
    path, copy = tmp_path / "log", io.StringIO()
    relay = LogRelay(path, copy)
    with path.open("a", buffering=1) as file:
        file.write("a long line of more than ten bytes\n")
        wait_for(lambda: path.stat().st_size == 0, timeout_s=5)
        file.write("next\n")
    relay.stop()
    assert copy.getvalue().splitlines() == ["a long line of more than ten bytes", "next"]
