"""A Stream in TLS over any other Stream (RFC 8446, RFC 5246).

The TLS engine works on two buffers (``ssl.MemoryBIO``) and never touches a socket, so that it runs over a hardware
socket as well. It is asked first; only when it wants more octets does the Stream below come into it. After the
handshake receiving never sends: what the engine has to say to the peer's key update goes with what we send next
(RFC 8446 §4.6.3). So a receive may look, find half a record, and be repeated.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from typing import Final, Protocol

from plugin.smtp.certificate import Secured, secured_of
from plugin.smtp.errors import printable
from plugin.smtp.stream import Stream, window_of

MAX_HANDSHAKE_BYTES: Final = 256 * 1024
"""What a peer may send before the handshake is done; a long chain of certificates has about 10 KiB."""
RECORD_BYTES: Final = 16 * 1024
"""The most that one TLS record holds (RFC 8446 §5.1), and the most that is encrypted before it is sent."""
MAX_BARREN_BYTES: Final = 64 * 1024
"""What a peer may send after the handshake without any data coming out of it: tickets, new keys, one record."""
MAX_FAREWELL_BYTES: Final = 64 * 1024
"""What is read, and thrown away, while the peer's close_notify is waited for."""
MIN_CLOSE_S: Final = 0.1
ALERT_S: Final = 1.0
"""How long the alert that tells the peer why we give up may take."""

_REPLY_BYTES: Final = 60
_TLS13_RECORD_BYTES: Final = 22  # header 5, content type 1, tag 16 (RFC 8446 §5.2)
_TLS12_RECORD_BYTES: Final = 85  # at most, with CBC: header 5, IV 16, MAC 48, padding 16 (RFC 5246 §6.2.3.2)
_CONTENT_TYPES: Final = range(20, 24)  # RFC 8446 §5.1: change_cipher_spec, alert, handshake, application_data

_log = logging.getLogger("hardwire.smtp")


class TlsError(ConnectionError):
    """TLS could not be agreed on, or broke; the text is one clause for people, with the remedy."""


class SecuredStream(Stream, Protocol):
    """A Stream that knows how it is secured."""

    secured: Secured


class _Deadline:
    def __init__(self, clock: Callable[[], float], timeout_s: float) -> None:
        self._clock = clock
        self._at = clock() + timeout_s

    def left_s(self) -> float:
        """Return the seconds left, more than 0; raises TimeoutError without any."""
        left_s = self._at - self._clock()
        if left_s <= 0:
            raise TimeoutError
        return left_s

    def rest_s(self) -> float:
        """Return the seconds left, or 0: what has come already may still be read."""
        return max(0.0, self._at - self._clock())


