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
from plugin.smtp.errors import SETUP_PHASES, Fault, Phase, printable
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
class Delivery:
    """What became of one letter: a result for each recipient, and ``phase`` with ``reply`` or ``fault`` as a whole.

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
        self._stream: Stream | None = None
        self._session: Session | None = None
        self._fallback = False
        self._deadline = 0.0
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
                end = self._send(envelope)
                refused = end if isinstance(end, Refused) else None
            else:
                end = refused
                self._record("= not tried: the relay has just refused us")
            yield self._delivery(envelope, end, self._clock() - begun)

    def close(self) -> None:
        """Say QUIT, wait for its answer only briefly, and close the connection; never raises for the peer."""
        self._deadline = self._clock() + self._settings.timeouts.quit_s
        self._hang_up()

    def _send(self, envelope: Envelope) -> Settled | Refused:
        self._come_to_rest()
        if self._session is not None:
            settled = self._carry(self._session, envelope)
            if not _went_stale(settled):
                return settled
            self._record("= the connection had ended between two letters")
        opened = self._open()
        return opened if isinstance(opened, Refused) else self._carry(opened, envelope)

    def _carry(self, session: Session, envelope: Envelope) -> Settled:
        session.send(envelope)
        while not isinstance(event := self._next_event(session), Settled):
            pass
        if session.closed:
            self._hang_up()
        return event

    def _open(self) -> Session | Refused:
        """Connect and get ready for letters. A second connection at most: on that one there is no fallback."""
        while True:
            self._hang_up()
            self._greeting, self._authenticated = None, False
            try:
                self._stream = self._connect()
            except OSError as error:
                fault = _connect_fault(error)
                self._record(f"= {fault}")
                return Refused(phase="connect", fault=fault)
