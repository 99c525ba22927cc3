"""What the keys of a relay must be together: security, login, and what each AUTH mechanism sends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from plugin.config.faults import Finding, KeyPath
from plugin.config.plain import Data, has, is_truth, names_in

# what a login may be proved by, and which AUTH mechanisms send what (plugin.smtp.auth has their exchanges)
_PROOFS: Final = ("password", "token_file", "token_command")
_PASSWORD_MECHANISMS: Final = ("PLAIN", "LOGIN", "CRAM-MD5")
_TOKEN_MECHANISMS: Final = ("OAUTHBEARER", "XOAUTH2")


def check_relay(relay: Data, path: KeyPath) -> Iterator[Finding]:
    """Yield faults and warnings of one relay, which stands at ``path``."""
    yield from _check_security(relay, path)
    yield from _check_login(relay, path)
    yield from _check_mechanisms(relay, path)
    yield from _check_eager(relay, path)
    username, auth = has(relay, "username"), relay.get("auth")
    if auth in ("required", "preferred") and not username:
        yield Finding((*path, "auth"), f"{auth} needs username and password, or a token; without them write none")
    if relay.get("greeting") == "helo" and (auth == "required" or (auth is None and username)):
        text = "HELO offers no AUTH, so no mail could ever leave: write greeting: auto, or auth: preferred or none"
        yield Finding((*path, "greeting"), text)


def _check_login(relay: Data, path: KeyPath) -> Iterator[Finding]:
    given = [key for key in _PROOFS if has(relay, key)]
    if has(relay, "username") and not given:
        text = "a username needs a password beside it (password: !secret NAME), or token_file or token_command"
        yield Finding((*path, "username"), text)
    if given and not has(relay, "username"):
        yield Finding((*path, given[0]), f"a {given[0].partition('_')[0]} needs a username beside it")
    for key in given[1:]:
        text = f"{given[0]} stands there too: keep one of {', '.join(_PROOFS)}, and take the others out"
        yield Finding((*path, key), text)
    if not has(relay, "token_command"):
        for key in ("token_timeout", "token_lifetime"):
            if has(relay, key):
                yield Finding((*path, key), "has no effect without token_command", warning=True)


def _proof(relay: Data) -> str | None:
    """Return what the login is proved by, ``password`` or ``token``; None where nothing or too much is said."""
    given = [key for key in _PROOFS if has(relay, key)]
    return given[0].partition("_")[0] if len(given) == 1 else None


def _mechanisms(relay: Data) -> list[str]:
    return [name.upper() for name in names_in(relay.get("mechanisms"))]


def _check_mechanisms(relay: Data, path: KeyPath) -> Iterator[Finding]:
    proof = _proof(relay)
    if _mechanisms(relay) and not has(relay, "username"):
        yield Finding((*path, "mechanisms"), "has no effect without a username", warning=True)
    for position, name in enumerate(_mechanisms(relay)):
        place = (position,) if isinstance(relay.get("mechanisms"), list) else ()
        if proof == "password" and name in _TOKEN_MECHANISMS:
            text = f"{name} sends a token: write token_file or token_command in place of password, or take it out"
            yield Finding((*path, "mechanisms", *place), text)
        elif proof == "token" and name in _PASSWORD_MECHANISMS:
            fit = " or ".join(_TOKEN_MECHANISMS)
            text = f"{name} sends a password, and there is a token: write {fit}, or take it out"
            yield Finding((*path, "mechanisms", *place), text)


def _check_eager(relay: Data, path: KeyPath) -> Iterator[Finding]:
    """Eager sends AUTH PLAIN and what follows in one write, so all of it must be known beforehand."""
    path = (*path, "eager")
    if not is_truth(relay, "eager", truth=True):
        return
    if not has(relay, "username") or relay.get("auth") == "none":
        text = "sends the login together with the mail, and there is none: write username and password, or false"
        yield Finding(path, text)
    elif _proof(relay) == "token":
        yield Finding(path, "sends a password together with the mail, never a token: write password, or false")
    elif _mechanisms(relay)[:1] in (["LOGIN"], ["CRAM-MD5"]):
        yield Finding(
            path, "sends AUTH PLAIN together with the mail: put PLAIN first in mechanisms, or write false"
        )
    elif relay.get("greeting") == "helo":
        yield Finding(path, "needs EHLO, which helo never says: write greeting: auto, or eager: false")
    elif _security(relay) == "none":
        text = "sends password and mail in clear text, and does not wait until the relay has taken the login"
        yield Finding(path, text, warning=True)


def _check_security(relay: Data, path: KeyPath) -> Iterator[Finding]:
    security = _security(relay)
    if security == "starttls" and relay.get("greeting") == "helo":
        text = "STARTTLS needs EHLO (RFC 3207), which helo never says: write greeting: auto, or security: tls"
        yield Finding((*path, "greeting"), text)
    if security == "none":
        set_keys = [key for key in ("ca_file", "server_name") if has(relay, key)]
        for key in [*set_keys, *(["verify"] if is_truth(relay, "verify", truth=False) else [])]:
            yield Finding((*path, key), "has no effect with security: none", warning=True)


def _security(relay: Data) -> Any:
    return relay.get("security") or ("tls" if str(relay.get("port")) == "465" else "starttls")
