"""Ports for servers that are started by their number."""

from __future__ import annotations

import secrets
import socket

_FIRST, _COUNT = 20_000, 12_000  # below those that Linux hands out by itself, for port 0 and for clients


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nothing listens on now.

    Nobody is given it by chance before the server that it is for listens: other tests open dozens of sockets meanwhile.
    """
    while True:
        port = _FIRST + secrets.randbelow(_COUNT)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


__all__ = ["free_port"]
