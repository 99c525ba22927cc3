"""HOST:PORT and options become a relay as the configuration would have it, or a sentence about what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import SecretStr, ValidationError

from plugin.config import Config, Relay

_EXAMPLE: Final = "write it as HOST:PORT, such as smtp.example.net:587"
_OPTIONS: Final[Mapping[str, str]] = {
    "host": "HOST",
    "ca_file": "--ca-file",
    "server_name": "--server-name",
    "helo_name": "--helo-name",
    "username": "--username",
    "password": "the password",
}


class WrongUse(ValueError):
    """What was typed cannot be meant; the text is one sentence with the remedy, and without the password."""


def parse_target(text: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``; the host is judged by ``relay_of``. Raises WrongUse."""
    host, colon, port = text.rpartition(":")
    if "/" in text or "@" in text:
        raise WrongUse(f"{text!r} is more than a host and a port: {_EXAMPLE}")
    if ":" in host or text.startswith("["):
        raise WrongUse(f"{text!r} is an IPv6 address, and the W5100 has no IPv6: give a name or an IPv4 address")
    if not colon:
        raise WrongUse(f"{text!r} lacks the port: write {text}:587, or :465, or :25")
    if not host:
        raise WrongUse(f"{text!r} lacks the host: {_EXAMPLE}")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= 65_535):
        raise WrongUse(f"{port!r} is no port: write a number from 1 to 65535")
    return host, int(port)


def relay_of(target: str, *, username: str | None, password: str | None, **options: Any) -> Relay:
    """Return the relay at ``target`` with ``options`` as in ``relays:``, those that are None left out.

    Raises WrongUse for what the configuration would not take either.
    """
    host, port = parse_target(target)
    login: dict[str, Any] = {}
    if username is not None and password is not None:
        login = {"username": username, "password": SecretStr(password)}
    given = {key: value for key, value in options.items() if value is not None}
    try:
        return Relay.model_validate({"host": host, "port": port, **login, **given})
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
        where = _OPTIONS.get(str(found["loc"][0]), str(found["loc"][0]))
        raise WrongUse(f"{where} {found['msg'].removeprefix('Value error, ')}") from None


def alone(relay: Relay) -> Config:
    """Return the configuration that has ``relay``, the emulated chip on the host's network, and nothing to do."""
    return Config.model_validate(
        {
            "relays": [relay],
            "sender": "probe@localhost",
            "routes": [{"topic": "#", "to": ["probe@localhost"]}],
        }
    )
