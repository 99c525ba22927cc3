"""Drives SMTP sessions over Streams: deadlines, the fallback to HELO, several letters on one connection.

The errors of a Stream (OSError, TimeoutError, ConnectionError) become faults here and nowhere else, so that
``Client.deliver`` raises nothing for what the network or the relay does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from plugin.smtp.envelope import Envelope
from plugin.smtp.errors import Fault, Phase, printable
from plugin.smtp.reply import Reply
from plugin.smtp.session import Event, Fallback, Ready, Refused, Session
from plugin.smtp.settings import Settings, Timeouts
from plugin.smtp.stream import Stream
from plugin.smtp.transaction import RecipientResult, Settled

__all__ = [
    "Client",
    "Delivery",
    "Envelope",
    "Fault",
    "Greeted",
    "Phase",
    "RecipientResult",
    "Reply",
    "Settings",
    "Stream",
    "Timeouts",
]

RECEIVE_BYTES: Final = 4096
LAST_WORDS_S: Final = 1.0
"""How long a relay that no longer takes what we send is listened to: it may have said why."""
MAX_TRANSCRIPT_LINES: Final = 1000
MAX_TRANSCRIPT_CHARS: Final = 512

_log = logging.getLogger("hardwire.smtp")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Connection:
    stream: Stream
    session: Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What became of one letter, for each recipient and (``phase`` with ``reply`` or ``fault``) as a whole.

    ``relay_refused``: the relay could not be reached or refuses *us*, so another relay may be tried; False once
    the answer is about the letter. ``possible_duplicate``: the connection was lost after the final dot had been
    sent and before its reply. ``greeting`` is "EHLO" or "HELO", None where it did not come to that; ``tls`` the
    TLS version, None in the clear. ``transcript`` has the dialogue ("S:", "C:", "=" for notes) without secrets
    and without content, for the first letter of a connection with its beginning.
    """

    recipients: tuple[RecipientResult, ...]
    phase: Phase
    reply: Reply | None
    fault: Fault | None
    relay_refused: bool
    greeting: Literal["EHLO", "HELO"] | None
    authenticated: bool
    tls: str | None
    possible_duplicate: bool
    transcript: tuple[str, ...]
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeted:
    """How a relay received us: a letter could follow, or ``reply`` or ``fault`` put an end to it in ``phase``."""

    phase: Phase | None
    reply: Reply | None
    fault: Fault | None
    greeting: Literal["EHLO", "HELO"] | None
    authenticated: bool
    transcript: tuple[str, ...]