class TlsStream:
    """A Stream in TLS over another Stream. Made by ``Tls.handshake``; not for several threads at once.

    ``secured`` says what was agreed on. An end of the connection without close_notify raises ConnectionResetError:
    what came last may have been cut off by someone on the way (RFC 8446 §6.1). ``remember`` gets the engine at the
    end of a connection that was in order: its session may be resumed.
    """

    secured: Secured

    def __init__(
        self,
        stream: Stream,
        engine: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        *,
        clock: Callable[[], float] = time.monotonic,
        remember: Callable[[ssl.SSLObject, Secured], None],
    ) -> None:
        self._stream = stream
        self._engine = engine
        self._incoming = incoming
        self._outgoing = outgoing
        self._clock = clock
        self._remember = remember
        self._barren_bytes = 0  # received since data came last
        self._torn = False  # a send broke off, or TLS did: nothing that we say can be understood any more
        self._closed = False

    @property
    def window_bytes(self) -> int:
        """How many octets of replies the peer can send before it is held up, if each reply has 60 or more.

        A reply may come in a record of its own, so that much of what the Stream below holds is overhead.
        """
        record_bytes = _TLS13_RECORD_BYTES if self.secured.version == "TLSv1.3" else _TLS12_RECORD_BYTES
        return window_of(self._stream) * _REPLY_BYTES // (_REPLY_BYTES + record_bytes)

    def shake_hands(self, *, timeout_s: float) -> None:
        """Carry out the handshake; raises ssl.SSLError, TlsError, TimeoutError, or what the Stream raises."""
        deadline = _Deadline(self._clock, timeout_s)
        received_bytes = 0
        while True:
            try:
                self._engine.do_handshake()
            except ssl.SSLWantReadError:
                self._flush(deadline)
                first = received_bytes == 0
                received_bytes += self._feed(deadline.left_s(), check=_refuse_clear_text if first else None)
                if received_bytes > MAX_HANDSHAKE_BYTES:
                    raise TlsError(f"a TLS handshake of more than {MAX_HANDSHAKE_BYTES} octets") from None
            except ssl.SSLError as error:
                if _cut_off(error):
                    raise ConnectionResetError("the relay closed the connection in the TLS handshake") from None
                self._send_alert()
                raise
            else:
                break
        self._flush(deadline)
        self.secured = secured_of(self._engine)

    def send_all(self, data: bytes, *, timeout_s: float) -> None:
        """Send all of ``data``, one record after another; after a failure nothing more can be sent.

        What fits one record goes in one, and in one ``send_all`` of the Stream below.
        """
        if self._torn:
            raise ConnectionResetError("an earlier send broke off, nothing can follow it")
        deadline = _Deadline(self._clock, timeout_s)
        view = memoryview(data)
        self._torn = True  # until it is all through
        while view:
            try:
                view = view[self._engine.write(view[:RECORD_BYTES]) :]
            except ssl.SSLWantReadError:
                # A receive has seen the first part of a ticket: the engine writes nothing before it has it all.
                self._flush(deadline)
                self._feed(deadline.left_s())
            except ssl.SSLError as error:
                raise TlsError(broken(error)) from error
            self._flush(deadline)
        self._torn = False

    def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
        """Return 1 to ``max_bytes`` octets as soon as there are any; b"" once the peer has said close_notify.

        TimeoutError leaves the Stream as usable as before, also within a record.
        """
        deadline = _Deadline(self._clock, timeout_s)
        while (data := self._read(max_bytes)) is None:
            if self._barren_bytes > MAX_BARREN_BYTES:
                self._torn = True
                raise TlsError(f"{MAX_BARREN_BYTES} octets of TLS records without any data in them")
            self._barren_bytes += self._feed(deadline.rest_s())
        self._barren_bytes = 0
        return data

    def close(self, *, timeout_s: float = 1.0) -> None:
        """Say close_notify, wait within ``timeout_s`` for the peer's, close the Stream below; never raises."""
        if self._closed:
            return
        self._closed = True
        deadline = _Deadline(self._clock, timeout_s)
        if not self._torn:
            try:
                self._say_farewell(deadline)
            except OSError as error:
                _log.debug("close_notify: %s", str(error) or type(error).__name__)
            # With TLS 1.3 tickets come at any time after the handshake: only now do we have the newest.
            self._remember(self._engine, self.secured)
        self._stream.close(timeout_s=max(deadline.rest_s(), MIN_CLOSE_S))

    def _read(self, max_bytes: int) -> bytes | None:
        """Return data that the engine has, b"" behind close_notify, None if it wants more octets."""
        try:
            return self._engine.read(max_bytes)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLError as error:
            self._torn = True
            if _cut_off(error):
                text = "it ended without close_notify: something may have been cut off"
                raise ConnectionResetError(text) from None
            self._send_alert()
            raise TlsError(broken(error)) from error

    def _say_farewell(self, deadline: _Deadline) -> None:
        received_bytes = 0
        while received_bytes <= MAX_FAREWELL_BYTES:
            try:
                self._engine.unwrap()
            except ssl.SSLWantReadError:
                self._flush(deadline)
                count = self._feed(deadline.left_s())
                if not count:
                    return  # the peer has ended without close_notify, which costs nobody anything now
                received_bytes += count
            except ssl.SSLError:
                # There was something left to read. Ours has been said all the same.
                self._flush(deadline)
                return
            else:
                self._flush(deadline)
                return

    def _flush(self, deadline: _Deadline) -> None:
        if self._outgoing.pending:
            self._stream.send_all(self._outgoing.read(), timeout_s=deadline.left_s())

    def _feed(self, timeout_s: float, *, check: Callable[[bytes], None] | None = None) -> int:
        """Hand the engine what comes next, or that nothing will; return how many octets that were."""
        data = self._stream.receive(RECORD_BYTES, timeout_s=timeout_s)
        if check is not None:
            check(data)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return len(data)

    def _send_alert(self) -> None:
        try:
            self._flush(_Deadline(self._clock, ALERT_S))
        except OSError as error:
            _log.debug("TLS alert: %s", str(error) or type(error).__name__)


def _cut_off(error: ssl.SSLError) -> bool:
    """Return whether the connection has ended without close_notify; before 3.11.4 Python has no class for it."""
    return isinstance(error, ssl.SSLEOFError) or error.reason == "UNEXPECTED_EOF_WHILE_READING"


def broken(error: ssl.SSLError) -> str:
    """Return OpenSSL's reason in words; "alert" in it means that the relay said so."""
    reason = error.reason or type(error).__name__
    return printable(f"TLS: {reason.replace('_', ' ').lower()}", max_chars=200)


def _refuse_clear_text(data: bytes) -> None:
    """Raise TlsError unless ``data`` can begin a TLS record: the engine's own words for that help nobody."""
    if not data or data[0] in _CONTENT_TYPES:
        return
    shown = printable(data[:80].decode("utf-8", "replace").strip(), max_chars=60)
    remedy = "; if that is its greeting, write security: starttls" if data.startswith(b"220") else ""
    raise TlsError(f"what answers does not speak TLS: {shown!r}{remedy}")
