"""One connection to the server: spoken up to where a letter could follow, then QUIT; every step with its time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Literal, final

from plugin.probe.way import Patience
from plugin.smtp.connection import Connection, Secure
from plugin.smtp.errors import Fault, Phase, printable
from plugin.smtp.events import Fallback, Refused
from plugin.smtp.extensions import Extensions
from plugin.smtp.reply import Reply
from plugin.smtp.session import Session
from plugin.smtp.settings import Security, Settings, Timeouts
from plugin.smtp.stream import Stream, literal_of, window_of
from plugin.smtp.tls import Secured, SecuredStream, Tls
from plugin.smtp.transaction import Transaction

MAX_LINE_CHARS: Final = 1000
QUIT_S: Final = 5.0
"""How long the answer to QUIT is waited for; there are servers that take their time with it."""

Observe = Callable[[str, str, float | None], None]
"""Gets each line as it happens: the step, the line ("S: …", "C: …", "= …"), the seconds waited for it."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """How one connection is spoken to. ``verify`` False, after one that checked, only looks at the certificate.

    ``login``: AUTH is tried where there is a login; ``helo``: EHLO is passed over.
    """

    security: Security
    verify: bool = True
    login: bool = True
    helo: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the dialogue: "look-up", "connect", "greeting", "TLS", or the command; its lines, its time."""

    what: str
    duration_s: float
    lines: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What came of one connection: in ``phase`` ``reply`` or ``fault`` put an end to it, or a letter could follow.

    ``unanswered``: EHLO cost us the connection, and HELO on a new one may not; ``extensions`` are those offered
    last, ``window_bytes`` how many octets of replies the server can send before somebody has to read.
    """

    attempt: Attempt
    steps: tuple[Step, ...]
    phase: Phase | None = None
    reply: Reply | None = None
    fault: Fault | None = None
    unanswered: bool = False
    greeting: Literal["EHLO", "HELO"] | None = None
    authenticated: bool = False
    secured: Secured | None = None
    extensions: Extensions = field(default_factory=Extensions)
    window_bytes: int = 0

    @property
    def handshake_failed(self) -> bool:
        """Whether TLS was begun, and could not be agreed on."""
        begun = bool(self.steps) and self.steps[-1].what == "TLS"
        return begun and self.phase == "tls" and self.fault is not None and self.fault.kind == "tls"

    @property
    def without_starttls(self) -> bool:
        """Whether all was well until STARTTLS, which is not offered."""
        return (
            self.attempt.security == "starttls"
            and self.phase == "tls"
            and self.greeting == "EHLO"
            and self.reply is None
            and self.secured is None
            and not self.extensions.offers("STARTTLS")
        )


class Journal:
    """Lines in steps. A command begins a step, but for the answers to a challenge, which belong to AUTH."""

    def __init__(self, clock: Callable[[], float], observe: Observe) -> None:
        self._clock = clock
        self._observe = observe
        self._what = ""
        self._lines: list[str] = []
        self._began = self._waiting_since = self._ended = clock()
        self._awaited = True
        self._steps: list[Step] = []

    def begin(self, what: str) -> None:
        """Begin a step where the last one ended."""
        self._end_step()
        self._what = what
        self._began = self._waiting_since = self._ended
        self._awaited = True

    def record(self, line: str, _transaction: Transaction | None = None) -> None:
        """Take a line of the session's."""
        said = line.startswith("C: ")
        if said and not (self._what == "AUTH" and self._lines and self._lines[-1].startswith("S: 334")):
            self.begin(line.split(" ")[1])
        elif self._what == "TLS" and self._lines:
            self.begin("greeting")  # TLS from the start: the server speaks once the handshake is done
        self._ended = self._clock()
        self._lines.append(printable(line, max_chars=MAX_LINE_CHARS))
        if said:
            self._waiting_since, self._awaited = self._ended, True
        waited_s = self._ended - self._waiting_since if self._awaited and not said else None
        self._awaited = said
        self._observe(self._what, self._lines[-1], waited_s)

    def steps(self) -> tuple[Step, ...]:
        """Return all that has happened since the last call."""
        self._end_step()
        steps, self._steps = tuple(self._steps), []
        return steps

    def _end_step(self) -> None:
        if self._lines:
            step = Step(what=self._what, duration_s=self._ended - self._began, lines=tuple(self._lines))
            self._steps.append(step)
            self._lines = []


