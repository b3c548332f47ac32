"""Processors: a container's quota, and the load of those that a process may run on."""

from __future__ import annotations

import pytest

from streamkd_service.runtime.processors import ProcessorLoad, own_group, quota, usable_count, usable_processors


@pytest.fixture
def group(tmp_path):
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 1000000\nuser_usec 1\n")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0::/\n", "."), ("0::/system.slice/streamkd.service\n", "system.slice/streamkd.service"), ("3:cpu:/a\n", ".")],
)
def test_the_group_of_a_container_or_a_unit(tmp_path, text, expected):
    (tmp_path / "cgroup").write_text(text)
    assert own_group(tmp_path, tmp_path / "cgroup") == tmp_path / expected


def test_a_system_without_control_groups(tmp_path):
    assert own_group(tmp_path, tmp_path / "nowhere") == tmp_path


def test_a_quota_is_read(group):
    assert quota(group) == 1.5


@pytest.mark.parametrize("text", ["max 100000\n", "", "100000 0\n", "what\n"])
def test_no_quota(tmp_path, text):
    (tmp_path / "cpu.max").write_text(text)
    assert quota(tmp_path) is None


def test_no_control_group_is_no_quota(tmp_path):
    assert quota(tmp_path / "nowhere") is None


def test_threads_are_as_many_as_the_quota_can_keep_running(tmp_path):
    (tmp_path / "cpu.max").write_text("10000 100000\n")
    assert usable_count(tmp_path) == 1


def test_without_a_quota_threads_are_as_many_as_processors(tmp_path):
    assert usable_count(tmp_path) == len(usable_processors())


def test_only_the_processors_that_may_be_used_count(tmp_path):
    load = ProcessorLoad(lambda: {1, 3}, lambda: [0.0, 100.0, 0.0, 50.0], tmp_path)
    assert load.share() == 0.75


def test_a_quota_that_is_used_up_is_a_full_load(group):
    now_s = [0.0]
    load = ProcessorLoad(lambda: range(64), lambda: [3.0] * 64, group, lambda: now_s[0])
    first = load.share()
    now_s[0] = 2.0
    (group / "cpu.stat").write_text("usage_usec 4000000\n")
    assert (first, load.share()) == (pytest.approx(0.03), 1.0)


def test_processors_that_are_gone_are_no_load(tmp_path):
    assert ProcessorLoad(lambda: {8}, lambda: [100.0], tmp_path).share() == 0.0
