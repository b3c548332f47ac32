"""Which model bundle serves: the configured one until a refresh has made a better one; checked before it may."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import structlog

from streamkd.bundle import read_bundle
from streamkd.errors import BundleError, ConflictError
from streamkd.shipped import SHIPPED_STUDENT, asset
from streamkd.store.records import ModelRecord

if TYPE_CHECKING:
    from streamkd.bundle import Bundle, StudentSpec
    from streamkd.clock import Clock
    from streamkd.config import Config
    from streamkd.store import Repository

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Models:
    """The registry's rules over the store; used on the database's thread.

    `live` is the version that serves, `spec` what it knows.
    """

    config: Config
    repository: Repository
    live: ModelRecord
    spec: StudentSpec

    @classmethod
    def open(cls, config: Config, repository: Repository, clock: Clock) -> Self:
        """Make the configured bundle known, and decide which version serves.

        The version that served last goes on if a refresh made it and its bundle is still whole. Everything else
        follows the configuration, so that another `student.bundle`, or another shipped one, takes effect.

        Raises:
            BundleError: The configured bundle can't be used.
        """
        bundle = read_bundle(bundle_path(config.student.bundle))
        repository.add_model(record_of(bundle, clock))
        live = repository.live_model()
        spec = _whole(live) if live is not None and _made_here(live, config) else None
        if live is not None and spec is not None:
            return cls(config, repository, live, spec)
        return cls(config, repository, repository.activate(bundle.spec.version, "configured"), bundle.spec)

    def promote(self, version: str, reason: str) -> ModelRecord:
        """Let a version serve.

        Raises:
            NotFoundError: It is not known.
            BundleError: Its bundle is damaged or gone.
        """
        spec = check(self.repository.get_model(version))
        self.live, self.spec = self.repository.activate(version, reason), spec
        return self.live

    def rollback(self) -> ModelRecord:
        """Let the version that served before serve again.

        Raises:
            ConflictError: There is none.
            BundleError: Its bundle is damaged or gone.
        """
        previous = self.repository.previous_model()
        if previous is None:
            raise ConflictError("There is no earlier model to roll back to.", hint="Promote a version by its name.")
        spec = check(previous)
        self.live, self.spec = self.repository.rollback(), spec
        return self.live

    def prune(self) -> None:
        """Forget old versions and delete the bundles that were made here."""
        for record in self.repository.prune_models(self.config.refresh.keep_versions):
            if _made_here(record, self.config):
                shutil.rmtree(record.path, ignore_errors=True)


def bundle_path(name: str) -> Path:
    """The folder that `student.bundle` names."""
    return asset(name, SHIPPED_STUDENT)


def record_of(bundle: Bundle, clock: Clock) -> ModelRecord:
    """A bundle as the store knows it, not live."""
    return ModelRecord(
        version=bundle.spec.version,
        path=str(bundle.path),
        parent=bundle.lineage.parent,
        created_utc=clock.utc(),
        live=False,
        metrics=bundle.metrics,
    )


def check(record: ModelRecord) -> StudentSpec:
    """Read a version's bundle; returns its spec.

    Raises:
        BundleError: It is damaged, gone, or has become another version.
    """
    spec = read_bundle(Path(record.path)).spec
    if spec.version != record.version:
        raise BundleError(
            f"Model bundle {record.path} holds version {spec.version}, not {record.version}.",
            hint="It was replaced; promote another version.",
        )
    return spec


def _whole(record: ModelRecord) -> StudentSpec | None:
    try:
        return check(record)
    except BundleError as error:
        _log.warning("model not usable, back to the configured one", version=record.version, reason=error.message)
        return None


def _made_here(record: ModelRecord, config: Config) -> bool:
    return Path(record.path).resolve().is_relative_to(config.store.models_dir.resolve())


__all__ = ["Models", "bundle_path", "check", "record_of"]
