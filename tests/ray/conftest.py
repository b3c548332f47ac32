"""A service without cameras, for what concerns Ray and processes only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import make_tiny_bundle
from tests.processes import Service


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def service(tmp_path: Path, tiny_bundle: Path) -> Iterator[Service]:
    """Not started yet."""
    service = Service(tmp_path, student={"bundle": str(tiny_bundle)})
    yield service
    service.close()
