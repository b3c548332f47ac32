"""The whole error tree of streamkd.

Every error that may reach a user says what was being done, with what, why it failed and what to try.
`message` never holds a secret: whoever raises passes URLs through `streamkd.config.redact_url` first.
"""

from __future__ import annotations

from streamkd.types import FailureReason


class StreamkdError(Exception):
    """Base of every error that a user may see; printed as one line, never as a traceback.

    Args:
        message: What was being done, with what, and why it failed.
        hint: What to try next, as one imperative sentence.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process boundaries; the keyword argument has to survive pickling.
        return (_rebuild, (type(self), self.message, self.hint))


def _rebuild(kind: type[StreamkdError], message: str, hint: str) -> StreamkdError:
    return kind(message, hint=hint)


class ConfigError(StreamkdError):
    """The configuration is wrong: an unknown key, a wrong type, a missing secret."""


class InputError(StreamkdError):
    """Something handed in by a user can't be used: a file, an upload, an argument."""


class UnsupportedMediaError(InputError):
    """A file or upload is not a video that can be decoded, or it is empty or truncated."""


class TooLargeError(InputError):
    """An upload is over a size or length limit."""


class NotFoundError(StreamkdError):
    """A camera, event, model or refresh with this name does not exist."""


class ConflictError(StreamkdError):
    """The request contradicts the present state: duplicate id, camera owned by the YAML, refresh running."""


class UnavailableError(StreamkdError):
    """A part of the service does not answer right now; trying again later is sensible."""


class SourceError(StreamkdError):
    """A camera or recording can't be read; `reason` says which kind of failure it is."""

    def __init__(self, message: str, *, hint: str = "", reason: FailureReason = FailureReason.ERROR) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_source_error, (self.message, self.hint, self.reason))


def _rebuild_source_error(message: str, hint: str, reason: FailureReason) -> SourceError:
    return SourceError(message, hint=hint, reason=reason)


class BundleError(StreamkdError):
    """A model bundle is incomplete, damaged, or of another schema version."""


class StoreError(StreamkdError):
    """The database can't be opened, migrated or written."""


class DependencyError(StreamkdError):
    """An optional dependency (torch, nncf) is needed for this command and is not installed."""


class TrainingError(StreamkdError):
    """Training or distillation can't go on: too little data, one class only, NaN in a loss."""


__all__ = [
    "BundleError",
    "ConfigError",
    "ConflictError",
    "DependencyError",
    "InputError",
    "NotFoundError",
    "SourceError",
    "StoreError",
    "StreamkdError",
    "TooLargeError",
    "TrainingError",
    "UnavailableError",
    "UnsupportedMediaError",
]
