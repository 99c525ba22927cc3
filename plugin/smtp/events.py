"""What a session tells its driver: what is to be done now, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass

from plugin.smtp.errors import Fault, Phase
from plugin.smtp.reply import Reply
from plugin.smtp.transaction import Settled


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The connection is open for letters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """The same relay is to be tried on a new connection without AUTH; ``reason`` says why.

    It is then greeted with HELO, unless STARTTLS is demanded, which needs EHLO.
    """

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """The connection is to be secured now: ``Session.secured`` or ``Session.fail`` must follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The relay does not want us, or does not give what our settings demand: no letter can go this way."""

    phase: Phase
    reply: Reply | None = None
    fault: Fault | None = None


Event = Handshake | Ready | Fallback | Refused | Settled
