"""Delivers letters to one relay: connections opened, kept and given up, several letters on the way at a time.

``Client.deliver`` raises nothing for what the network or the relay does: ``connection`` makes faults of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from plugin.smtp.batch import MAX_TRANSCRIPT_CHARS, Batch, DrawnLetter, Transcript, begins_anew, was_not_the_pace
from plugin.smtp.connection import Connection, Secure
from plugin.smtp.delivered import Delivery, Greeted
from plugin.smtp.envelope import Envelope
from plugin.smtp.errors import Fault, Phase, connect_fault, printable
from plugin.smtp.events import Event, Fallback, Ready, Refused
from plugin.smtp.reply import Reply
from plugin.smtp.session import Session
from plugin.smtp.settings import Settings, Timeouts
from plugin.smtp.stream import Stream, window_of
from plugin.smtp.tls import Tls
from plugin.smtp.transaction import RecipientResult, Settled, Transaction

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

_log = logging.getLogger("hardwire.smtp")


class Client:
    """Delivers letters to one relay, one connection at a time. Not for several threads at once.

    What one connection leaves to the next is kept here: the TLS session, and whether the relay takes pipelining.
    Keep the client, too. Between deliveries call ``tend`` from time to time.

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
        self._connection: Connection | None = None
        self._spoken: Connection | None = None  # the last one that was opened, for what outcomes tell of it
        self._said: frozenset[str] = frozenset()  # in confidence, on the connections before
        self._served = False  # whether a letter has had its verdict on the connection
        self._rested_at = 0.0
        self._fallback = False
        self._lockstep = False  # the relay has shown that it takes one command at a time only
        self._batch = Batch((), clock)
        self._preamble = Transcript()
        self.knows_more = False
        """Whether the fate of another letter is known already, so that it is yielded next without a wait."""

    # --- Delivering -----------------------------------------------------------------------------------------

    def deliver(self, envelopes: Iterable[Envelope]) -> Iterator[Delivery]:
        """Send the letters and yield each one's fate as soon as it is known.

        Letters are drawn from ``envelopes`` as there is room for them on the way; fates come in the order in which
        the relay tells them, which is that of the letters but for those that had to be begun anew. The connection
        is opened when it is needed and stays open behind the last letter: ``close`` ends it. A lost connection
        costs only the letters that were on it. Once the relay refuses us, the letters that are left share that
        verdict without being tried. What is learnt about HELO holds until the iterator ends.
        """
        self._fallback = False
        self._batch = batch = Batch(envelopes, self._clock)
        try:
            while (letter := batch.peek()) is not None:
                connection = self._at_rest(letter) or self._open(letter.begun)
                if isinstance(connection, Refused):
                    yield from self._share(connection)
                    return
                yield from self._serve(connection)
        finally:
            # Left amid the letters: by an exception that is no fault of the network, or by who has had enough.
            if batch.under_way and self._connection is not None:
                self._connection.cut()
                self._connection = None
            self._rested_at = self._clock()

    def _serve(self, connection: Connection) -> Iterator[Delivery]:
        """Send letters over ``connection`` while it takes them."""
        session, batch = connection.session, self._batch
        event: Event | None = None
        while True:
            following: Event | None = None
            if isinstance(event, Settled):
                delivery, following = self._settled(event), session.next_event()
                self.knows_more = isinstance(following, Settled)
                if delivery is not None:
                    yield delivery
            elif isinstance(event, Refused):
                self._drop()
                yield from self._share(event)
            elif isinstance(event, Fallback):
                self._fall_back(event)
            # All that is known is told before more is drawn.
            event = following or session.next_event()
            if event is not None:
                continue
            while session.has_room and (letter := batch.take()) is not None:
                self._begin(session, letter)
            if not batch.under_way:
                break
            connection.begun = min(letter.begun for letter in batch.under_way.values())
            event = connection.step()
        if session.closed or session.lost_step:
            self._drop()

    def _begin(self, session: Session, letter: DrawnLetter) -> None:
        letter.tries += 1
        letter.transcript.extend(self._preamble)
        self._preamble = Transcript()
        self._batch.under_way[session.send(letter.envelope)] = letter

    def _settled(self, settled: Settled) -> Delivery | None:
        """Return the letter's fate, or None: it is to be begun anew, and waits before all others."""
        session = self._session
        letter = self._batch.under_way.pop(settled.transaction)
        letter.possible_duplicate |= settled.possible_duplicate
        if session.lost_step and (settled.out_of_step or settled.untaken):
            letter.setback = settled
            self._record("= the relay takes one command at a time only: a new connection, in lock-step", letter)
            self._lockstep = True
        elif (reason := begins_anew(settled, letter, served=self._served)) is not None:
            self._record(f"= {reason}: a new connection", letter)
        else:
            if was_not_the_pace(letter.setback, settled):
                self._lockstep = False
            self._served |= settled.reply is not None
            return self._delivery(letter, settled)
        self._batch.put_back(letter)
        return None

    def _share(self, refused: Refused) -> Iterator[Delivery]:
        """Give all letters that are left the verdict on us."""
        tried = True
        while (letter := self._batch.take()) is not None:
            if tried:
                letter.transcript.extend(self._preamble)
                self._preamble = Transcript()
            elif not letter.tries:
                self._record("= not tried: the relay has just refused us", letter)
            tried = False
            yield self._delivery(letter, refused)

    # --- Connections ----------------------------------------------------------------------------------------

    @property
    def _session(self) -> Session:
        if self._connection is None:
            raise RuntimeError("there is no connection")
        return self._connection.session

    def _at_rest(self, letter: DrawnLetter | None) -> Connection | None:
        """Return the connection that was kept, if it is still there and takes a letter."""
        connection = self._connection
        if connection is None:
            return None
        connection.begun = self._clock() if letter is None else letter.begun
        connection.look()
        if not connection.session.has_room:
            self._drop()
            self._preamble = Transcript()
            return None
        self._served = True
        self._record("= on the connection that was kept")
        return connection

    def _open(self, begun: float) -> Connection | Refused:
        """Connect and get ready for letters: at the second try at most, since that one has no fallback.

        A 421 instead of a greeting is given one more connection: it is often that of the moment before.
        """
        turned_away = False
        while True:
            opened = self._speak(begun, self._settings)
            if isinstance(opened, Fallback):
                self._fall_back(opened)
            elif not turned_away and _turns_away(opened):
                turned_away = True
                self._record("= turned away: once more, on a new connection")
            else:
                return opened

    def _speak(self, begun: float, settings: Settings) -> Connection | Fallback | Refused:
        if self._spoken is not None:
            self._said = self._spoken.session.opening.login.said
        self._spoken = None
        token = None
        try:
            if settings.token is not None and settings.auth != "none" and not self._fallback:
                token = settings.token.get()
                settings.login(token=token)
        except (OSError, ValueError) as error:
            return Refused(phase="auth", fault=Fault(kind="auth", text=str(error)))
        try:
            stream = self._connect()
        except OSError as error:
            fault = connect_fault(error)
            self._record(f"= {fault}")
            return Refused(phase="connect", fault=fault)
        self._record(f"= connected to {settings.host}")
        settings = settings.over(stream)
        session = Session(
            settings,
            record=self._note,
            token=token,
            fallback=self._fallback,
            lockstep=self._lockstep,
            window_bytes=window_of(stream),
            said=self._said,
        )
        connection = Connection(
            stream, session, settings, clock=self._clock, secure=self._secure_stream, begun=begun
        )
        self._connection = self._spoken = connection
        self._served = False
        event = connection.until_ready()
        if isinstance(event, Ready):
            if session.end is None:
                return connection
            # It has ended in the moment in which it was ready. Without a verdict the next one would do the same.
            event = session.end
        self._drop()
        if (
            token is not None
            and settings.token is not None
            and isinstance(event, Refused)
            and event.phase == "auth"
        ):
            settings.token.forget()
        return event

    def _fall_back(self, event: Fallback) -> None:
        self._drop()
        self._fallback = True
        without = "without AUTH" if self._settings.security == "starttls" else "with HELO and without AUTH"
        self._record(f"= {event.reason}: a new connection, {without}")
        _log.warning("event=fallback host=%s reason=%r going_on=%r", self._settings.host, event.reason, without)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.hang_up()

    def greet(self) -> Greeted:
        """Open a connection and come as far as a letter could follow: greeting, hello, AUTH. Sends no letter."""
        self._fallback = False
        self._preamble = Transcript()
        opened: Connection | Fallback | Refused | None = self._at_rest(None)
        # AUTH is asked for its answer, which with `eager` would come only behind a letter.
        settings = replace(self._settings, eager=False)
        while opened is None or isinstance(opened, Fallback):
            if opened is not None:
                self._fall_back(opened)
            opened = self._speak(self._clock(), settings)
        self._rested_at = self._clock()
        refused = opened if isinstance(opened, Refused) else None
        spoken = self._spoken
        lines, self._preamble = tuple(self._preamble), Transcript()
        return Greeted(
            phase=refused.phase if refused else None,
            reply=refused.reply if refused else None,
            fault=refused.fault if refused else None,
            greeting=spoken.session.opening.greeting if spoken else None,
            authenticated=spoken.session.opening.authenticated if spoken else False,
            secured=spoken.secured if spoken else None,
            extensions=spoken.session.extensions if spoken else None,
            transcript=lines,
        )

    def tend(self) -> float | None:
        """Close the connection once it has rested for ``Settings.idle_s``; return in how many seconds that is due.

        None: there is no connection to be tended any more.
        """
        if self._connection is None:
            return None
        left_s = self._rested_at + self._settings.idle_s - self._clock()
        if left_s > 0:
            return left_s
        self.close()
        return None

    def close(self) -> None:
        """Say QUIT and close the connection; never raises for the peer."""
        self._drop()

    # --- Telling --------------------------------------------------------------------------------------------

    def _delivery(self, letter: DrawnLetter, end: Settled | Refused) -> Delivery:
        if isinstance(end, Settled):
            recipients = end.recipients
        else:
            recipients = tuple(
                RecipientResult(address=address, phase=end.phase, reply=end.reply, fault=end.fault)
                for address in letter.envelope.recipients
            )
        opening = self._spoken.session.opening if self._spoken else None
        return Delivery(
            envelope=letter.envelope,
            recipients=recipients,
            phase=end.phase,
            reply=end.reply,
            fault=end.fault,
            relay_refused=isinstance(end, Refused),
            greeting=opening.greeting if opening else None,
            authenticated=opening.authenticated if opening else False,
            tls=opening.tls if opening else None,
            possible_duplicate=letter.possible_duplicate,
            transcript=tuple(letter.transcript),
            duration_s=self._clock() - letter.begun,
        )

    def _note(self, line: str, transaction: Transaction | None) -> None:
        """Take a line of the session's, for the letter that it belongs to, or else the first on the way."""
        under_way = self._batch.under_way
        letter = under_way.get(transaction) if transaction is not None else next(iter(under_way.values()), None)
        self._record(line, letter)

    def _record(self, line: str, letter: DrawnLetter | None = None) -> None:
        line = printable(line, max_chars=MAX_TRANSCRIPT_CHARS)
        _log.debug("%s %s", self._settings.host, line)
        (self._preamble if letter is None else letter.transcript).note(line)
        if self._observe is not None:
            self._observe(line)


def _turns_away(opened: Connection | Refused) -> bool:
    return (
        isinstance(opened, Refused)
        and opened.phase == "greeting"
        and opened.reply is not None
        and opened.reply.code == 421
    )


def _tls_of(settings: Settings, clock: Callable[[], float]) -> Tls:
    name = settings.server_name or settings.host
    return Tls(name, ca_file=settings.ca_file, verify=settings.verify, clock=clock)
