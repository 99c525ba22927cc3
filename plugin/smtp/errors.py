"""What can go wrong on the way to a relay: the phases of a delivery, and the faults that may end one.

A *reply* is the relay's own word and travels as ``Reply``. A *fault* is everything else: no connection, silence,
a connection that broke, octets that are not SMTP, or a demand of our own settings that the relay cannot meet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, final

MAX_FAULT_CHARS: Final = 512

Phase = Literal["connect", "greeting", "hello", "tls", "auth", "mail", "rcpt", "data", "content"]
"""How far a delivery has come, under the names of the outcome that users read."""

FaultKind = Literal["unreachable", "refused", "timeout", "lost", "protocol", "tls", "auth", "size", "smtputf8"]
"""``unreachable``: no connection; ``refused``: the connection was refused; ``timeout``: a deadline passed;
``lost``: the connection broke; ``protocol``: what came is not SMTP, or not now; ``tls``: TLS is demanded and
cannot be had, or not with this certificate; ``auth``: AUTH is required and cannot be had; ``size``: the letter is
larger than the relay says it takes (RFC 1870); ``smtputf8``: an address is not ASCII, and the relay takes only
those that are (RFC 6531)."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why something ended without a deciding reply; ``text`` is one clause for people, without secrets."""

    kind: FaultKind
    text: str

    @property
    def permanent(self) -> bool:
        """Whether the same letter would meet the same fault again at this relay."""
        return self.kind in {"size", "smtputf8"}

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


def connect_fault(error: OSError) -> Fault:
    """Return the fault for a connection that could not be made."""
    if isinstance(error, TimeoutError):
        return Fault(kind="timeout", text=_worded("no connection in time", error))
    if isinstance(error, ConnectionRefusedError):
        return Fault(kind="refused", text=_worded("the connection was refused", error))
    return Fault(kind="unreachable", text=_worded("no connection", error))


def stream_fault(error: OSError, doing: str) -> Fault:
    """Return the fault for a Stream that failed while ``doing`` something, said as "sending (mail)"."""
    if isinstance(error, TimeoutError):
        return Fault(kind="timeout", text=_worded(f"timeout {doing}", error))
    return Fault(kind="lost", text=_worded("the connection was lost", error))


def _worded(what: str, error: OSError) -> str:
    return printable(": ".join(part for part in (what, str(error)) if part), max_chars=MAX_FAULT_CHARS)
