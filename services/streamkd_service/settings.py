"""Settings of the command line itself: where a running service is, and single keys over the YAML file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from streamkd.config import Config, config_error, load_config
from streamkd.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

_DEFAULT_URL = "http://127.0.0.1:8400"


class ClientSettings(BaseSettings):
    """How commands reach a running service: `STREAMKD_URL` and `STREAMKD_TOKEN`."""

    model_config = SettingsConfigDict(env_prefix="STREAMKD_", extra="ignore", frozen=True)

    url: str = _DEFAULT_URL
    token: SecretStr | None = None


def client_settings(url: str | None, token: str | None) -> tuple[str, str | None]:
    """URL and token: what the command line says, else the environment.

    Raises:
        InputError: The URL is none.
    """
    found = ClientSettings()
    secret = found.token.get_secret_value() if found.token else None
    address = url or found.url
    if not address.startswith(("http://", "https://")):
        raise InputError(f"{address!r} is not the address of a service.", hint=f"Write it like {_DEFAULT_URL}.")
    return address, token or secret


def service_config(
    path: Path | None, *, host: str | None = None, port: int | None = None, ray_address: str | None = None
) -> Config:
    """The YAML file and the environment, with what the command line says on top.

    Raises:
        ConfigError: The file is wrong, or the options contradict it.
    """
    config = load_config(path)
    api: dict[str, Any] = {key: value for key, value in {"host": host, "port": port}.items() if value is not None}
    changes: dict[str, Any] = {}
    if api:
        changes["api"] = config.api.model_copy(update=api)
    if ray_address is not None:
        changes["workers"] = config.workers.model_copy(update={"ray_address": ray_address})
    if not changes:
        return config
    try:
        # Checked again as a whole: a host that is reachable from outside needs a token.
        return Config.model_validate({name: getattr(config, name) for name in Config.model_fields} | changes)
    except ValidationError as error:
        raise config_error(error) from None


__all__ = ["ClientSettings", "client_settings", "service_config"]
