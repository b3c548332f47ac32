"""A PostgreSQL of our own for tests: Debian's binaries, a temporary folder, a free port; never the system's service."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.ports import free_port

_PASSWORD = "p@ss/word"
_ADMIN = "streamkd"


def binaries() -> Path | None:
    """Where initdb and postgres are, newest version first."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    return Path(on_path).resolve().parent if on_path else None


@dataclass
class PostgresServer:
    port: int
    password: str = _PASSWORD

    def url(self, database: str = "postgres", password: str = _PASSWORD) -> str:
        quoted = password.replace("@", "%40").replace("/", "%2F")
        return f"postgresql://{_ADMIN}:{quoted}@127.0.0.1:{self.port}/{database}"

    def create(self, name: str) -> str:
        """A new, empty database; returns its address."""
        self.run("postgres", f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)

    def run(self, database: str, *statements: str) -> None:
        """Run statements, each in a transaction of its own."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Start a server and end it again. PostgreSQL refuses to run as root, so root lends it the user `postgres`."""
    bin_dir = binaries()
    assert bin_dir is not None
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="streamkd-pg-"))
    if user:
        shutil.chown(folder, "postgres", "postgres")
    process = None
    try:
        secret = folder / "secret"
        secret.write_text(_PASSWORD)
        if user:
            shutil.chown(secret, "postgres", "postgres")
        initdb = [bin_dir / "initdb", "-D", folder / "data", "-U", _ADMIN, "-E", "UTF8", "--locale=C.UTF-8"]
        subprocess.run(
            [*initdb, "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=folder,
            timeout=60,
            **user,
        )
        port = free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "off",
            "timezone": "Asia/Kathmandu",  # whatever the server thinks, times come out in UTC
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [bin_dir / "postgres", "-D", folder / "data", *options], stdout=log, stderr=log, cwd=folder, **user
            )
        server = PostgresServer(port)
        _wait_until_ready(process, server, folder / "log")
        yield server
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # fast shutdown: it ends its clients
            process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(process: subprocess.Popen, server: PostgresServer, log: Path, timeout_s: float = 30.0) -> None:
    import psycopg

    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        assert process.poll() is None, log.read_text()
        try:
            psycopg.connect(server.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(log.read_text())
