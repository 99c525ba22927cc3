"""AUTH (RFC 4954) as pure exchanges: what a mechanism answers depends only on the challenges so far.

A mechanism is one row of ``_MECHANISMS``, in the order of our preference. It returns the octets to answer,
before base64; None means that it has nothing (more) to say. PLAIN stands first because it needs one round trip
less; over a connection without TLS neither PLAIN nor LOGIN hides the password, and no mechanism hides the mail.
"""

from __future__ import annotations

import hmac
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import md5
from typing import Final, Literal

from plugin.smtp.errors import ProtocolError, printable
from plugin.smtp.reply import Reply

MAX_CREDENTIAL_BYTES: Final = 4096
"""Of user name and password each; keeps an answer below the 12,288 octets of RFC 4954 §4."""
MAX_TOKEN_BYTES: Final = 8192
MAX_ANSWER_BYTES: Final = 9216
"""What 12,288 octets of base64 hold."""
MAX_COMMAND_BYTES: Final = 512
"""A command line with its CRLF (RFC 5321 §4.5.3.1.4), to which AUTH with an initial response keeps as well.

RFC 4954 §4 demands it, and servers hold to it: Dovecot reads 1,024 octets, Gmail refuses a token of 1 kB on the
command line, and both take it as the answer to an empty challenge, where 12,288 octets are allowed.
"""

MIN_SECRET_CHARS: Final = 4
"""A shorter password is not looked for in replies: it would be found in half of all words."""
MASK: Final = "****"
MAX_ERROR_CHARS: Final = 200

_NOT_UNDERSTOOD: Final = frozenset({500, 501, 502, 504})
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")  # a token (RFC 6749 appendix A.12), less the blank that would end it
_ERROR_KEYS: Final = ("status", "error", "error_description", "schemes", "scope")  # RFC 7628 §3.2.2, and Google's
_md5: Final = partial(md5, usedforsecurity=False)  # where OpenSSL is told to be without MD5, Python has its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A login, sent as UTF-8: ``username`` with either a ``password`` or an OAuth access ``token``.

    ``mechanisms`` (upper case) are the only ones to be tried, in this order; without any, all that fit, in ours.
    ``host`` and ``port`` are said by OAUTHBEARER, which may name the server that is meant (RFC 7628 §3.1).
    Raises ValueError, without the values, for what cannot be sent or would break the format of a mechanism.
    """

    username: str
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    mechanisms: tuple[str, ...] = ()
    host: str | None = None
    port: int | None = None

    def __post_init__(self) -> None:
        if (self.password is None) == (self.token is None):
            raise ValueError("AUTH needs a password or a token, and not both")
        _check("username", self.username)
        if self.password is not None:
            _check("password", self.password)
        if self.token is not None:
            self._check_token(self.token)
        for name in self.mechanisms:
            if name not in _MECHANISMS:
                raise ValueError(f"the mechanism {name} for AUTH is not known: there are {', '.join(_MECHANISMS)}")
            if _MECHANISMS[name].needs != self.kind:
                raise ValueError(f"the mechanism {name} for AUTH needs a {_MECHANISMS[name].needs}")

    @property
    def kind(self) -> Literal["password", "token"]:
        """What proves who we are."""
        return "token" if self.token is not None else "password"

    @property
    def secret(self) -> str:
        """The password, or the token."""
        return self.password or self.token or ""

    @property
    def order(self) -> tuple[str, ...]:
        """The names of the mechanisms that may be tried, the best first."""
        return self.mechanisms or tuple(name for name, one in _MECHANISMS.items() if one.needs == self.kind)

    def _check_token(self, token: str) -> None:
        if len(token) > MAX_TOKEN_BYTES or not _VISIBLE.fullmatch(token):
            raise ValueError(
                f"the token for AUTH must have 1 to {MAX_TOKEN_BYTES} visible ASCII characters, and no blanks"
            )
        # The formats of both mechanisms part their fields by Ctrl-A.
        if "\x01" in self.username:
            raise ValueError("the username for AUTH holds a Ctrl-A, which no token can be sent with")
        if self.host is not None and not (_VISIBLE.fullmatch(self.host) and len(self.host) <= 255):
            raise ValueError("the host for AUTH must have 1 to 255 visible ASCII characters")
        if self.port is not None and not 1 <= self.port <= 65535:
            raise ValueError("the port for AUTH must be from 1 to 65535")
        if len(_oauthbearer(self)) > MAX_ANSWER_BYTES:
            raise ValueError(f"username and token for AUTH have more than {MAX_ANSWER_BYTES} octets together")


def _check(name: str, value: str) -> None:
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
    return b"\0" + credentials.username.encode() + b"\0" + credentials.secret.encode()


def _login(credentials: Credentials, challenges: Sequence[str]) -> bytes | None:
    """Answer user name, then password: LOGIN, which has no RFC. Prompts differ everywhere: count, never read."""
    answers = (None, credentials.username.encode(), credentials.secret.encode())
    return answers[len(challenges)] if len(challenges) < len(answers) else None


def _cram_md5(credentials: Credentials, challenges: Sequence[str]) -> bytes | None:
    """RFC 2195: user name and digest of the challenge. Of an empty one it would be good for ever: no answer."""
    challenge = _decoded(challenges[0]) if len(challenges) == 1 else None
    if not challenge:
        return None
    digest = hmac.new(credentials.secret.encode(), challenge, _md5).hexdigest()
    return f"{credentials.username} {digest}".encode()


def _oauthbearer(credentials: Credentials) -> bytes:
    """RFC 7628 §3.1; in the authzid "," and "=" are written as RFC 5801 §4 has it."""
    username = credentials.username.replace("=", "=3D").replace(",", "=2C")
    host = "" if credentials.host is None else f"host={credentials.host}\x01"
    port = "" if credentials.port is None else f"port={credentials.port}\x01"
    return f"n,a={username},\x01{host}{port}auth=Bearer {credentials.secret}\x01\x01".encode()


def _xoauth2(credentials: Credentials) -> bytes:
    """XOAUTH2, which has no RFC but Google's page."""
    return f"user={credentials.username}\x01auth=Bearer {credentials.secret}\x01\x01".encode()


