"""Drives SMTP sessions over Streams: deadlines, TLS, the fallback to HELO, several letters on one connection.

The errors of a Stream (OSError, TimeoutError, ConnectionError) become faults here and nowhere else, so that
``Client.deliver`` raises nothing for what the network or the relay does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from plugin.smtp.delivered import Delivery, Greeted
from plugin.smtp.envelope import Envelope
from plugin.smtp.errors import Fault, Phase, connect_fault, printable, stream_fault
from plugin.smtp.events import Event, Fallback, Handshake, Ready, Refused
from plugin.smtp.reply import Reply
from plugin.smtp.session import Session
from plugin.smtp.settings import Settings, Timeouts
from plugin.smtp.stream import Stream
from plugin.smtp.tls import Secured, SecuredStream, Tls, TlsError
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


class Secure(Protocol):
    """``Tls.handshake``, or what stands for it."""

    def __call__(self, stream: Stream, *, timeout_s: float) -> SecuredStream:
        """Return ``stream`` in TLS; raises TlsError, TimeoutError or OSError."""
        ...


@dataclass(slots=True, kw_only=True)
class _Connection:
    """``stream`` is what the session's octets go through now: with STARTTLS first in clear text, then in TLS."""

    stream: Stream
    session: Session


class Client:
    """Delivers letters to one relay, one connection at a time. Not for several threads at once.

    What one connection leaves to the next, such as the TLS session, is kept here: keep the client, too.

    ``connect`` opens a Stream to the relay within a bounded time, or raises OSError, TimeoutError or
    ConnectionError. ``clock`` counts seconds. ``observe`` gets each transcript line as it happens.
    ``secure`` stands for the TLS that the settings tell.
    """

    def __init__(
        self,
        connect: Callable[[], Stream],
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        observe: Callable[[str], None] | None = None,
        secure: Secure | None = None,
    ) -> None:
        self._connect = connect
        self._settings = settings
        self._clock = clock
        self._observe = observe
        self._secure_stream = secure or _tls_of(settings, clock).handshake
        self._connection: _Connection | None = None
        self._spoken: Session | None = None
        self._secured: Secured | None = None
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
            secured=self._secured,
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
            self._spoken = self._secured = None
            try:
                stream = self._connect()
            except OSError as error:
                fault = connect_fault(error)
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
                without = "without AUTH" if self._settings.security == "starttls" else "with HELO and without AUTH"
                self._record(f"= {event.reason}: a new connection, {without}")
                _log.warning("%s: %s; going on %s", self._settings.host, event.reason, without)
            elif isinstance(event, Refused):
                return event

    def _next_event(self, connection: _Connection) -> Event:
        while True:
            event = connection.session.next_event()
            if isinstance(event, Handshake):
                self._secure(connection)
            elif event is not None:
                return event
            else:
                self._round(connection)

    def _secure(self, connection: _Connection) -> None:
        session, limit_s = connection.session, self._settings.timeouts.tls_s
        try:
            stream = self._secure_stream(connection.stream, timeout_s=self._left_s(limit_s))
        except TlsError as error:
            session.fail(Fault(kind="tls", text=str(error)))
        except OSError as error:
            session.fail(stream_fault(error, f"in the TLS handshake ({limit_s:g} s at most)"))
        else:
            connection.stream = stream
            self._secured = stream.secured
            session.secured(stream.secured.version, str(stream.secured))
            self._waiting_since = self._clock()

    def _round(self, connection: _Connection) -> None:
        """Send all that may go now, then receive once. What goes wrong is told to the session."""
        session, stream, timeouts = connection.session, connection.stream, self._settings.timeouts
        try:
            while data := session.next_write():
                stream.send_all(data, timeout_s=self._left_s(timeouts.block_s))
                self._waiting_since = self._clock()
        except OSError as error:
            self._hear_last_words(connection)
            session.fail(stream_fault(error, f"sending ({session.phase})"))
            return
        replies, limit_s = session.replies, timeouts.reply_s(session.phase)
        try:
            patience_s = self._left_s(self._waiting_since + limit_s - self._clock())
            data = stream.receive(RECEIVE_BYTES, timeout_s=patience_s)
        except OSError as error:
            session.fail(
                stream_fault(error, f"waiting for a whole reply ({session.phase}, {limit_s:g} s at most)")
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
            tls=self._spoken.tls if self._spoken else None,
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


def _tls_of(settings: Settings, clock: Callable[[], float]) -> Tls:
    return Tls(settings.host, ca_file=settings.ca_file, verify=settings.verify, clock=clock)


def _went_stale(settled: Settled) -> bool:
    """Whether a kept connection had ended before this letter got anywhere, so that a new one may carry it.

    A relay that has had enough letters on one connection, or has waited too long, says 421 or just hangs up.
    """
    if settled.phase != "mail":
        return False
    lost = settled.fault is not None and settled.fault.kind == "lost"
    return lost or (settled.reply is not None and settled.reply.code == 421)
