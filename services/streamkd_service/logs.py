"""Log set-up: readable on a terminal, one JSON object a line on request, and no secret in either."""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Any, TextIO

import structlog

from streamkd.config import MASK

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from streamkd.config import LogConfig

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# A user and password in front of a host; greedy up to the last @ of the word, as passwords may hold one unescaped.
_CREDENTIALS = re.compile(r"\b([a-z][a-z0-9+.-]*://)[^\s'\"]*@", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # would move a terminal's cursor; line ends and tabs stay
_SECRET_KEYS = frozenset({"token", "password", "secret", "authorization"})


def mask_credentials(text: str) -> str:
    """The text with user and password of every URL in it replaced by `***`."""
    return _CREDENTIALS.sub(rf"\1{MASK}@", text)


def _mask(value: Any) -> Any:
    if isinstance(value, str):
        return mask_credentials(_CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", value))
    if isinstance(value, dict):
        return {key: MASK if str(key).lower() in _SECRET_KEYS else _mask(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mask(item) for item in value]
    return value


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: masks credentials wherever they may be, and shows control characters as text."""
    masked: dict[str, Any] = _mask(dict(event))
    return masked


def set_up_logs(config: LogConfig, *, stream: TextIO | None = None) -> None:
    """Send every log line of the process, the libraries' too, to `stream` (standard error) in the chosen format."""
    target = stream or sys.stderr
    level = _LEVELS[config.level]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer(default=str)
        if config.format == "json"
        else structlog.dev.ConsoleRenderer(colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=target),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_stdlib_tail(renderer))
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))  # libraries: only what may need a person


def _stdlib_tail(renderer: Any) -> list[Any]:
    return [structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact, renderer]


__all__ = ["mask_credentials", "redact", "set_up_logs"]
