"""TLS 1.2 and 1.3 over any Stream (RFC 8446, RFC 5246; for mail RFC 3207 and RFC 8314).

The TLS engine works on two buffers (``ssl.MemoryBIO``) and never touches a socket, so that it runs over a hardware
socket as well. It is asked first; only when it wants more octets is the Stream below waited for, and what it wants
to say is sent before any wait. So tickets and key updates, which TLS 1.3 brings in at any time, need no care.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from plugin.smtp.errors import printable
from plugin.smtp.stream import Stream

MAX_HANDSHAKE_BYTES: Final = 256 * 1024
"""What a peer may send before the handshake is done; a long chain of certificates has about 10 KiB."""
RECORD_BYTES: Final = 16 * 1024
"""The most that one TLS record holds (RFC 8446 §5.1), and the most that is encrypted before it is sent."""
MAX_FAREWELL_BYTES: Final = 64 * 1024
"""What is read, and thrown away, while the peer's close_notify is waited for."""
MIN_CLOSE_S: Final = 0.1
ALERT_S: Final = 1.0
"""How long the alert that tells the peer why we give up may take."""

_CONTENT_TYPES: Final = range(20, 24)  # RFC 8446 §5.1: change_cipher_spec, alert, handshake, application_data
_NO_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21, 27})  # X509_V_ERR_…: issuer not found, or not trusted
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_WRONG_NAME: Final = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, …_IP_ADDRESS_MISMATCH
_VERSIONS: Final = frozenset(
    {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "WRONG_SSL_VERSION", "UNKNOWN_PROTOCOL"}
)

_log = logging.getLogger("hardwire.smtp")


