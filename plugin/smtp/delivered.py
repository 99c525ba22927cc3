"""What a client hands back: what became of a letter, and how a relay received us."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from plugin.smtp.envelope import Envelope
from plugin.smtp.errors import Fault, Phase
from plugin.smtp.extensions import Extensions
from plugin.smtp.reply import Reply
from plugin.smtp.tls import Secured
from plugin.smtp.transaction import RecipientResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What became of one letter, for each recipient and (``phase`` with ``reply`` or ``fault``) as a whole.

    ``relay_refused``: the relay could not be reached or refuses *us*, so another relay may be tried; False once
    the answer is about the letter. ``possible_duplicate``: a connection was lost after all of the content had been
    sent and before its reply. ``greeting`` is "EHLO" or "HELO", None where it did not come to that; ``tls`` the
    TLS version ("TLSv1.3"), None in clear text. ``transcript`` has the dialogue ("S:", "C:", "=" for notes)
    without secrets and without content, for the first letter of a connection with its beginning.
    """

    envelope: Envelope
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeted:
    """How a relay received us: a letter could follow, or ``reply`` or ``fault`` put an end to it in ``phase``.

    ``secured`` is what TLS was agreed on, None in clear text; ``extensions`` what was offered, None where it did
    not come to a connection.
    """

    phase: Phase | None
    reply: Reply | None
    fault: Fault | None
    greeting: Literal["EHLO", "HELO"] | None
    authenticated: bool
    secured: Secured | None
    extensions: Extensions | None
    transcript: tuple[str, ...]
