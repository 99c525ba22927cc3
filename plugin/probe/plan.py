"""What the server offers, in a few words each, and what Hardwire would make of it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, final

from plugin.probe.visit import Visit
from plugin.smtp.auth import Credentials
from plugin.smtp.errors import printable
from plugin.smtp.extensions import Extensions
from plugin.smtp.pace import REPLY_BYTES, Pace, envelope_first, pace_of

MAX_KEYWORD_CHARS: Final = 40
MAX_PARAMETERS_CHARS: Final = 200
UNKNOWN: Final = "not known to Hardwire, which makes no use of it"

MEANINGS: Final[Mapping[str, str]] = {
    "8BITMIME": "letters may have 8-bit text (RFC 6152); ours are 7-bit, which everybody takes",
    "AUTH": "log in by one of these mechanisms (RFC 4954)",
    "BINARYMIME": "letters may be binary (RFC 3030); not used",
    "CHUNKING": "content by BDAT, without waiting for a 354 (RFC 3030)",
    "DELIVERBY": "a letter may say until when it is wanted (RFC 2852); not used",
    "DSN": "notifications of delivery can be asked for: relays[].dsn (RFC 3461)",
    "ENHANCEDSTATUSCODES": "replies tell their reason as a code, too: 5.1.1 (RFC 2034)",
    "ETRN": "hosts may call for their queue (RFC 1985); not used",
    "EXPN": "lists can be looked up; not used",
    "HELP": "HELP is answered; not used",
    "LIMITS": "limits on recipients and letters are told (RFC 9422); not used",
    "MT-PRIORITY": "letters may have priorities on the way (RFC 6710); not used",
    "PIPECONNECT": "Exim's: EHLO may come before the greeting; not used",
    "PIPELINING": "several commands may leave without waiting for each answer (RFC 2920)",
    "PRDR": "Exim's: an answer for each recipient after the content; not used",
    "REQUIRETLS": "a letter may demand TLS on all of its way (RFC 8689); not used",
    "SIZE": "the largest letter that is taken (RFC 1870)",
    "SMTPUTF8": "addresses outside ASCII, such as jürgen@example.net (RFC 6531)",
    "STARTTLS": "the connection can go over to TLS (RFC 3207)",
    "VRFY": "addresses can be looked up; not used",
    "XCLIENT": "Postfix's, for proxies before it; not used",
    "XFORWARD": "Postfix's, for filters behind it; not used",
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """An extension: keyword and parameters as the server wrote them (cut where they are long), and what it is."""

    keyword: str
    parameters: str
    meaning: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What Hardwire would do at this server.

    ``password_mechanism`` and ``token_mechanism`` are the first to be tried for AUTH, None without any.
    ``first_mail`` has what a first letter for one recipient takes, with the round trips of each;
    ``login_round_trips`` come on top with a password (none where the letter would wait for as long without one),
    ``next_mail_round_trips`` is for a letter on the connection
    that is kept. ``eager``: whether relays[].eager would save one with a password. ``largest_bytes`` None: no
    limit is told. ``window_bytes`` of replies may come without being read.
    """

    pace: Pace
    password_mechanism: str | None
    token_mechanism: str | None
    first_mail: tuple[tuple[str, int], ...]
    login_round_trips: int | None
    next_mail_round_trips: int
    eager: bool
    largest_bytes: int | None
    window_bytes: int

    @property
    def first_mail_round_trips(self) -> int:
        """All of ``first_mail`` together."""
        return sum(count for _, count in self.first_mail)

    @property
    def replies_at_once(self) -> int:
        """How many commands may be on the way together."""
        return 1 if self.pace == "lockstep" else max(1, self.window_bytes // REPLY_BYTES)


_MAIL_ROUND_TRIPS: Final[Mapping[Pace, int]] = {
    "lockstep": 4,  # MAIL, RCPT, DATA, content
    "pipelining": 2,  # MAIL with RCPT and DATA, content
    "chunking": 1,
}
_LOGIN_ROUND_TRIPS: Final[Mapping[str, int]] = {"PLAIN": 1, "LOGIN": 3, "CRAM-MD5": 2}


def plan_of(visit: Visit) -> Plan | None:
    """Return the plan for the server as ``visit`` has seen it; None where hello or TLS did not work out."""
    if visit.greeting is None or (visit.phase == "tls" and not visit.without_starttls):
        return None
    pace = pace_of(visit.extensions, lockstep=False)
    mechanism = _first(Credentials(username="name", password="password").order, visit.extensions)  # noqa: S106
    mail = _MAIL_ROUND_TRIPS[pace]
    secured, authenticated = visit.secured is not None, visit.authenticated
    waits = pace == "chunking" and envelope_first(visit.extensions, secured=secured, authenticated=authenticated)
    return Plan(
        pace=pace,
        password_mechanism=mechanism,
        token_mechanism=_first(Credentials(username="name", token="token").order, visit.extensions),  # noqa: S106
        first_mail=(*_opening(visit), ("mail", mail + waits)),
        login_round_trips=None if mechanism is None else _LOGIN_ROUND_TRIPS[mechanism] - waits,
        next_mail_round_trips=_MAIL_ROUND_TRIPS[pace],
        eager=mechanism == "PLAIN" and pace != "lockstep",
        largest_bytes=visit.extensions.size_bytes,
        window_bytes=visit.window_bytes,
    )


def _first(order: Collection[str], extensions: Extensions) -> str | None:
    return next((name for name in order if name in extensions.mechanisms), None)


def _opening(visit: Visit) -> Iterator[tuple[str, int]]:
    """Yield the round trips before the letter; without a session to resume, TLS 1.2 takes one more than 1.3."""
    security = visit.attempt.security if visit.secured else "none"
    handshake = ("TLS", 1 if visit.secured and visit.secured.version == "TLSv1.3" else 2)
    yield "connect", 1
    if security == "tls":
        yield handshake
    yield "greeting", 1
    if visit.greeting == "HELO" and not visit.attempt.helo:
        yield "EHLO", 1
    yield visit.greeting or "EHLO", 1
    if security == "starttls":
        yield "STARTTLS", 1
        yield handshake
        yield "EHLO", 1


def offers_of(visit: Visit) -> tuple[Offer, ...]:
    """Return what is offered, in the server's order; STARTTLS first where it was used: TLS has no use for it."""
    offered = dict(visit.extensions.keywords)
    if visit.attempt.security == "starttls" and visit.secured is not None:
        offered = {"STARTTLS": (), **offered}
    return tuple(_offer(keyword, parameters, visit.extensions) for keyword, parameters in offered.items())


def _offer(keyword: str, parameters: tuple[str, ...], extensions: Extensions) -> Offer:
    meaning = MEANINGS.get(keyword, UNKNOWN)
    if keyword == "SIZE":
        size_bytes = extensions.size_bytes
        meaning += ": " + ("no limit is told" if size_bytes is None else readable(size_bytes))
    return Offer(
        keyword=printable(keyword, max_chars=MAX_KEYWORD_CHARS),
        parameters=printable(" ".join(parameters), max_chars=MAX_PARAMETERS_CHARS),
        meaning=meaning,
    )


def readable(size_bytes: int) -> str:
    """Return ``10 MiB`` for 10485760, ``35.9 MB`` for 35882577: 1024s where that comes out even."""
    for even, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size_bytes >= even and size_bytes % even == 0:
            return f"{size_bytes // even} {unit}"
    for step, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size_bytes >= step:
            return f"{size_bytes / step:.1f} {unit}"
    return f"{size_bytes} octets"