def _bearer(
    message: Callable[[Credentials], bytes], closing: bytes, credentials: Credentials, challenges: Sequence[str]
) -> bytes | None:
    """Tell the token; an empty challenge asks for it once more, any other is an error that is to be closed."""
    errors = challenges[1:] if challenges and not challenges[0] else challenges
    if not errors:
        return message(credentials)
    return closing if len(errors) == 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mechanism:
    """``closing`` is what answers a challenge that tells of an error; it is no secret."""

    needs: Literal["password", "token"]
    respond: Callable[[Credentials, Sequence[str]], bytes | None]
    closing: bytes | None = None


_MECHANISMS: Final[Mapping[str, _Mechanism]] = {
    "PLAIN": _Mechanism(needs="password", respond=_plain),
    "LOGIN": _Mechanism(needs="password", respond=_login),
    "CRAM-MD5": _Mechanism(needs="password", respond=_cram_md5),
    # RFC 7628 §3.2.3: the client closes with a Ctrl-A; XOAUTH2 closes with an empty line.
    "OAUTHBEARER": _Mechanism(needs="token", respond=partial(_bearer, _oauthbearer, b"\x01"), closing=b"\x01"),
    "XOAUTH2": _Mechanism(needs="token", respond=partial(_bearer, _xoauth2, b""), closing=b""),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line to send without its CRLF, and what a transcript may show of it."""

    octets: str = field(repr=False)
    shown: str


class Login:
    """The AUTH part of one connection: which mechanism is tried, how far it has come, what must stay secret.

    Each mechanism is tried once. Without credentials there is never anything to begin. ``error`` is what the
    relay told of a token that it refuses, before the refusal itself: "status 401, scope mail"; else None. ``said``
    is what a connection before this one has said in confidence: the relay knows it, and may repeat it here.
    """

    def __init__(self, credentials: Credentials | None, *, said: Collection[str] = ()) -> None:
        self.error: str | None = None
        self._credentials = credentials
        self._tried: list[str] = []
        self._challenges: list[str] = []
        self._withheld: bytes | None = None
        self._cancelled = False
        self._before = frozenset(said)
        self._secrets: set[str] = set()

    @property
    def said(self) -> frozenset[str]:
        """What must stay secret of all that was said here, or before where nothing was."""
        return frozenset(self._secrets) or self._before

    def begin(self, offered: Collection[str]) -> Line | None:
        """Return the AUTH command for the best of the mechanisms ``offered`` (upper case), None without any.

        It has the initial response where the mechanism knows one and a command line can hold it (RFC 4954 §4);
        one that is longer is the answer to the first challenge.
        """
        mechanism = self._best(offered)
        if self._credentials is None or mechanism is None:
            return None
        self._tried.append(mechanism)
        if len(self._credentials.secret) >= MIN_SECRET_CHARS:
            self._secrets.add(self._credentials.secret)
        self._challenges = []
        self._cancelled = False
        self.error = None
        command = f"AUTH {mechanism}"
        initial = _MECHANISMS[mechanism].respond(self._credentials, ())
        fits = initial is not None and _fits(command, initial)
        self._withheld = None if fits else initial
        if initial is None or not fits:
            return Line(octets=command, shown=command)
        return Line(octets=f"{command} {self._secret(initial)}", shown=f"{command} {MASK}")

    def eager_line(self, offered: Collection[str]) -> Line | None:
        """Begin with AUTH PLAIN and its initial response, if ``begin`` would do so too; else begin nothing.

        The relay has then nothing to ask, so that the next commands may ride in the same write.
        """
        if self._credentials is None or self._best(offered) != "PLAIN":
            return None
        initial = _plain(self._credentials, ())
        return self.begin(offered) if initial is not None and _fits("AUTH PLAIN", initial) else None

    def answer(self, challenge: Reply) -> Line:
        """Return the answer to a 334, or "*" to cancel; a challenge behind that raises ProtocolError.

        ``challenge`` is as the relay said it: one that is masked could not be answered.
        """
        if self._cancelled or self._credentials is None or not self._tried:
            raise ProtocolError(f"{self.without_secrets(challenge)} after AUTH was cancelled")
        mechanism = _MECHANISMS[self._tried[-1]]
        if self._withheld is not None:
            octets, self._withheld = self._withheld, None
            return Line(octets=self._secret(octets), shown=MASK)
        self._challenges.append(" ".join(challenge.lines).strip())
        answer = mechanism.respond(self._credentials, self._challenges)
        if answer is None:
            self._cancelled = True
            return Line(octets="*", shown="*")
        if answer == mechanism.closing:
            self.error = self._told(self._challenges[-1])
            closing = b64encode(answer).decode("ascii")
            return Line(octets=closing, shown=closing)
        return Line(octets=self._secret(answer), shown=MASK)

    def without_secrets(self, reply: Reply) -> Reply:
        """Mask what was said in confidence, should the relay repeat it: replies end up in outcomes and logs.

        What was not said yet cannot be a repetition, and a password may well be a word of any greeting.
        """
        return replace(reply, lines=tuple(self._masked_line(reply.code, line) for line in reply.lines))

    def masked(self, text: str) -> str:
        """Mask the same in words of the relay that are no reply: faults quote them."""
        secrets = self._secrets | self._before
        if not secrets:
            return text
        longest_first = sorted(secrets, key=len, reverse=True)
        return re.sub("|".join(map(re.escape, longest_first)), MASK, text, flags=re.IGNORECASE)

    def _best(self, offered: Collection[str]) -> str | None:
        order = () if self._credentials is None else self._credentials.order
        return next((name for name in order if name in offered and name not in self._tried), None)

    def _masked_line(self, code: int, line: str) -> str:
        decoded = _decoded(line) if code == 334 else None
        if decoded:
            text = decoded.decode("utf-8", "replace")
            if self.masked(text) != text:
                return MASK
        return self.masked(line)

    def _told(self, challenge: str) -> str | None:
        """Return the words of a challenge that tells of an error (RFC 7628 §3.2.2), in one bounded line."""
        decoded = _decoded(challenge)
        words = challenge if decoded is None else decoded.decode("utf-8", "replace")
        try:
            found = json.loads(words)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            told = [f"{key} {found[key]}" for key in _ERROR_KEYS if isinstance(found.get(key), str | int)]
            words = ", ".join(told) or words
        return printable(self.masked(words), max_chars=MAX_ERROR_CHARS).strip() or None

    def _secret(self, octets: bytes) -> str:
        encoded = b64encode(octets).decode("ascii")
        self._secrets.add(encoded)
        if self._tried[-1] == "CRAM-MD5":
            self._secrets.add(octets.rpartition(b" ")[2].decode("ascii"))
        return encoded


def may_try_another(refusal: Reply) -> bool:
    """Whether a refusal speaks of the command or the mechanism, so that the next mechanism may be tried.

    Anything else may mean that the password was looked at (535, 534 …): trying it again by another mechanism
    brings accounts nearer to being locked.
    """
    return refusal.code in _NOT_UNDERSTOOD


def _decoded(base64: str) -> bytes | None:
    """Return what a challenge means, or None if it is no base64 (RFC 4648 §4)."""
    try:
        return b64decode(base64, validate=True)
    except ValueError:
        return None


def _fits(command: str, initial: bytes) -> bool:
    return len(command) + len(" \r\n") + 4 * ((len(initial) + 2) // 3) <= MAX_COMMAND_BYTES
