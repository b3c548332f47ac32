"""A small client of the service's own API, for the command line and the demo."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import httpx

from streamkd.errors import ConflictError, InputError, NotFoundError, StreamkdError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TIMEOUT = httpx.Timeout(10.0, connect=3.0)
_STREAM_TIMEOUT = httpx.Timeout(60.0, connect=3.0)
_KINDS: dict[int, type[StreamkdError]] = {404: NotFoundError, 409: ConflictError, 503: UnavailableError}


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One message of `/v1/stream`."""

    id: str
    topic: str
    data: dict[str, Any]


class ApiClient:
    """Calls a running service; every failure is a `StreamkdError` that says what to do."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=_TIMEOUT, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Any:
        return self._json("GET", path, params=params)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._json("POST", path, json=body or {})

    def delete(self, path: str) -> None:
        self._json("DELETE", path)

    def text(self, path: str) -> str:
        return self._send("GET", path).text

    def download(self, path: str, target: Path) -> int:
        """Save what lies at `path` as a file, whole or not at all; returns its bytes.

        Raises:
            InputError: The file can't be written.
        """
        partial = target.with_name(f"{target.name}.part")
        try:
            with self._http.stream("GET", path) as response, partial.open("wb") as file:
                if response.is_error:
                    response.read()
                    raise _problem(response)
                for piece in response.iter_bytes():
                    file.write(piece)
            partial.replace(target)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        except OSError as error:
            what = f"{target} can't be written: {error.strerror}."
            raise InputError(what, hint="Name another with --out.") from error
        finally:
            partial.unlink(missing_ok=True)
        return target.stat().st_size

    def stream(self, last_event_id: str | None = None) -> Iterator[ServerEvent]:
        """Messages as they come, until the service ends the stream."""
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        try:
            with self._http.stream("GET", "/v1/stream", headers=headers, timeout=_STREAM_TIMEOUT) as response:
                if response.is_error:
                    response.read()
                    raise _problem(response)
                yield from _server_events(response.iter_lines())
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _json(self, method: str, path: str, **arguments: Any) -> Any:
        response = self._send(method, path, **arguments)
        return response.json() if response.content else None

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if response.is_error:
            raise _problem(response)
        return response

    def _unreachable(self, error: Exception) -> UnavailableError:
        return UnavailableError(
            f"No streamkd service answers at {self.url}: {type(error).__name__}.",
            hint="Start one with streamkd serve, or name its address with --url.",
        )


def _problem(response: httpx.Response) -> StreamkdError:
    """The error that an RFC 9457 answer describes."""
    try:
        body = response.json()
    except ValueError:
        body = {}
    detail = str(body.get("detail") or body.get("title") or f"the service answered {response.status_code}")
    if response.status_code in {401, 403}:
        return InputError(detail, hint="Give the token with --token or STREAMKD_TOKEN.")
    return _KINDS.get(response.status_code, InputError)(detail)


def _server_events(lines: Iterator[str]) -> Iterator[ServerEvent]:
    fields: dict[str, str] = {}
    for line in lines:
        if not line:
            if "data" in fields:
                yield ServerEvent(fields.get("id", ""), fields.get("event", "message"), json.loads(fields["data"]))
            fields = {}
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        fields[name] = f"{fields['data']}\n{value}" if name == "data" and "data" in fields else value


__all__ = ["ApiClient", "ServerEvent"]
