"""AUTH (RFC 4954) as pure exchanges: what a mechanism answers depends only on the challenges so far.

A mechanism is one function in ``_MECHANISMS``, in the order of our preference. It returns the octets to answer,
before base64; None means that it has nothing (more) to say. PLAIN stands first because it needs one round trip
less; over a connection without TLS neither PLAIN nor LOGIN hides the password.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from plugin.smtp.errors import ProtocolError
from plugin.smtp.reply import Reply

MAX_CREDENTIAL_BYTES: Final = 4096
"""Keeps an answer below the 12,288 octets of RFC 4954 §4."""
MAX_COMMAND_BYTES: Final = 512
"""A command line with its CRLF (RFC 5321 §4.5.3.1.4), to which AUTH with an initial response keeps as well."""

MIN_SECRET_CHARS: Final = 4
"""A shorter password is not looked for in replies: it would be found in half of all words."""
MASK: Final = "****"

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
    """Answer user name, then password: LOGIN, which has no RFC. Prompts differ everywhere: count, never read."""
    answers = (None, credentials.username.encode(), credentials.password.encode())
    return answers[len(challenges)] if len(challenges) < len(answers) else None


_MECHANISMS: Final[Mapping[str, Callable[[Credentials, Sequence[str]], bytes | None]]] = {
    "PLAIN": _plain,
    "LOGIN": _login,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line to send without its CRLF, and what a transcript may show of it."""

    octets: str = field(repr=False)
    shown: str


class Login:
    """The AUTH part of one connection: which mechanism is tried, how far it has come, what must stay secret.

    Each mechanism is tried once. Without credentials there is never anything to begin.
    """

    def __init__(self, credentials: Credentials | None) -> None:
        self._credentials = credentials
        self._tried: list[str] = []
        self._challenges: list[str] = []
        self._respond: Callable[[Sequence[str]], bytes | None] = lambda _challenges: None
        self._cancelled = False
        self._secrets: set[str] = set()
        if credentials is not None and len(credentials.password) >= MIN_SECRET_CHARS:
            self._secrets.add(credentials.password)

    def begin(self, offered: Collection[str]) -> Line | None:
        """Return the AUTH command for the best of the mechanisms ``offered`` (upper case), None without any.

        It has the initial response where the mechanism knows one and a command line can hold it (RFC 4954 §4).
        """
        mechanism = next((name for name in _MECHANISMS if name in offered and name not in self._tried), None)
        if self._credentials is None or mechanism is None:
            return None
        credentials, exchange = self._credentials, _MECHANISMS[mechanism]
        self._tried.append(mechanism)
        self._challenges = []
        self._cancelled = False
        self._respond = lambda challenges: exchange(credentials, challenges)
        command = f"AUTH {mechanism}"
        initial = self._respond(())
        if initial is None or len(command) + len(" \r\n") + _base64_chars(initial) > MAX_COMMAND_BYTES:
            return Line(octets=command, shown=command)
        return Line(octets=f"{command} {self._secret(initial)}", shown=f"{command} {MASK}")

    def answer(self, challenge: Reply) -> Line:
        """Return the answer to a 334, or "*" to cancel; a challenge behind that raises ProtocolError."""
        if self._cancelled:
            raise ProtocolError(f"{challenge} after AUTH was cancelled")
        self._challenges.append(" ".join(challenge.lines))
        octets = self._respond(self._challenges)
        if octets is None:
            self._cancelled = True
            return Line(octets="*", shown="*")
        return Line(octets=self._secret(octets), shown=MASK)

    def without_secrets(self, reply: Reply) -> Reply:
        """Mask what was said in confidence, should the relay repeat it: replies end up in outcomes and logs."""
        if not self._tried or not self._secrets:
            return reply
        longest_first = sorted(self._secrets, key=len, reverse=True)
        secret = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)
        return replace(reply, lines=tuple(secret.sub(MASK, line) for line in reply.lines))

    def _secret(self, octets: bytes) -> str:
        encoded = b64encode(octets).decode("ascii")
        self._secrets.add(encoded)
        return encoded


def may_try_another(refusal: Reply) -> bool:
    """Whether a refusal speaks of the command or the mechanism, so that the next mechanism may be tried.

    Anything else may mean that the password was looked at (535, 534 …): trying it again by another mechanism
    brings accounts nearer to being locked.
    """
    return refusal.code in _NOT_UNDERSTOOD


def _base64_chars(octets: bytes) -> int:
    return 4 * ((len(octets) + 2) // 3)