class Client:
    """Delivers letters to one relay, one connection at a time. Not for several threads at once.

    ``connect`` opens a Stream to the relay within a bounded time, or raises OSError, TimeoutError or
    ConnectionError. ``clock`` counts seconds. ``observe`` gets each transcript line as it happens.
    """

    def __init__(
        self,
        connect: Callable[[], Stream],
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        observe: Callable[[str], None] | None = None,
    ) -> None:
        self._connect = connect
        self._settings = settings
        self._clock = clock
        self._observe = observe
        self._connection: _Connection | None = None
        self._spoken: Session | None = None
        self._fallback = False
        self._deadline = 0.0
        self._waiting_since = 0.0
        self._transcript: list[str] = []

    def deliver(self, envelopes: Iterable[Envelope]) -> Iterator[Delivery]:
        """Send the letters one after another and yield each one's fate as soon as it is known, in order.

        The connection is opened when it is needed and stays open behind the last letter: ``close`` ends it. A
        lost connection costs only the letter that was on it. Once the relay refuses us, the letters that are
        left share that verdict without being tried. What is learnt about HELO holds until the iterator ends.
        """
        self._fallback = False
        refused: Refused | None = None
        for envelope in envelopes:
            begun = self._clock()
            self._transcript = []
            self._deadline = begun + self._settings.timeouts.letter_s
            if refused is None:
                end = self._send_or_abandon(envelope)
                refused = end if isinstance(end, Refused) else None
            else:
                end = refused
                self._record("= not tried: the relay has just refused us")
            yield self._delivery(envelope, end, self._clock() - begun)

    def greet(self) -> Greeted:
        """Open a connection and come as far as a letter could follow: greeting, hello, AUTH. Sends no letter."""
        self._fallback = False
        self._transcript = []
        self._deadline = self._clock() + self._settings.timeouts.letter_s
        opened = self._at_rest() or self._open()
        refused = opened if isinstance(opened, Refused) else None
        return Greeted(
            phase=refused.phase if refused else None,
            reply=refused.reply if refused else None,
            fault=refused.fault if refused else None,
            greeting=self._spoken.greeting if self._spoken else None,
            authenticated=self._spoken.authenticated if self._spoken else False,
            transcript=tuple(self._transcript),
        )

    def close(self) -> None:
        """Say QUIT, wait for its answer only briefly, and close the connection; never raises for the peer."""
        self._hang_up()

    def _send_or_abandon(self, envelope: Envelope) -> Settled | Refused:
        """Send; an exception that is no fault of the network leaves no half-sent letter to be taken up again."""
        try:
            return self._send(envelope)
        except BaseException:
            if self._connection is not None:
                self._connection.stream.close()
            self._connection = None
            raise

    def _send(self, envelope: Envelope) -> Settled | Refused:
        if (kept := self._at_rest()) is not None:
            settled = self._carry(kept, envelope)
            if not _went_stale(settled):
                return settled
            self._record("= the connection had come to its end between two letters: a new one")
        opened = self._open()
        return opened if isinstance(opened, Refused) else self._carry(opened, envelope)

    def _at_rest(self) -> _Connection | None:
        """Return the connection we have once it is ready for a letter, or None if there is none any more."""
        while self._connection is not None and not self._connection.session.idle:
            self._round(self._connection)
            self._drop_if_closed()
        return self._connection

    def _carry(self, connection: _Connection, envelope: Envelope) -> Settled:
        connection.session.send(envelope)
        while not isinstance(event := self._next_event(connection), Settled):
            pass
        self._drop_if_closed()
        return event

    def _open(self) -> _Connection | Refused:
        """Connect and get ready for letters: at the second try at most, since that one has no fallback."""
        while True:
            self._spoken = None
            try:
                stream = self._connect()
            except OSError as error:
                fault = _connect_fault(error)
                self._record(f"= {fault}")
                return Refused(phase="connect", fault=fault)
            self._record(f"= connected to {self._settings.host}")
            self._spoken = Session(self._settings, record=self._record, fallback=self._fallback)
            self._connection = connection = _Connection(stream=stream, session=self._spoken)
            self._waiting_since = self._clock()
            event = self._next_event(connection)
            if isinstance(event, Ready):
                return connection
            self._hang_up()
            if isinstance(event, Fallback):
                self._fallback = True
                self._record(f"= {event.reason}: a new connection, with HELO and without AUTH")
                _log.warning("%s: %s; going on with HELO and without AUTH", self._settings.host, event.reason)
            elif isinstance(event, Refused):
                return event

    def _next_event(self, connection: _Connection) -> Event:
        while (event := connection.session.next_event()) is None:
            self._round(connection)
        return event

    def _round(self, connection: _Connection) -> None:
        """Send all that may go now, then receive once. What goes wrong is told to the session."""
        session, stream, timeouts = connection.session, connection.stream, self._settings.timeouts
        try:
            while data := session.next_write():
                stream.send_all(data, timeout_s=self._left_s(timeouts.block_s))
                self._waiting_since = self._clock()
        except OSError as error:
            self._hear_last_words(connection)
            session.fail(_stream_fault(error, f"sending ({session.phase})"))
            return
        replies, limit_s = session.replies, timeouts.reply_s(session.phase)
        try:
            patience_s = self._left_s(self._waiting_since + limit_s - self._clock())
            data = stream.receive(RECEIVE_BYTES, timeout_s=patience_s)
        except OSError as error:
            session.fail(
                _stream_fault(error, f"waiting for a whole reply ({session.phase}, {limit_s:g} s at most)")
            )
            return
        session.receive(data)
        if session.replies > replies:
            self._waiting_since = self._clock()

    def _left_s(self, limit_s: float) -> float:
        """Return the seconds left within ``limit_s`` and the letter's own limit; TimeoutError without any."""
        letter_left_s = self._deadline - self._clock()
        if letter_left_s <= 0:
            raise TimeoutError(f"the letter has taken {self._settings.timeouts.letter_s:g} s")
        if limit_s <= 0:
            raise TimeoutError
        return min(limit_s, letter_left_s)

    def _hear_last_words(self, connection: _Connection) -> None:
        """Read, briefly, what a relay that takes nothing more has said before: a 421 or 552 tells the reason."""
        try:
            data = connection.stream.receive(RECEIVE_BYTES, timeout_s=LAST_WORDS_S)
        except OSError:
            return  # nothing heard: the fault in sending stands
        if data:
            connection.session.receive(data)

    def _drop_if_closed(self) -> None:
        if self._connection is not None and self._connection.session.closed:
            self._hang_up()

    def _hang_up(self) -> None:
        """Close the connection, after QUIT if it is still in order. Its answer is waited for only briefly."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        session, stream = connection.session, connection.stream
        until = self._clock() + self._settings.timeouts.quit_s
        if not session.closed:
            session.quit()
        try:
            while not session.closed and (left_s := until - self._clock()) > 0:
                while data := session.next_write():
                    stream.send_all(data, timeout_s=left_s)
                session.receive(stream.receive(RECEIVE_BYTES, timeout_s=left_s))
        except OSError as error:
            _log.debug("%s: QUIT: %s", self._settings.host, error)
        stream.close(timeout_s=self._settings.timeouts.quit_s)

    def _delivery(self, envelope: Envelope, end: Settled | Refused, duration_s: float) -> Delivery:
        if isinstance(end, Settled):
            recipients = end.recipients
        else:
            recipients = tuple(
                RecipientResult(address=address, phase=end.phase, reply=end.reply, fault=end.fault)
                for address in envelope.recipients
            )
        return Delivery(
            recipients=recipients,
            phase=end.phase,
            reply=end.reply,
            fault=end.fault,
            relay_refused=isinstance(end, Refused),
            greeting=self._spoken.greeting if self._spoken else None,
            authenticated=self._spoken.authenticated if self._spoken else False,
            tls=None,
            possible_duplicate=isinstance(end, Settled) and end.possible_duplicate,
            transcript=tuple(self._transcript),
            duration_s=duration_s,
        )

    def _record(self, line: str) -> None:
        line = printable(line, max_chars=MAX_TRANSCRIPT_CHARS)
        _log.debug("%s %s", self._settings.host, line)
        if len(self._transcript) < MAX_TRANSCRIPT_LINES:
            self._transcript.append(line)
        elif len(self._transcript) == MAX_TRANSCRIPT_LINES:
            self._transcript.append("= what follows is left out")
        if self._observe is not None:
            self._observe(line)


def _went_stale(settled: Settled) -> bool:
    """Whether a kept connection had ended before this letter got anywhere, so that a new one may carry it.

    A relay that has had enough letters on one connection, or has waited too long, says 421 or just hangs up.
    """
    if settled.phase != "mail":
        return False
    lost = settled.fault is not None and settled.fault.kind == "lost"
    return lost or (settled.reply is not None and settled.reply.code == 421)


def _connect_fault(error: OSError) -> Fault:
    if isinstance(error, TimeoutError):
        return Fault(kind="timeout", text=_worded("no connection in time", error))
    if isinstance(error, ConnectionRefusedError):
        return Fault(kind="refused", text=_worded("the connection was refused", error))
    return Fault(kind="unreachable", text=_worded("no connection", error))


def _stream_fault(error: OSError, doing: str) -> Fault:
    if isinstance(error, TimeoutError):
        return Fault(kind="timeout", text=_worded(f"timeout {doing}", error))
    return Fault(kind="lost", text=_worded("the connection was lost", error))


def _worded(what: str, error: OSError) -> str:
    return printable(": ".join(part for part in (what, str(error)) if part), max_chars=MAX_TRANSCRIPT_CHARS)
