"""The Ray session that the service runs in: started, watched, ended without leaving anything behind."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from streamkd.errors import UnavailableError
from streamkd_service.runtime.lifetimes import adopt_orphans, make_folder, remove_folders

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_TEMP_PREFIX, _TEMP_PARENT = "skd-", "/tmp"  # noqa: S108 - short: socket paths end at 107 bytes
_OBJECT_STORE_BYTES = 80 * 1024 * 1024  # close to the least that Ray takes; nothing large is ever put there
_VITAL = frozenset({"raylet", "gcs_server"})
_STOP_BUDGET_S = 2.0
_ANSWER_S = 5.0


@dataclass(slots=True)
class RaySession:
    """A connected session. `namespace` keeps the actor names of two services on one cluster apart."""

    namespace: str
    local: bool
    node_id: str
    temp_dir: Path | None = None
    vital: dict[str, psutil.Process] = field(default_factory=dict)  # without these, Ray is no more

    @property
    def log_path(self) -> Path | None:
        """Where actors append their log lines; None in a cluster, whose nodes keep them themselves."""
        return None if self.temp_dir is None else self.temp_dir / "streamkd.log"

    def failure(self) -> str | None:
        """What is wrong with Ray itself, or None; cheap for a local session, up to 4 s for a cluster."""
        if self.local:
            for name, process in self.vital.items():
                if not _runs(process):
                    return f"Ray's {name} (process {process.pid}) has ended"
            return None
        return _cluster_failure()

    def stop(self, timeout_s: float = _STOP_BUDGET_S) -> None:
        """Disconnect; a local session's processes and files are gone afterwards."""
        deadline_s = time.monotonic() + timeout_s
        family = _descendants() if self.local else []
        if self.local and self.failure() is not None:
            deadline_s = time.monotonic()  # nobody is left to end in order
        else:
            leaving = threading.Thread(target=_leave, name="ray-shutdown", daemon=True)
            leaving.start()
            leaving.join(timeout_s)
        if self.local:
            self._sweep(family, max(0.0, deadline_s - time.monotonic()))

    def kill(self) -> None:
        """End a local session at once, without asking it."""
        if self.local:
            self._sweep(_descendants(), grace_s=0.0)

    def _sweep(self, family: Iterable[psutil.Process], grace_s: float) -> None:
        _end(family, grace_s)
        if self.temp_dir is not None:
            shutil.rmtree(self.temp_dir, ignore_errors=True)


def start_session(address: str | None = None) -> RaySession:
    """Start a private local session, or join the cluster at `address`.

    A session that happens to run on this machine is never joined, whatever `RAY_ADDRESS` says.

    Raises:
        UnavailableError: Ray does not start, or the cluster does not answer.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_DEDUP_LOGS"] = "0"
    namespace = f"streamkd-{secrets.token_hex(4)}"
    return _start_local(namespace) if address is None else _join(address, namespace)


def abandon_session() -> None:
    """End what a start that is under way has begun; Ray itself can't be interrupted there, so this process must end."""
    _end(_descendants(), 0.0)
    remove_folders(_TEMP_PREFIX, _TEMP_PARENT, own=True)


def _start_local(namespace: str) -> RaySession:
    # Any other user of this machine could reach the session's ports: only who knows the token gets in.
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    os.environ["RAY_enable_metrics_collection"] = "false"  # noqa: SIM112 - Ray's spelling
    for name in ("RAY_ADDRESS", "RAY_NAMESPACE", "RAY_TMPDIR"):
        os.environ.pop(name, None)
    import ray  # noqa: PLC0415

    logging.getLogger("ray").setLevel(logging.ERROR)
    adopt_orphans()
    temp_dir = make_folder(_TEMP_PREFIX, _TEMP_PARENT)
    try:
        ray.init(
            address="local",
            num_cpus=1,
            num_gpus=0,
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            _temp_dir=str(temp_dir),
            namespace=namespace,
            configure_logging=False,
            log_to_driver=False,
        )
    except Exception as error:
        _end(_descendants(), 0.0)
        shutil.rmtree(temp_dir, ignore_errors=True)
        raise UnavailableError(
            f"The local Ray session did not start: {_first_line(error)}.",
            hint="Check that /tmp is writable and that at least 1 GiB of memory is free.",
        ) from error
    session = RaySession(namespace, local=True, node_id=_node_id(), temp_dir=temp_dir)
    session.vital = {_name(process): process for process in _descendants() if _name(process) in _VITAL}
    return session


def _join(address: str, namespace: str) -> RaySession:
    import ray  # noqa: PLC0415

    _check_answers(address)
    try:
        ray.init(address=address, namespace=namespace, configure_logging=False, log_to_driver=False)
    except Exception as error:
        raise UnavailableError(
            f"The Ray cluster at {address} can't be joined: {_first_line(error)}.",
            hint="Check the address, that the cluster runs the same Ray version, and RAY_AUTH_TOKEN.",
        ) from error
    return RaySession(namespace, local=False, node_id=_node_id())


def _check_answers(address: str) -> None:
    """Ray itself tries for a minute, deaf to Ctrl-C, before it says that nobody is there."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()) or "://" in address:
        return  # "auto", or a form that Ray knows and we don't
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise UnavailableError(
            f"No Ray cluster answers at {address}: {getattr(error, 'strerror', None) or error}.",
            hint="Check workers.ray_address, or leave it out for a private session.",
        ) from error


def _leave() -> None:
    import ray  # noqa: PLC0415

    with contextlib.suppress(Exception):  # whatever Ray says now, what follows ends it
        ray.shutdown()


def _node_id() -> str:
    import ray  # noqa: PLC0415

    return str(ray.get_runtime_context().get_node_id())


def _cluster_failure() -> str | None:
    import ray  # noqa: PLC0415

    own = _node_id()
    try:
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
    except Exception as error:  # noqa: BLE001 - every failure means the same here
        return f"the Ray cluster does not answer: {_first_line(error)}"
    alive = any(node["NodeID"] == own and node["Alive"] for node in nodes)
    return None if alive else "the Ray node of this machine has left the cluster"


def _descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _end(processes: Iterable[psutil.Process], grace_s: float) -> None:
    """Wait for processes to end by themselves for `grace_s`, then kill the rest."""
    deadline_s = time.monotonic() + grace_s
    processes = list(processes)
    left = [process for process in processes if _runs(process)]
    _, left = psutil.wait_procs(left, timeout=min(0.3, grace_s))
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, left = psutil.wait_procs(left, timeout=max(0.0, deadline_s - time.monotonic()))
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=1.0)
    _reap(processes)


def _reap(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(OSError):
            os.waitpid(process.pid, os.WNOHANG)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return ""


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


__all__ = ["RaySession", "abandon_session", "start_session"]