class TlsError(ConnectionError):
    """TLS could not be agreed on, or broke; the text is one clause for people, with the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secured:
    """What was agreed on: ``version`` as "TLSv1.3", the cipher suite, and the certificate.

    ``subject`` and ``expires_at`` are None where the certificate is not checked.
    """

    version: str
    cipher: str
    subject: str | None
    expires_at: datetime | None
    resumed: bool

    def __str__(self) -> str:
        certificate = "certificate NOT CHECKED"
        if self.expires_at is not None:
            certificate = f"certificate of {self.subject} until {self.expires_at:%Y-%m-%d}"
        return ", ".join([self.version, self.cipher, certificate, *(["resumed"] if self.resumed else [])])


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


class Tls:
    """TLS to one relay: whom to trust, and the session that the next connection resumes. For one thread at a time.

    The certificate must come from an authority in ``ca_file`` (PEM; None: the authorities that this machine
    trusts), be valid now, and be made for ``server_name`` (a host name or an IP address; RFC 6125). Without
    ``verify`` anyone on the way may pose as the relay.
    """

    def __init__(
        self,
        server_name: str,
        *,
        ca_file: str | None = None,
        verify: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server_name = server_name.removesuffix(".")  # SNI has no dot at the end (RFC 6066 §3)
        self._ca_file = ca_file
        self._verify = verify
        self._clock = clock
        self._context: ssl.SSLContext | None = None
        self._session: ssl.SSLSession | None = None
        self._session_until: datetime | None = None

    def handshake(self, stream: Stream, *, timeout_s: float) -> TlsStream:
        """Agree on TLS over ``stream``, resuming the last session where the relay remembers it.

        Raises TlsError, TimeoutError, or what ``stream`` raises; ``stream`` is then of no further use, and still
        to be closed.
        """
        if self._context is None:
            self._context = self._make_context()
        if self._session_until is not None and self._session_until <= datetime.now(UTC):
            self._session = None  # a resumed session would go on trusting an expired certificate
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            engine = self._context.wrap_bio(
                incoming, outgoing, server_hostname=self._server_name, session=self._session
            )
        except ValueError as error:
            raise TlsError(f"no certificate can be for the name {self._server_name!r}: {error}") from error
        # Should the session be what the relay stumbles over, then only once.
        self._session = None
        secured = TlsStream(stream, engine, incoming, outgoing, clock=self._clock, remember=self._remember)
        try:
            secured.shake_hands(timeout_s=timeout_s)
        except ssl.SSLCertVerificationError as error:
            self._context = None  # ca_file may be mended before the next connection
            raise TlsError(_certificate_fault(error, self._server_name, self._ca_file)) from error
        except ssl.SSLError as error:
            raise TlsError(_handshake_fault(error)) from error
        return secured

    def _make_context(self) -> ssl.SSLContext:
        # Not ssl.create_default_context: what that demands of certificates differs between versions of Python.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        if not self._verify:
            _log.warning("%s: the certificate IS NOT CHECKED: anyone may pose as this relay", self._server_name)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif self._ca_file is None:
            context.load_default_certs()
        else:
            # A relay's own certificate, or its issuer's, is trusted by being in there, without the root above it.
            context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
            try:
                context.load_verify_locations(self._ca_file)
            except OSError as error:
                text = error.strerror or "it holds no certificate in PEM"
                if isinstance(error, ssl.SSLError):
                    text = "it holds no certificate in PEM"
                raise TlsError(f"ca_file {self._ca_file} cannot be used: {text}") from error
        return context

    def _remember(self, session: ssl.SSLSession | None, until: datetime | None) -> None:
        self._session, self._session_until = session, until


class SecuredStream(Stream, Protocol):
    """A Stream that knows how it is secured."""

    secured: Secured


class TlsStream:
    """A Stream in TLS over another Stream. Made by ``Tls.handshake``; not for several threads at once.

    ``secured`` says what was agreed on. An end of the connection without close_notify raises ConnectionResetError:
    what came last may have been cut off by someone on the way (RFC 8446 §6.1).
    """

    secured: Secured

    def __init__(
        self,
        stream: Stream,
        engine: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        *,
        clock: Callable[[], float],
        remember: Callable[[ssl.SSLSession | None, datetime | None], None],
    ) -> None:
        self._stream = stream
        self._engine = engine
        self._incoming = incoming
        self._outgoing = outgoing
        self._clock = clock
        self._remember = remember
        self._torn = False  # a send broke off, or TLS did: nothing that we say can be understood any more
        self._closed = False

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
                received_bytes += len(self._feed(deadline, check=_refuse_clear_text if first else None))
                if received_bytes > MAX_HANDSHAKE_BYTES:
                    raise TlsError(f"a TLS handshake of more than {MAX_HANDSHAKE_BYTES} octets") from None
            except ssl.SSLEOFError:
                raise ConnectionResetError("the relay closed the connection in the TLS handshake") from None
            except ssl.SSLError:
                self._send_alert()
                raise
            else:
                break
        self._flush(deadline)
        self.secured = _secured(self._engine)

    def send_all(self, data: bytes, *, timeout_s: float) -> None:
        """Send all of ``data``, one record after another; after a failure nothing more can be sent."""
        if self._torn:
            raise ConnectionResetError("an earlier send broke off, nothing can follow it")
        deadline = _Deadline(self._clock, timeout_s)
        view = memoryview(data)
        self._torn = True  # until it is all through
        while view:
            try:
                view = view[self._engine.write(view[:RECORD_BYTES]) :]
            except ssl.SSLWantReadError:
                self._flush(deadline)
                self._feed(deadline)
            except ssl.SSLError as error:
                raise TlsError(_broken(error)) from error
            self._flush(deadline)
        self._torn = False

    def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
        """Return 1 to ``max_bytes`` octets as soon as there are any; b"" once the peer has said close_notify."""
        deadline = _Deadline(self._clock, timeout_s)
        while True:
            try:
                return self._engine.read(max_bytes)
            except ssl.SSLWantReadError:
                self._flush(deadline)
                self._feed(deadline)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLEOFError:
                self._torn = True
                raise ConnectionResetError(
                    "it ended without close_notify: something may have been cut off"
                ) from None
            except ssl.SSLError as error:
                self._torn = True
                self._send_alert()
                raise TlsError(_broken(error)) from error

    def close(self, *, timeout_s: float = 1.0) -> None:
        """Say close_notify, wait within ``timeout_s`` for the peer's, close the Stream below; never raises."""
        if self._closed:
            return
        self._closed = True
        deadline = _Deadline(self._clock, timeout_s)
        if not self._torn:
            # With TLS 1.3 the tickets have come only after the handshake, so it is now that the session is whole.
            self._remember(self._engine.session, self.secured.expires_at)
            try:
                self._say_farewell(deadline)
            except OSError as error:
                _log.debug("close_notify: %s", str(error) or type(error).__name__)
        try:
            left_s = max(deadline.left_s(), MIN_CLOSE_S)
        except TimeoutError:
            left_s = MIN_CLOSE_S
        self._stream.close(timeout_s=left_s)

    def _say_farewell(self, deadline: _Deadline) -> None:
        received_bytes = 0
        while received_bytes <= MAX_FAREWELL_BYTES:
            try:
                self._engine.unwrap()
            except ssl.SSLWantReadError:
                self._flush(deadline)
                data = self._feed(deadline)
                if not data:
                    return  # the peer has ended without close_notify, which costs nobody anything now
                received_bytes += len(data)
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

    def _feed(self, deadline: _Deadline, *, check: Callable[[bytes], None] | None = None) -> bytes:
        """Hand the engine what comes next, or that nothing will; return it."""
        data = self._stream.receive(RECORD_BYTES, timeout_s=deadline.left_s())
        if check is not None:
            check(data)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return data

    def _send_alert(self) -> None:
        try:
            self._flush(_Deadline(self._clock, ALERT_S))
        except OSError as error:
            _log.debug("TLS alert: %s", str(error) or type(error).__name__)


