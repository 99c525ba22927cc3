"""TLS to a relay: whom to trust, how to agree, and in words why it cannot be (for mail RFC 3207 and RFC 8314)."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from plugin.smtp.certificate import Secured
from plugin.smtp.errors import printable
from plugin.smtp.stream import Stream
from plugin.smtp.tls_stream import SecuredStream, TlsError, TlsStream, broken

__all__ = ["Secured", "SecuredStream", "Tls", "TlsError", "TlsStream"]

_NO_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21, 27})  # X509_V_ERR_…: issuer not found, or not trusted
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_WRONG_NAME: Final = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, …_IP_ADDRESS_MISMATCH
_VERSIONS: Final = frozenset(
    {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "WRONG_SSL_VERSION", "UNKNOWN_PROTOCOL"}
)

_log = logging.getLogger("hardwire.smtp")


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
        # Before 3.11.4 Python has OpenSSL take an end without close_notify for one with it.
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        if not self._verify:
            reason = "the certificate IS NOT CHECKED: anyone may pose as this relay"
            _log.warning("event=tls_not_verified host=%s reason=%r", self._server_name, reason)
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

    def _remember(self, engine: ssl.SSLObject, secured: Secured) -> None:
        if engine.context is self._context:  # a session goes with the context that it was agreed on in
            self._session = engine.session
            self._session_until = secured.expires_at if secured.checked else None


def _certificate_fault(error: ssl.SSLCertVerificationError, server_name: str, ca_file: str | None) -> str:
    told = printable(error.verify_message, max_chars=200)
    if error.verify_code in _NO_AUTHORITY:
        nobody = "none of the authorities that this machine trusts"
        trusted = nobody if ca_file is None else f"no authority in ca_file {ca_file}"
        return (
            f"the relay's certificate comes from {trusted} ({told}): write as ca_file the PEM "
            "file of the authority that issued it, once you have made sure that it is the relay's"
        )
    if error.verify_code == _EXPIRED:
        return f"the relay's certificate has expired ({told}): it must be renewed there; is our clock right?"
    if error.verify_code == _NOT_YET_VALID:
        return f"the relay's certificate is not valid yet ({told}): is our clock right?"
    if error.verify_code in _WRONG_NAME:
        remedy = "write as host, or as server_name, a name that it is for"
        return f"the relay's certificate is not for {server_name} ({told}): {remedy}"
    return f"the relay's certificate is not accepted: {told}"


def _handshake_fault(error: ssl.SSLError) -> str:
    told = broken(error)
    if error.reason in _VERSIONS:
        return f"the relay offers neither TLS 1.2 nor TLS 1.3 ({told})"
    return f"the TLS handshake failed ({told})"
