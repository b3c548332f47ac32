"""A configuration of two cameras and a tiny student."""

from __future__ import annotations

import pytest

from streamkd.config import Config
from streamkd.store import upgrade
from tests.controllers import camera
from tests.fakes import make_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture
def config(tmp_path, bundle) -> Config:
    config = Config.model_validate(
        {
            "cameras": [camera("gate"), camera("yard")],
            "student": {"bundle": str(bundle)},
            "store": {
                "url": f"sqlite:///{tmp_path / 'streamkd.db'}",
                "media_dir": tmp_path / "media",
                "models_dir": tmp_path / "models",
            },
            "workers": {"count": 1},
        }
    )
    upgrade(config.store.url.get_secret_value())
    return config