def _secured(engine: ssl.SSLObject) -> Secured:
    cipher = engine.cipher()
    certificate = engine.getpeercert() or {}
    expiry = certificate.get("notAfter")
    return Secured(
        version=engine.version() or "TLS",
        cipher=cipher[0] if cipher else "unknown cipher",
        subject=_subject(certificate) if certificate else None,
        expires_at=datetime.fromtimestamp(ssl.cert_time_to_seconds(expiry), UTC)
        if isinstance(expiry, str)
        else None,
        resumed=bool(engine.session_reused),
    )


def _subject(certificate: Mapping[str, Any]) -> str:
    """Return the first name that the certificate is for (RFC 6125 §6.4), or its common name."""
    names = [name for _kind, name in certificate.get("subjectAltName", ())]
    common = [value for rdn in certificate.get("subject", ()) for key, value in rdn if key == "commonName"]
    return printable(str(next(iter(names + common), "?")), max_chars=100)


def _refuse_clear_text(data: bytes) -> None:
    """Raise TlsError unless ``data`` can begin a TLS record: the engine's own words for that help nobody."""
    if not data or data[0] in _CONTENT_TYPES:
        return
    shown = printable(data[:80].decode("utf-8", "replace").strip(), max_chars=60)
    remedy = "; if that is its greeting, write security: starttls" if data.startswith(b"220") else ""
    raise TlsError(f"what answers does not speak TLS: {shown!r}{remedy}")


def _certificate_fault(error: ssl.SSLCertVerificationError, server_name: str, ca_file: str | None) -> str:
    told = printable(error.verify_message, max_chars=200)
    if error.verify_code in _NO_AUTHORITY:
        trusted = "the authorities that this machine trusts" if ca_file is None else f"ca_file {ca_file}"
        return (
            f"the relay's certificate comes from no authority in {trusted} ({told}): write as ca_file the PEM "
            "file of the authority that issued it, once you have made sure that it is the relay's"
        )
    if error.verify_code == _EXPIRED:
        return f"the relay's certificate has expired ({told}): it must be renewed there; is our clock right?"
    if error.verify_code == _NOT_YET_VALID:
        return f"the relay's certificate is not valid yet ({told}): is our clock right?"
    if error.verify_code in _WRONG_NAME:
        return f"the relay's certificate is not for {server_name} ({told}): write as host a name that it is for"
    return f"the relay's certificate is not accepted: {told}"


def _handshake_fault(error: ssl.SSLError) -> str:
    told = _broken(error)
    if error.reason in _VERSIONS:
        return f"the relay offers neither TLS 1.2 nor TLS 1.3 ({told})"
    return f"the TLS handshake failed ({told})"


def _broken(error: ssl.SSLError) -> str:
    """Return OpenSSL's reason in words; "alert" in it means that the relay said so."""
    reason = error.reason or type(error).__name__
    return printable(f"TLS: {reason.replace('_', ' ').lower()}", max_chars=200)
