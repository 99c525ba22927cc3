"""How much may be on the way without its answer: lock-step, pipelining (RFC 2920), chunking (RFC 3030). Pure.

What was offered on this connection decides (after STARTTLS anew), and what relays do in the field bounds it:
EHLO and HELO never have anything behind them, content never goes before the 354, and without PIPELINING not even
QUIT rides with the final dot, for there are relays that lose the letter over it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final, Literal

from plugin.smtp.extensions import Extensions
from plugin.smtp.reply import Reply
from plugin.smtp.table import State

Pace = Literal["lockstep", "pipelining", "chunking"]

REPLY_BYTES: Final = 64
"""What a reply on the way is counted for: to RSET, MAIL and RCPT they have about 15 octets, the last one of a
letter, with its queue id, up to 100."""
CHUNK_BYTES: Final = 64 * 1024
"""The most content behind one BDAT, all of which has to follow once it is announced."""

_RIDES: Final = frozenset({State.RSET, State.MAIL, State.RCPT, State.DATA, State.CHUNK, State.CONTENT})
"""What may have commands without an answer before it; EHLO, AUTH, QUIT … go alone."""
_CARRIES: Final = frozenset({State.RSET, State.MAIL, State.RCPT, State.CHUNK, State.CONTENT})
"""What may be followed before it is answered: not DATA, whose answer decides whether content may follow."""

_OUT_OF_STEP_STATUS: Final = frozenset({"5.5.0", "5.5.1"})  # RFC 3463 §3.6: protocol status; wrong command, now
_OF_THE_COMMAND: Final = frozenset({500, 502, 503})  # RFC 5321 §4.2.2: not known, not implemented, not now
_OUT_OF_STEP_CODES: Final = frozenset({500, 501, 502, 503, 521, 550, 554})
_OUT_OF_STEP_WORDS: Final = re.compile("synchroni[sz]ation|pipelin", re.IGNORECASE)


def pace_of(extensions: Extensions, *, lockstep: bool) -> Pace:
    """Return the pace for a relay that offers ``extensions``; ``lockstep``: it is known to take no other."""
    if lockstep or not extensions.offers("PIPELINING"):
        return "lockstep"
    return "chunking" if extensions.offers("CHUNKING") else "pipelining"


def may_ride(
    state: State, outstanding: Collection[State], *, pace: Pace, window_bytes: int, eager: bool = False
) -> bool:
    """Return whether a command of ``state`` may be sent while those of ``outstanding`` have no answer.

    ``window_bytes``: so many octets of replies can arrive without being read. A relay that can send no more would
    stop reading as well (RFC 2920 §3.1). ``eager``: AUTH is among those that may be followed.
    """
    if not outstanding:
        return True
    if pace == "lockstep" or state not in _RIDES:
        return False
    carries = _CARRIES | {State.AUTH} if eager else _CARRIES
    return carries.issuperset(outstanding) and (len(outstanding) + 1) * REPLY_BYTES <= window_bytes


def envelope_first(extensions: Extensions, *, secured: bool, authenticated: bool) -> bool:
    """Return whether content behind BDAT must wait until the relay has listened to an envelope.

    A relay that demands TLS or AUTH before MAIL refuses BDAT with 530 before it has looked at its size, and would
    then read the content as commands (RFC 3207 §4, RFC 4954 §6). One that offers neither, or has had it, does not.
    """
    demands_tls = extensions.offers("STARTTLS") and not secured
    return not authenticated and (demands_tls or extensions.offers("AUTH"))


def fits_window(replies: int, *, window_bytes: int) -> bool:
    """Return whether so many ``replies`` on the way at a time fit ``window_bytes``."""
    return replies * REPLY_BYTES <= window_bytes


def out_of_step(reply: Reply) -> bool:
    """Return whether ``reply`` to a pipelined command may speak of the pace and not of the letter.

    Relays have no code of their own for it. Status 5.5.0 and 5.5.1 are about the order of commands, and so are
    500, 502 and 503 unless a status says that they mean the letter: what stands before a relay may know fewer
    commands than the relay offers. For other codes words have to do. A letter refused so is tried again in
    lock-step, and what that brings counts: to be wrong here costs a connection and no letter.
    """
    if reply.first != 5:
        return False
    if reply.enhanced in _OUT_OF_STEP_STATUS:
        return True
    if reply.code in _OF_THE_COMMAND and (reply.enhanced or "5.5.").startswith("5.5."):
        return True
    return reply.code in _OUT_OF_STEP_CODES and bool(_OUT_OF_STEP_WORDS.search(reply.text))
