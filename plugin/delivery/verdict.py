"""What a reply or a fault means for a recipient.

A reply is judged by its first digit (RFC 5321 §4.2.1, §4.3.2). What went wrong with the connection is never the
letter's fault, so it is tried again; what the server says about a recipient or the content counts.
"""

from __future__ import annotations

from typing import Final

from plugin.alert import Phase, RecipientState
from plugin.smtp.errors import Fault
from plugin.smtp.reply import Reply

ABOUT_US: Final[frozenset[Phase]] = frozenset({"connect", "greeting", "hello", "tls", "auth"})
"""Phases in which a 5yz is about us and our relay's settings, not about the letter: somebody can mend them, and
another relay may take the letter, so the letter is put off and not lost."""


def classify(phase: Phase, verdict: Reply | Fault | None) -> RecipientState:
    """Return what ``verdict`` in ``phase`` means for a recipient.

    ======================  =========  =========  =========  =========  ===============
    phase                   2yz        4yz        5yz        fault      permanent fault
    ======================  =========  =========  =========  =========  ===============
    connect ... auth        deferred   deferred   deferred   deferred   deferred
    mail, rcpt, data        deferred   deferred   refused    deferred   refused
    content                 accepted   deferred   refused    deferred   refused
    ======================  =========  =========  =========  =========  ===============
    """
    if verdict is None or phase in ABOUT_US:
        return "deferred"
    if isinstance(verdict, Fault):
        return "refused" if verdict.permanent else "deferred"
    if verdict.first == 5:
        return "refused"
    return "accepted" if verdict.first == 2 and phase == "content" else "deferred"
