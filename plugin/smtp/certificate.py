"""What was agreed on in TLS, and what the relay's certificate says (RFC 5280), in values that are safe to show."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from plugin.smtp.errors import printable

MAX_NAMES: Final = 10
"""So many of a certificate's names are kept; those of big providers carry a hundred."""
MAX_NAME_CHARS: Final = 100

_NAME_KINDS: Final = frozenset({"DNS", "IP Address"})  # what a relay can be called by (RFC 6125 §6.4, §1.7.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Secured:
    """What was agreed on: ``version`` as "TLSv1.3", the cipher suite, and the relay's certificate.

    ``checked`` tells whether the certificate was held against our authorities and the relay's name; otherwise its
    words may be anybody's. ``names`` are the host names and addresses that it is for, at most 10; ``subject`` is
    the first of them or its common name; ``issuer`` has organisation and common name of who signed it. What cannot
    be read from it is None.
    """

    version: str
    cipher: str
    subject: str | None
    expires_at: datetime | None
    resumed: bool
    names: tuple[str, ...] = ()
    issuer: str | None = None
    checked: bool = False

    def __str__(self) -> str:
        certificate = "certificate NOT CHECKED"
        if self.checked:
            certificate = f"certificate of {self.subject or '?'}"
            if self.expires_at is not None:
                certificate += f" until {self.expires_at:%Y-%m-%d}"
        return ", ".join([self.version, self.cipher, certificate, *(["resumed"] if self.resumed else [])])


def secured_of(engine: ssl.SSLObject) -> Secured:
    """Return what ``engine`` has agreed on; its handshake is done. Raises nothing for what a certificate says."""
    cipher = engine.cipher()
    certificate = _certificate(engine)
    names = tuple(_safe(name) for kind, name in certificate.get("subjectAltName", ()) if kind in _NAME_KINDS)
    subjects = [*names[:1], *_attributes(certificate.get("subject", ()), "commonName")]
    issuers = _attributes(certificate.get("issuer", ()), "organizationName", "commonName")
    return Secured(
        version=engine.version() or "TLS",
        cipher=cipher[0] if cipher else "unknown cipher",
        subject=next(iter(subjects), None),
        names=names[:MAX_NAMES],
        issuer=", ".join(issuers) or None,
        expires_at=_expiry(certificate.get("notAfter")),
        resumed=bool(engine.session_reused),
        checked=engine.context.verify_mode is ssl.CERT_REQUIRED,
    )


def _certificate(engine: ssl.SSLObject) -> Mapping[str, Any]:
    """Return the peer's certificate as ``getpeercert`` gives it; empty if that cannot read it.

    It gives nothing while the context does not check certificates. It goes by the mode that the context has when
    it is asked, whereas the connection keeps the mode of its beginning: so another mode is set for that moment.
    """
    context = engine.context
    mode = context.verify_mode
    if mode is ssl.CERT_NONE:
        context.verify_mode = ssl.CERT_OPTIONAL
    try:
        return engine.getpeercert() or {}
    except (ssl.SSLError, ValueError):  # such as a name in Latin-1, which OpenSSL itself does not mind
        return {}
    finally:
        context.verify_mode = mode


def _attributes(name: tuple[tuple[tuple[str, str], ...], ...], *kinds: str) -> Iterator[str]:
    """Yield the attributes of a distinguished name that are of ``kinds``, the first of each, in that order."""
    for kind in kinds:
        values = (value for rdn in name for key, value in rdn if key == kind)
        yield from (_safe(value) for value in [*values][:1])


def _safe(text: str) -> str:
    return printable(text, max_chars=MAX_NAME_CHARS)


def _expiry(told: str | None) -> datetime | None:
    if told is None:
        return None
    try:
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(told), UTC)
    except (ValueError, OverflowError):  # a date that is none passes where the certificate is not checked
        return None
