"""Who may ask: a bearer token, or, without one, only programs and pages of this machine."""

from __future__ import annotations

import hmac
import ipaddress
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from streamkd.config import ApiConfig
from streamkd_service.api.dependencies import Services

_bearer = HTTPBearer(auto_error=False, description="`api.token` of the configuration")
_Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]


def api_config(request: Request) -> ApiConfig:
    services: Services = request.app.state.services
    return services.config.api


_Config = Annotated[ApiConfig, Depends(api_config)]


def require_token(request: Request, credentials: _Credentials, config: _Config) -> None:
    """Let the request pass if it carries the token.

    Without a token the service listens on loopback only; then the browser on this machine is the way in from outside
    (another site's page, or its name pointed at 127.0.0.1), so such requests are turned away.

    Raises:
        HTTPException: 401 without the right token, 403 for a foreign page.
    """
    if config.token is None:
        _refuse_foreign_pages(request, config)
        return
    expected = config.token.get_secret_value().encode()
    given = credentials.credentials.encode() if credentials is not None else b""
    if not expected or not hmac.compare_digest(given, expected):
        what = "wrong" if credentials is not None else "missing"
        raise HTTPException(
            401,
            f"The bearer token is {what}. Send the header Authorization: Bearer … with api.token of the configuration.",
            {"WWW-Authenticate": 'Bearer realm="streamkd"'},
        )


def require_token_for_metrics(request: Request, credentials: _Credentials, config: _Config) -> None:
    """As `require_token`, if the configuration asks for it."""
    if config.metrics == "token":
        require_token(request, credentials, config)


def _refuse_foreign_pages(request: Request, config: ApiConfig) -> None:
    host = _host_of(f"//{request.headers.get('host', '')}")
    if not (_is_loopback(host) or host == config.host):
        raise HTTPException(403, f"Without api.token only this machine is served, not the host name {host!r}.")
    origin = request.headers.get("origin")
    if origin is not None and _host_of(origin) != host:
        raise HTTPException(403, "Without api.token no page of another web site is served.")


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


__all__ = ["api_config", "require_token", "require_token_for_metrics"]
