"""One connection: a session and the Stream it goes over, with every wait bounded.

The errors of a Stream (OSError, TimeoutError, ConnectionError) become faults here and nowhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Protocol

from plugin.smtp.errors import Fault, stream_fault
from plugin.smtp.events import Event, Fallback, Handshake, Ready, Refused
from plugin.smtp.session import Session
from plugin.smtp.settings import Settings
from plugin.smtp.stream import Stream, window_of
from plugin.smtp.tls import Secured, SecuredStream, TlsError

RECEIVE_BYTES: Final = 4096
LAST_WORDS_S: Final = 1.0
"""How long a relay that no longer takes what we send is listened to: it may have said why."""

_log = logging.getLogger("hardwire.smtp")


class Secure(Protocol):
    """``Tls.handshake``, or what stands for it."""

    def __call__(self, stream: Stream, *, timeout_s: float) -> SecuredStream:
        """Return ``stream`` in TLS; raises TlsError, TimeoutError or OSError."""
        ...


class Connection:
    """A session over a Stream: with STARTTLS first in clear text, then in TLS.

    ``begun`` is when the oldest of what is under way began, from which ``Timeouts.letter_s`` counts.
    """

    def __init__(
        self,
        stream: Stream,
        session: Session,
        settings: Settings,
        *,
        clock: Callable[[], float],
        secure: Secure,
        begun: float,
    ) -> None:
        self.session = session
        self.secured: Secured | None = None
        self.begun = begun
        self._stream = stream
        self._settings = settings
        self._clock = clock
        self._secure_stream = secure
        self._waiting_since = clock()

    def until_ready(self) -> Ready | Fallback | Refused:
        """Speak until letters may follow, or until it is clear that they may not."""
        while True:
            event = self.step()
            if isinstance(event, Handshake):
                self._secure()
            elif isinstance(event, Ready | Fallback | Refused):
                return event

    def step(self) -> Event | None:
        """Return the next event; where there is none, send and receive once, after which there may be."""
        event = self.session.next_event()
        if event is None:
            if self.session.closed:
                raise RuntimeError("the session has ended without a word")
            self._round()
        return event

    def _secure(self) -> None:
        session, limit_s = self.session, self._settings.timeouts.tls_s
        try:
            stream = self._secure_stream(self._stream, timeout_s=self._left_s(limit_s))
        except TlsError as error:
            session.fail(Fault(kind="tls", text=str(error)))
        except OSError as error:
            session.fail(stream_fault(error, f"in the TLS handshake ({limit_s:g} s at most)"))
        else:
            self._stream = stream
            self.secured = stream.secured
            session.secured(stream.secured.version, str(stream.secured), window_bytes=window_of(stream))
            self._waiting_since = self._clock()

    def _round(self) -> None:
        """Send all that may go now, then receive once. What goes wrong is told to the session."""
        session, timeouts = self.session, self._settings.timeouts
        try:
            while data := session.next_write():
                self._stream.send_all(data, timeout_s=self._left_s(timeouts.block_s))
                self._waiting_since = self._clock()
                if session.writing:
                    self._listen()  # a relay may refuse amid the content, and need not be told the rest
        except OSError as error:
            self._hear_last_words()
            session.fail(stream_fault(error, f"sending ({session.phase})"))
            return
        if session.closed:
            return
        replies, limit_s = session.replies, timeouts.reply_s(session.phase)
        try:
            patience_s = self._left_s(self._waiting_since + limit_s - self._clock())
            data = self._stream.receive(RECEIVE_BYTES, timeout_s=patience_s)
        except OSError as error:
            session.fail(
                stream_fault(error, f"waiting for a whole reply ({session.phase}, {limit_s:g} s at most)")
            )
            return
        session.receive(data)
        if session.replies > replies:
            self._waiting_since = self._clock()

    def look(self) -> None:
        """Take what the relay has said unasked while nothing was under way: a 421, or that it has hung up."""
        try:
            self._listen()
        except OSError as error:
            self.session.fail(stream_fault(error, "at rest"))

    def _listen(self) -> None:
        """Hand the session what is there already, without a wait."""
        try:
            data = self._stream.receive(RECEIVE_BYTES, timeout_s=0)
        except TimeoutError:
            return
        self.session.receive(data)

    def _left_s(self, limit_s: float) -> float:
        """Return the seconds left within ``limit_s`` and the letter's own limit; TimeoutError without any."""
        letter_left_s = self.begun + self._settings.timeouts.letter_s - self._clock()
        if letter_left_s <= 0:
            raise TimeoutError(f"the letter has taken {self._settings.timeouts.letter_s:g} s")
        if limit_s <= 0:
            raise TimeoutError
        return min(limit_s, letter_left_s)

    def _hear_last_words(self) -> None:
        """Read, briefly, what a relay that takes nothing more has said before: a 421 or 552 tells the reason."""
        try:
            data = self._stream.receive(RECEIVE_BYTES, timeout_s=LAST_WORDS_S)
        except OSError:
            return  # nothing heard: the fault in sending stands
        if data:
            self.session.receive(data)

    def hang_up(self) -> None:
        """Close the connection, after QUIT if it is in order. The answer to QUIT is not waited for."""
        session, limit_s = self.session, self._settings.timeouts.quit_s
        if not session.closed and session.idle:
            session.quit()
            try:
                while data := session.next_write():
                    self._stream.send_all(data, timeout_s=limit_s)
            except OSError as error:
                _log.debug("%s: QUIT: %s", self._settings.host, error)
        session.closed = True
        self._stream.close(timeout_s=limit_s)

    def cut(self) -> None:
        """Close the connection at once, whatever is under way."""
        self.session.closed = True
        self._stream.close()
