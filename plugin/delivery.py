"""Again, or give up: the only place that decides it. Pure functions over replies, faults and times.

A reply is judged by its first digit (RFC 5321 §4.2.1, §4.3.2). What went wrong with the connection is never the
letter's fault, so it is tried again; what the server says about a recipient or the content counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from plugin.alert import Phase, RecipientState
from plugin.smtp.errors import Fault
from plugin.smtp.reply import Reply

# Phases in which a 5yz is about us and our relay's settings, not about the letter: somebody can mend them, and
# another relay may take the letter, so the letter is put off and not lost.
_ABOUT_US: frozenset[Phase] = frozenset({"connect", "greeting", "hello", "tls", "auth"})


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
    if verdict is None or phase in _ABOUT_US:
        return "deferred"
    if isinstance(verdict, Fault):
        return "refused" if verdict.permanent else "deferred"
    if verdict.first == 5:
        return "refused"
    return "accepted" if verdict.first == 2 and phase == "content" else "deferred"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Tries again: after ``first_s``, then ``factor`` times longer up to ``longest_s``, for ``max_age_s``."""

    first_s: float
    factor: float
    longest_s: float
    max_age_s: float

    def next_attempt(self, attempts: int, *, received_at: float, now: float) -> float | None:
        """Return when attempt number ``attempts`` + 1 is due, or None: the alert has become too old.

        ``attempts`` counts those made so far, at least 1; times are seconds since the epoch. The last attempt
        is made at the end of ``max_age_s``, so that a relay that comes back in time still gets the letter.
        """
        end = received_at + self.max_age_s
        if now >= end:
            return None
        # The exponent is bounded by the longest wait, and so is the arithmetic.
        wait_s = self.first_s
        for _ in range(attempts - 1):
            if wait_s >= self.longest_s:
                break
            wait_s *= self.factor
        return min(now + min(wait_s, self.longest_s), end)
