"""What can go wrong on the way to a relay: the phases of a delivery, and the faults that may end one.

A *reply* is the relay's own word and travels as ``Reply``. A *fault* is everything else: no connection, silence,
a connection that broke, octets that are not SMTP, or a demand of our own settings that the relay cannot meet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

Phase = Literal["connect", "greeting", "hello", "tls", "auth", "mail", "rcpt", "data", "content"]
"""How far a delivery has come, under the names of the outcome that users read."""

FaultKind = Literal["unreachable", "refused", "timeout", "lost", "protocol", "auth", "size"]
"""``unreachable``: no connection; ``refused``: the connection was refused; ``timeout``: a deadline passed;
``lost``: the connection broke; ``protocol``: what came is not SMTP, or not now; ``auth``: AUTH is required and
cannot be had; ``size``: the letter is larger than the relay says it takes (RFC 1870)."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why something ended without a deciding reply; ``text`` is one clause for people, without secrets."""

    kind: FaultKind
    text: str

    @property
    def permanent(self) -> bool:
        """Whether the same letter would meet the same fault again at this relay."""
        return self.kind == "size"

    def __str__(self) -> str:
        return self.text


class ProtocolError(Exception):
    """The peer sent what RFC 5321 does not allow at this point; the connection is of no further use."""


def printable(text: str, *, max_chars: int) -> str:
    """Return ``text`` as one line that is safe in logs, terminals and JSON, at most ``max_chars`` long.

    Blanks of every kind become a space; control, bidirectional and other invisible characters become U+FFFD.
    """
    if not text.isprintable():
        text = "".join(_harmless(character) for character in text)
    return text if len(text) <= max_chars else text[: max_chars - 1] + "…"


def _harmless(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() and not "\x1c" <= character <= "\x1f" else "\N{REPLACEMENT CHARACTER}"
