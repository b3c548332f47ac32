"""What went wrong with a source, in words for people: one line with a reason and a hint, never with a secret.

PyAV's own messages carry the whole URL, password included, so they are never shown: only their kind is used.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import av
import av.error

from streamkd.errors import SourceError
from streamkd.types import FailureReason

if TYPE_CHECKING:
    from collections.abc import Callable

_PROBE_TIMEOUT_S = 1.0
_DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}

# The first entry that the error is an instance of decides: subclasses before their bases.
_KINDS: tuple[tuple[type[BaseException], FailureReason, str, str], ...] = (
    (
        av.error.HTTPUnauthorizedError,
        FailureReason.AUTH,
        "it refuses the user or password",
        "Check both in the camera's URL; special characters must be percent-encoded.",
    ),
    (
        av.error.HTTPForbiddenError,
        FailureReason.AUTH,
        "it forbids access",
        "Check that the camera's user may view the stream.",
    ),
    (
        av.error.HTTPNotFoundError,
        FailureReason.NOT_FOUND,
        "it knows no stream of this path",
        "Compare the URL's path with the camera's manual.",
    ),
    (
        av.error.HTTPError,
        FailureReason.ERROR,
        "it answers with an error of its own",
        "Look at the camera's own log; restart it if this lasts.",
    ),
    (FileNotFoundError, FailureReason.NOT_FOUND, "there is no such file", "Check the path."),
    (IsADirectoryError, FailureReason.UNSUPPORTED, "it is a folder", "Name a video file."),
    (PermissionError, FailureReason.ERROR, "this user may not read it", "Check the file's permissions."),
    (
        ConnectionRefusedError,
        FailureReason.UNREACHABLE,
        "the connection was refused",
        "Check address and port, and that the camera's streaming service is on.",
    ),
    (
        TimeoutError,
        FailureReason.TIMEOUT,
        "it did not answer in time",
        "Check the network; raise open_timeout_s if the camera is slow.",
    ),
    (
        av.error.ExitError,
        FailureReason.TIMEOUT,
        "it did not answer in time",
        "Check the network; raise open_timeout_s if the camera is slow.",
    ),
    (ConnectionError, FailureReason.ENDED, "the connection was cut", "Check the network and the camera's log."),
    (EOFError, FailureReason.ENDED, "it ended the connection", "Check that the camera is not restarting."),
    (
        av.error.ProtocolNotFoundError,
        FailureReason.UNSUPPORTED,
        "its protocol is not allowed",
        "Use rtsp, rtsps, http, https or a video file.",
    ),
    (
        av.error.InvalidDataError,
        FailureReason.UNSUPPORTED,
        "it does not send a video that can be read",
        "Check that it plays in a video player.",
    ),
    (
        av.error.ArgumentError,
        FailureReason.UNSUPPORTED,
        "its format is not allowed",
        "Use MP4, MOV, MKV, WebM, AVI or MPEG-TS for files; playlists only over http.",
    ),
    (OSError, FailureReason.UNREACHABLE, "it can't be reached", "Check name, address and network."),
)


@dataclass(frozen=True, slots=True)
class Target:
    """What was being opened.

    Attributes:
        url: With its secrets; only its host and port are used.
        shown: What people get to see.
        network: Whether it is reached over a network.
    """

    url: str
    shown: str
    network: bool


def open_failure(
    error: BaseException,
    target: Target,
    *,
    elapsed_s: float,
    timeout_s: float,
    unreachable: Callable[[str], str | None] | None = None,
) -> SourceError:
    """Why a source could not be opened.

    Args:
        error: What was raised.
        target: What was being opened.
        elapsed_s: How long it took.
        timeout_s: How long it was allowed to take.
        unreachable: Says why a URL's host can't be connected to (None: it can); asked where the error doesn't tell.
    """
    if target.network and not isinstance(error, av.error.HTTPError) and elapsed_s >= 0.95 * timeout_s:
        # ffmpeg reports an interrupted RTSP handshake as invalid data.
        return _error(target, FailureReason.TIMEOUT, f"it did not answer within {timeout_s:g} s", _hint(TimeoutError))
    _, reason, why, hint = _kind(error)
    if target.network and reason in {FailureReason.UNSUPPORTED, FailureReason.UNREACHABLE}:
        said = (unreachable or why_unreachable)(target.url)
        if said is not None:
            return _error(target, FailureReason.UNREACHABLE, said, _hint(OSError))
    return _error(target, reason, why, hint)


def read_failure(error: BaseException, target: Target, *, timeout_s: float) -> SourceError:
    """Why reading ended, after the source was open."""
    _, reason, why, hint = _kind(error)
    if reason is FailureReason.TIMEOUT:
        why = f"nothing came for {timeout_s:g} s"
        hint = "Check the network and the camera; raise read_timeout_s for a camera that pauses."
    elif reason in {FailureReason.UNSUPPORTED, FailureReason.CORRUPT}:
        reason, why, hint = FailureReason.CORRUPT, "what it sends is damaged", "Use transport tcp; check the network."
    elif reason is FailureReason.UNREACHABLE:
        reason, why = FailureReason.ENDED, "the connection broke"
    return SourceError(f"Reading {target.shown} ended: {why}.", hint=hint, reason=reason)


def why_unreachable(url: str) -> str | None:
    """Why nothing can be reached at a URL's host and port, or None if something answers there."""
    parts = urlsplit(url)
    try:
        host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme.lower(), 554)
        socket.create_connection((host, port), timeout=_PROBE_TIMEOUT_S).close()
    except socket.gaierror:
        return "its name is not known"
    except TimeoutError:
        return "its address does not answer"
    except ValueError:
        return "its port is not a number (in a password, special characters must be percent-encoded)"
    except OSError as error:
        return (error.strerror or "it can't be reached").lower()
    return None


def _kind(error: BaseException) -> tuple[type[BaseException], FailureReason, str, str]:
    for entry in _KINDS:
        if isinstance(error, entry[0]):
            return entry
    why = f"an unexpected {type(error).__name__}"
    return (type(error), FailureReason.ERROR, why, "Run streamkd check on it.")


def _hint(kind: type[BaseException]) -> str:
    return next(entry[3] for entry in _KINDS if entry[0] is kind)


def _error(target: Target, reason: FailureReason, why: str, hint: str) -> SourceError:
    return SourceError(f"{target.shown} can't be opened: {why}.", hint=hint, reason=reason)


__all__ = ["Target", "open_failure", "read_failure", "why_unreachable"]
