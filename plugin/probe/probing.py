"""Which connections are made, one after another, and what is concluded from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import AddressValueError, IPv4Address
from typing import Final, final

from plugin.probe.visit import Attempt, Journal, Observe, Visit, reach, settings_for, speak
from plugin.probe.way import BoundedStream, Patience, Way, look_up
from plugin.smtp.errors import Fault, Phase, connect_fault
from plugin.smtp.reply import Reply
from plugin.smtp.settings import Security, Settings
from plugin.smtp.tls import Secured

SUBMISSIONS_PORT: Final = 465
"""Speaks TLS from the start (RFC 8314 §7.3)."""
SILENCE: Final = 1 / 3
"""The part of the time that a greeting in clear text may take before TLS from the start is tried."""

_UNSENT: Final[Mapping[str, str]] = {
    "EHLO": "the password was not sent: TLS is not offered, and only --security none allows clear text",
    "HELO": "the password was not sent: EHLO is refused, and HELO has no AUTH",
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """A letter could follow, or ``reply`` or ``fault`` put an end to it in ``phase``.

    ``security`` is the one that fits what was seen; ``seen`` the connection that tells most about the server;
    ``secured`` what TLS was agreed on, with its certificate, which may be one that a delivery would refuse.
    """

    phase: Phase | None
    reply: Reply | None
    fault: Fault | None
    security: Security
    seen: Visit
    secured: Secured | None


def reason_for(visit: Visit, attempt: Attempt) -> str:
    """Return why ``attempt`` follows ``visit``, for people."""
    if attempt.helo:
        return "EHLO is not answered: HELO at once"
    if not attempt.verify and visit.attempt.verify:
        return "without a check of the certificate, only to look at it"
    if attempt.security == "tls":
        return "nothing is said in clear text: TLS from the start"
    return "EHLO is refused, and STARTTLS needs it: in clear text"


def first_attempt(port: int, security: Security | None, *, verify: bool) -> Attempt:
    """Return how the first connection is spoken to; ``security`` None: it is to be found out."""
    guess: Security = "tls" if port == SUBMISSIONS_PORT else "starttls"
    return Attempt(security=security or guess, verify=verify)


def next_attempt(visit: Visit, *, guessing: bool) -> Attempt | None:
    """Return what is still to be found out after ``visit``, or None."""
    attempt = visit.attempt
    if visit.unanswered and not attempt.helo:
        return replace(attempt, helo=True, login=False)
    if visit.handshake_failed and attempt.verify:
        return replace(attempt, verify=False, login=False)
    if not guessing or attempt.security != "starttls" or visit.fault is None:
        return None
    if visit.phase == "greeting" and visit.fault.kind == "timeout":
        return replace(attempt, security="tls")
    refused = visit.reply is not None and visit.reply.first == 5
    if visit.phase == "hello" and (refused or visit.fault.kind == "lost"):
        return replace(attempt, security="none", login=False)
    return None


def conclude(visits: Sequence[Visit], *, guessing: bool, login: bool) -> Conclusion:
    """Return what ``visits``, in their order, tell together; ``login``: there is one, and it was to be tried."""
    checked = [one for one in visits if one.attempt.verify] or list(visits)
    last = visits[-1]
    decisive = checked[-1]
    if (
        len(checked) > 1
        and decisive.attempt.security == "tls"
        and not (decisive.secured or _is_tls_fault(decisive))
    ):
        decisive = last = checked[0]  # TLS from the start was a guess, and nobody has answered it either
    phase, reply, fault = decisive.phase, decisive.reply, decisive.fault
    security = decisive.attempt.security
    if guessing and decisive.without_starttls:
        phase, fault, security = None, None, "none"
    if phase is None and login and not decisive.authenticated:
        phase, fault = "auth", Fault(kind="auth", text=_UNSENT[last.greeting or "EHLO"])
    return Conclusion(phase=phase, reply=reply, fault=fault, security=security, seen=last, secured=last.secured)


def _is_tls_fault(visit: Visit) -> bool:
    return visit.fault is not None and visit.fault.kind == "tls"


def probe(
    settings: Settings,
    port: int,
    way: Way,
    *,
    security: Security | None,
    timeout_s: float,
    clock: Callable[[], float],
    observe: Observe,
) -> tuple[Visit, ...]:
    """Connect and speak as often as it takes to know the server; at most five times, ``timeout_s`` in all.

    Never raises for what the network or the server does.
    """
    patience, journal = Patience(timeout_s, clock), Journal(clock, observe)
    attempt: Attempt | None = first_attempt(port, security, verify=settings.verify)
    visits: list[Visit] = []
    addresses: tuple[str, ...] = ()
    while attempt is not None:
        try:
            addresses = addresses or _addresses(settings.host, way, journal, patience)
            stream = BoundedStream(reach(way.connect, addresses, port, journal, patience), patience)
        except OSError as error:
            fault = connect_fault(error)
            visits.append(Visit(attempt=attempt, steps=journal.steps(), phase="connect", fault=fault))
            break
        guessing = security is None and attempt.security == "starttls"
        greeting_s = timeout_s * SILENCE if guessing else timeout_s
        spoken = settings_for(attempt, settings, greeting_s=greeting_s, timeout_s=timeout_s)
        visits.append(speak(stream, spoken, attempt, journal, clock))
        attempt = next_attempt(visits[-1], guessing=security is None)
        if attempt is not None:
            journal.begin("once more")
            journal.record(f"= {reason_for(visits[-1], attempt)}")
    return tuple(visits)


def _addresses(host: str, way: Way, journal: Journal, patience: Patience) -> tuple[str, ...]:
    try:
        return (str(IPv4Address(host)),)
    except AddressValueError:
        if not way.host_resolves:
            return (host,)
    journal.begin("look-up")
    try:
        addresses = look_up(host, timeout_s=patience.left_s())
    except OSError as error:
        journal.record(f"= {error}")
        raise
    journal.record(f"= {host} is {', '.join(addresses)}")
    return addresses
