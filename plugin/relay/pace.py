"""How fast letters may go by a relay that has told us to wait. No lock and no clock of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST_INTERVAL_S: Final = 1.0
LONGEST_INTERVAL_S: Final = 300.0
SLOWER: Final = 2.0
FASTER: Final = 0.5

FIRST_LOOK_S: Final = 1.0
SOONEST_LOOK_S: Final = 5.0
LATEST_LOOK_S: Final = 60.0
LOOK_SHARE: Final = 0.25


def look_again_s(trouble_s: float) -> float:
    """Return when to look again at a relay that has been in trouble for ``trouble_s``.

    It is found in order a quarter of its outage late at the most, but is not looked at more often than every
    SOONEST_LOOK_S, and not less often than every LATEST_LOOK_S.
    """
    return min(max(trouble_s * LOOK_SHARE, SOONEST_LOOK_S), LATEST_LOOK_S)


@dataclass(slots=True)
class Pace:
    """One letter every ``interval_s``, 0 for as many as there are; ``now`` is in seconds by one steady clock.

    A limit doubles the interval, from FIRST_INTERVAL_S to LONGEST_INTERVAL_S, and an accepted letter halves it,
    until the relay is free again. A relay that is busy, with whatever, is free again with the first accepted
    letter; until then one letter finds out after FIRST_LOOK_S, for many have a bad moment only, and after
    ``look_again_s`` each time.

    ``take`` gives a letter the number of setbacks so far: what becomes of a letter that was on the way already
    when the last one was told says nothing of the pace that has followed.
    """

    interval_s: float = 0.0
    _next_at: float = 0.0
    _setbacks: int = 0
    _busy_since: float | None = None

    def ready_in(self, now: float) -> float:
        """Return in how many seconds the next letter may go; 0 for now."""
        return max(0.0, self._next_at - now) if self.interval_s else 0.0

    def take(self, now: float) -> int:
        """Take the turn for one letter, and return what the others ask for as ``taken``."""
        self._next_at = now + self.interval_s
        return self._setbacks

    def limited(self, now: float, taken: int) -> bool:
        """Become slower because we were too fast; return whether that was so."""
        return self._slow(
            now, taken, min(max(FIRST_INTERVAL_S, self.interval_s * SLOWER), LONGEST_INTERVAL_S), busy_since=None
        )

    def busy(self, now: float, taken: int) -> bool:
        """Let few letters go until one is accepted; return whether that is a change."""
        if self.interval_s and self._busy_since is None:
            return self.limited(now, taken)  # what it says now does not lift its limit
        since = now if self._busy_since is None else self._busy_since
        look_s = FIRST_LOOK_S if self._busy_since is None else look_again_s(now - since)
        return self._slow(now, taken, look_s, busy_since=since)

    def accepted(self, now: float, taken: int) -> None:
        """Become faster: a letter was accepted."""
        if taken != self._setbacks or not self.interval_s:
            return
        interval_s = 0.0 if self._busy_since is not None else self.interval_s * FASTER
        self.interval_s = interval_s if interval_s >= FIRST_INTERVAL_S else 0.0
        self._busy_since = None
        self._next_at = min(self._next_at, now + self.interval_s)

    def _slow(self, now: float, taken: int, interval_s: float, *, busy_since: float | None) -> bool:
        if taken != self._setbacks:
            return False
        self._setbacks += 1
        self._busy_since = busy_since
        self.interval_s = interval_s
        self._next_at = now + interval_s
        return True
