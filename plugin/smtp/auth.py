"""AUTH (RFC 4954) as pure exchanges: what a mechanism answers depends only on the challenges so far.

A mechanism is one function in ``_MECHANISMS``, in the order of our preference. It returns the octets to answer,
before base64; None means that it has nothing (more) to say. PLAIN stands first because it needs one round trip
less; over a connection without TLS neither PLAIN nor LOGIN hides the password.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from plugin.smtp.reply import Reply

MAX_CREDENTIAL_BYTES: Final = 4096
"""Keeps an answer below the 12,288 octets of RFC 4954 §4."""
MAX_COMMAND_BYTES: Final = 512
"""A command line with its CRLF (RFC 5321 §4.5.3.1.4), to which AUTH with an initial response keeps as well."""

_NOT_UNDERSTOOD: Final = frozenset({500, 501, 502, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A login, sent as UTF-8. Raises ValueError for what no mechanism could send: a NUL, a lone surrogate."""

    username: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        for name, value in (("username", self.username), ("password", self.password)):
            # RFC 4616 §2 separates the two by NUL. The value itself is kept out of the errors.
            if not value or "\0" in value:
                raise ValueError(f"the {name} for AUTH is empty or holds a NUL")
            if any("\ud800" <= character <= "\udfff" for character in value):
                raise ValueError(f"the {name} for AUTH is not valid Unicode text")
            if len(value.encode()) > MAX_CREDENTIAL_BYTES:
                raise ValueError(f"the {name} for AUTH has more than {MAX_CREDENTIAL_BYTES} octets")


def _plain(credentials: Credentials, challenges: Sequence[str]) -> bytes | None:
    """RFC 4616: one message. A relay that passes over the initial response asks, and is told once more."""
    if len(challenges) > 1:
        return None
    return b"\0" + credentials.username.encode() + b"\0" + credentials.password.encode()


def _login(credentials: Credentials, challenges: Sequence[str]) -> bytes | None:
    """The old LOGIN: user name, then password. The prompts differ everywhere, so they are counted, not read."""
    answers = (None, credentials.username.encode(), credentials.password.encode())
    return answers[len(challenges)] if len(challenges) < len(answers) else None


_MECHANISMS: Final[Mapping[str, Callable[[Credentials, Sequence[str]], bytes | None]]] = {
    "PLAIN": _plain,
    "LOGIN": _login,
}


def choose(offered: Collection[str], tried: Collection[str]) -> str | None:
    """Return the mechanism we like best of those ``offered`` (upper case) and not ``tried`` yet, or None."""
    return next((name for name in _MECHANISMS if name in offered and name not in tried), None)


def command(mechanism: str, credentials: Credentials) -> str:
    """Return the AUTH command, with the initial response where the mechanism has one and the line can hold it."""
    initial = _MECHANISMS[mechanism](credentials, ())
    bare = f"AUTH {mechanism}"
    if initial is None:
        return bare
    line = f"{bare} {b64encode(initial).decode('ascii')}"
    return line if len(line) + len("\r\n") <= MAX_COMMAND_BYTES else bare


def answer(mechanism: str, credentials: Credentials, challenges: Sequence[str]) -> str:
    """Return the line that answers the last of ``challenges`` (the texts of all 334 so far); "*" cancels."""
    octets = _MECHANISMS[mechanism](credentials, challenges)
    return "*" if octets is None else b64encode(octets).decode("ascii")


def may_try_another(reply: Reply) -> bool:
    """Whether a refusal speaks of the command or the mechanism, so that the next mechanism may be tried.

    Anything else may mean that the password was looked at (535, 534 …): trying it again by another mechanism
    brings accounts nearer to being locked.
    """
    return reply.code in _NOT_UNDERSTOOD
