"""Visits as values: what a connection may have come to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from plugin.probe.visit import Attempt, Step, Visit
from plugin.smtp.errors import Fault, FaultKind
from plugin.smtp.extensions import Extensions
from plugin.smtp.reply import Reply
from plugin.smtp.tls import Secured

STARTTLS, IN_TLS, CLEAR = Attempt(security="starttls"), Attempt(security="tls"), Attempt(security="none")
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def look(attempt: Attempt) -> Attempt:
    """Return ``attempt`` as it looks at a certificate that was refused."""
    return Attempt(security=attempt.security, verify=False, login=False)


def secured(*, version: str = "TLSv1.3", checked: bool = True, expires_at: datetime | None = None) -> Secured:
    return Secured(
        version=version,
        cipher="c",
        subject="mail.test",
        names=("mail.test",),
        expires_at=expires_at,
        resumed=False,
        checked=checked,
    )


def offering(*lines: str) -> Extensions:
    return Extensions.parse(lines)


def good(attempt: Attempt, *lines: str, **more: Any) -> Visit:
    """A letter could follow, in TLS where the attempt is about TLS."""
    tls = None if attempt.security == "none" else secured(checked=attempt.verify)
    values = {"greeting": "EHLO", "secured": tls, "extensions": offering(*lines), "window_bytes": 2048}
    return Visit(attempt=attempt, steps=(), **{**values, **more})


def failed(attempt: Attempt, phase: Any, kind: FaultKind, *, last_step: str = "EHLO", **more: Any) -> Visit:
    step = Step(what=last_step, duration_s=0.1, lines=("= it",))
    return Visit(attempt=attempt, steps=(step,), phase=phase, fault=Fault(kind=kind, text="it is so"), **more)


def refused(attempt: Attempt, phase: Any, code: int, *, kind: FaultKind | None = None, **more: Any) -> Visit:
    fault = None if kind is None else Fault(kind=kind, text="it is so")
    reply = Reply(code=code, lines=("no",))
    return Visit(attempt=attempt, steps=(), phase=phase, reply=reply, fault=fault, **more)


SILENT = failed(STARTTLS, "greeting", "timeout")
NO_STARTTLS = failed(STARTTLS, "tls", "tls", greeting="EHLO", extensions=offering("SIZE 1000"))
BAD_STARTTLS = failed(STARTTLS, "tls", "tls", last_step="TLS", greeting="EHLO", extensions=offering("STARTTLS"))
BAD_TLS = failed(IN_TLS, "tls", "tls", last_step="TLS")
NO_EHLO = refused(STARTTLS, "hello", 502, kind="tls")
