"""Fixtures that every folder of tests uses."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
_LONGEST = {"test_refresh.py", "test_bench.py", "test_distill_quantise.py"}  # minutes each
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
# How long an example takes says something about the machine's other work, and pytest-timeout ends what hangs.
hypothesis.settings.register_profile("streamkd", deadline=None)
hypothesis.settings.load_profile("streamkd")


@pytest.hookimpl(trylast=True)  # after the order was drawn
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files come first; tests marked `shared` skip with a reason where the footage is not there."""
    # Of two processes, none shall wait for the other's last file.
    items.sort(key=lambda item: (item.path.name not in _LONGEST, "e2e" not in item.path.parts))
    if SHARED_DATA.is_dir():
        return
    skip = pytest.mark.skip(reason="the footage under ../shared/data is not here")
    for item in items:
        if "shared" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def repository_root() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    return SHARED_DATA


@pytest.fixture(scope="session")
def demo_clips() -> Path:
    """A folder with clips.csv: real clips that ship with the tests."""
    return REPOSITORY / "tests" / "data" / "demo"
