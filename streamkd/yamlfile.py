"""A YAML file that people write: its keys, and the line of each, so that a message can name the place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from streamkd.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic_core import ErrorDetails

Lines = dict[tuple[str | int, ...], int]


def read_yaml(path: Path, what: str, *, example: str, hint: str = "Check the path.") -> tuple[dict[str, Any], Lines]:
    """The file's keys, and on which line each of them stands, from 1; both are empty for an empty file.

    Args:
        path: The file.
        what: What it is called in messages.
        example: A key that such a file holds.
        hint: What to try if there is no such file.

    Raises:
        ConfigError: It can't be read, is not YAML, holds no keys, or one of them twice: YAML would keep the last.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{what} {path} can't be read: {error.strerror}.", hint=hint) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{what} {path} is not UTF-8 text.", hint="Name a YAML file.") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise ConfigError(f"{path}{line}: {problem}.", hint="Check the indentation and quotes.") from error
    if data is None:
        return {}, {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: the file must hold keys such as '{example}:', not a {type(data).__name__}.")
    lines: Lines = {}
    try:
        _collect_lines(node, (), lines)
    except _TwiceError as error:
        raise ConfigError(f"{path}, {error}.", hint="Join the two, or remove one.") from None
    return data, lines


_IN_WORDS = {
    "extra_forbidden": "unknown key",
    "invalid_key": "unknown key",
    "missing": "this key is missing",
    "tuple_type": "must be a list: lines that begin with '- '",
    "model_type": "must hold keys, as in 'key: value'",
    "string_pattern_mismatch": "use lower case letters, digits, '-' and '_' only, at most 63",  # of ids
}


def in_words(problem: ErrorDetails) -> str:
    """What is wrong with a key, for people: one entry of pydantic's `ValidationError.errors()`."""
    return _IN_WORDS.get(problem["type"], problem["msg"].removeprefix("Value error, "))


class _TwiceError(Exception):
    """Of two equal keys."""


def _collect_lines(node: yaml.Node | None, where: tuple[str | int, ...], lines: Lines) -> None:
    if node is None:
        return
    lines.setdefault(where, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line, name = key.start_mark.line + 1, (*where, key.value)
            if key.value in seen:
                raise _TwiceError(f"line {line}: {'.'.join(map(str, name))}: this key stands twice")
            seen.add(key.value)
            lines[name] = line
            _collect_lines(value, name, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _collect_lines(value, (*where, index), lines)


__all__ = ["Lines", "in_words", "read_yaml"]