def settings_for(attempt: Attempt, settings: Settings, *, greeting_s: float, timeout_s: float) -> Settings:
    """Return ``settings`` for one connection: each reply has ``timeout_s``, the greeting ``greeting_s``."""
    return replace(
        settings,
        security=attempt.security,
        verify=attempt.verify,
        auth=settings.auth if attempt.login else "none",
        timeouts=Timeouts(
            greeting_s=greeting_s, hello_s=timeout_s, tls_s=timeout_s, auth_s=timeout_s, mail_s=QUIT_S
        ),
    )


def speak(
    stream: Stream, settings: Settings, attempt: Attempt, journal: Journal, clock: Callable[[], float]
) -> Visit:
    """Speak to the server over ``stream`` by ``settings``; raises nothing for what the network or server does."""
    windows = [window_of(stream)]
    if settings.helo_name is None:
        settings = replace(settings, helo_name=literal_of(stream))
    session = Session(settings, record=journal.record, fallback=attempt.helo, window_bytes=windows[0])
    tls = Tls(settings.server_name or settings.host, ca_file=settings.ca_file, verify=settings.verify, clock=clock)
    connection = Connection(
        stream, session, settings, clock=clock, secure=_noted(tls.handshake, journal, windows), begun=clock()
    )
    if settings.security != "tls":
        journal.begin("greeting")
    try:
        event = connection.until_ready()
        if session.idle and not session.closed:
            _say_quit(connection, journal)
        connection.hang_up()
    except BaseException:
        connection.cut()
        raise
    refused = event if isinstance(event, Refused) else None
    return Visit(
        attempt=attempt,
        steps=journal.steps(),
        phase=refused.phase if refused else "hello" if isinstance(event, Fallback) else None,
        reply=refused.reply if refused else None,
        fault=refused.fault if refused else None,
        unanswered=isinstance(event, Fallback),
        greeting=session.opening.greeting,
        authenticated=session.opening.authenticated,
        secured=connection.secured,
        extensions=session.extensions,
        window_bytes=windows[-1],
    )


def _noted(handshake: Secure, journal: Journal, windows: list[int]) -> Secure:
    """Return ``handshake`` with a step of its own."""

    def secure(stream: Stream, *, timeout_s: float) -> SecuredStream:
        journal.begin("TLS")
        secured = handshake(stream, timeout_s=timeout_s)
        windows.append(window_of(secured))
        return secured

    return secure


def _say_quit(connection: Connection, journal: Journal) -> None:
    session, replies = connection.session, connection.session.replies
    session.quit()
    while not session.closed:
        connection.step()
    if session.replies == replies:
        journal.record("= no answer to QUIT")


def reach(
    connect: Callable[[str, int, float], Stream],
    addresses: tuple[str, ...],
    port: int,
    journal: Journal,
    patience: Patience,
) -> Stream:
    """Return a connection to the first of ``addresses`` that takes one; raises OSError.

    An address may take no more than half of the time that is left, so that there is some for the next.
    """
    refused: OSError = OSError("the name has no IPv4 address")
    for address in addresses:
        journal.begin("connect")
        try:
            left_s = patience.left_s()
            stream = connect(address, port, left_s if address == addresses[-1] else left_s / 2)
        except OSError as error:
            refused = error
            journal.record(f"= {error}" if address in str(error) else f"= {address}:{port}: {error}")
        else:
            journal.record(f"= connected to {address}:{port}")
            return stream
    raise refused
