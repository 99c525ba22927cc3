"""When a letter that was put off is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from plugin.alert import RecipientOutcome
from plugin.delivery.cause import cause

JITTER: Final = 0.2
"""How much a wait is longer or shorter by chance, so that what failed together does not come together."""
GREYLIST_LONGEST_S: Final = (60.0,) * 5 + (120.0,) * 2 + (180.0,) + (300.0,) * 4
"""The longest wait behind the first, second ... attempt where a greylist has put a letter off.

Greylists (RFC 6647) let a newcomer in after 1 to 30 minutes, mostly after 1 or 5. With the default schedule
attempts follow soon after each of the usual times: at 10, 30, 70, 130, 190, 310, 430, 610, 910, 1210, 1510 and
1810 s. The first two are too early for most greylists. They do no harm there, and much of what looks like a
greylist lets them in: postscreen, a look-up that failed.
"""
CROWDED_S: Final = 1.0
"""The wait for those recipients that did not fit into a mail transaction from which others were taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Tries again: after ``first_s``, then ``factor`` times longer up to ``longest_s``, for ``max_age_s``.

    Each wait is up to ``jitter`` (a share of it, 0 to below 1) longer or shorter, by ``draw``, which gives numbers
    from 0 to below 1; but never longer than ``longest_s``.
    """

    first_s: float
    factor: float
    longest_s: float
    max_age_s: float
    jitter: float = 0.0
    draw: Callable[[], float] = field(default=random.random, compare=False, repr=False)

    def next_attempt(
        self, attempts: int, *, recipients: Sequence[RecipientOutcome] = (), received_at: float, now: float
    ) -> float | None:
        """Return when attempt number ``attempts`` + 1 is due, or None: the alert has become too old.

        ``attempts`` counts those made so far, at least 1; ``recipients`` are the fates of all to whom the last one
        went: the letter is due as early as any of them that was put off needs it. Times are seconds on one scale,
        that of a clock that does not jump. The last attempt is made at the end of ``max_age_s``, so that a relay
        that comes back in time still gets the letter.
        """
        end = received_at + self.max_age_s
        if now >= end:
            return None
        return min(now + self._wait_s(attempts, recipients), end)

    def _wait_s(self, attempts: int, recipients: Sequence[RecipientOutcome]) -> float:
        causes = {cause(one) for one in recipients if one.state == "deferred"}
        if "crowded" in causes and any(one.state == "accepted" for one in recipients):
            return min(CROWDED_S, self.longest_s)
        wait_s = self._backoff_s(attempts)
        chance = 2 * self.draw() - 1
        if "greylisted" in causes and attempts <= len(GREYLIST_LONGEST_S):
            # A greylist that is asked a second too early costs a whole further wait: chance may only add.
            wait_s, chance = min(wait_s, GREYLIST_LONGEST_S[attempts - 1]), abs(chance)
        return min(wait_s * (1 + self.jitter * chance), self.longest_s)

    def _backoff_s(self, attempts: int) -> float:
        # The exponent is bounded by the longest wait, and so is the arithmetic.
        wait_s = self.first_s
        for _ in range(attempts - 1):
            if wait_s >= self.longest_s:
                break
            wait_s *= self.factor
        return min(wait_s, self.longest_s)
