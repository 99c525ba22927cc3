"""What is known of the relays: which of them are down, why, and when they are to be tried again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

FIRST_REST_S: Final = 30.0
LONGEST_REST_S: Final = 300.0
REST_FACTOR: Final = 2.0
TRIAL_S: Final = 60.0
"""How long one lane's trial of a relay that was down keeps the other lanes from trying it as well."""


@dataclass(slots=True, kw_only=True)
class _Standing:
    """``rest_s`` is 0 for a relay that is up; ``until`` is when one that is down may be tried, by the clock."""

    rest_s: float = 0.0
    until: float = 0.0
    problem: str = ""


class Standings:
    """The relays ``names``, in the order of the configuration. Shared by all lanes; thread-safe.

    A relay that cannot be reached or refuses us is passed over for a while that grows from FIRST_REST_S to
    LONGEST_REST_S, then one lane tries it, and when it has recovered it is again the one before the others.
    Nothing is passed over where all are down: what is due is tried, and the retry schedule tells what is due.
    """

    def __init__(self, names: Sequence[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._names = tuple(names)
        self._clock = clock
        self._lock = threading.Lock()
        self._standings = [_Standing() for _ in names]

    def order(self) -> list[int]:
        """Return the positions of the relays in the order in which a letter is to be offered to them."""
        with self._lock:
            now = self._clock()
            rested = [one.rest_s == 0 or now >= one.until for one in self._standings]
            for one, may in zip(self._standings, rested, strict=True):
                if one.rest_s and may:
                    one.until = now + TRIAL_S
            positions = range(len(self._standings))
            return [*(n for n in positions if rested[n]), *(n for n in positions if not rested[n])]

    def failed(self, position: int, problem: str) -> bool:
        """Take note that a relay refuses us; return whether that is news."""
        with self._lock:
            one = self._standings[position]
            news = one.rest_s == 0
            one.rest_s = FIRST_REST_S if news else min(one.rest_s * REST_FACTOR, LONGEST_REST_S)
            one.until = self._clock() + one.rest_s
            one.problem = problem
            return news

    def worked(self, position: int) -> bool:
        """Take note that a relay takes letters; return whether that is news."""
        with self._lock:
            one = self._standings[position]
            news = one.rest_s > 0
            one.rest_s, one.problem = 0.0, ""
            return news

    @property
    def problem(self) -> str | None:
        """What is wrong with the first relay that is down, and which one has its mail; None where all is well."""
        with self._lock:
            down = [one.rest_s > 0 for one in self._standings]
            if not any(down):
                return None
            first = down.index(True)
            instead = "" if all(down) else f" (mail goes by {self._names[down.index(False)]})"
            return f"{self._names[first]}: {self._standings[first].problem}{instead}"
