"""What DNS servers have said, for as long as it may be believed. No clock of its own, not thread-safe."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from plugin.w5100.dns.answers import Absent, Addresses

NAMES_AT_MOST: Final = 100
SHORTEST_S: Final = 5.0
LONGEST_S: Final = 86_400.0
LONGEST_ABSENT_S: Final = 60.0
STALE_S: Final = 86_400.0  # RFC 8767, section 5: one to three days
RECHECK_S: Final = 30.0  # RFC 8767, section 5: so long a stale answer is given without asking again


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An answer, the moment until which it is fresh, and the one until which it is better than none."""

    answer: Addresses | Absent
    fresh_until: float
    stale_until: float


def entry_of(answer: Addresses | Absent, now: float) -> Entry:
    """Return how long ``answer`` is kept: addresses by their TTL, 5 s to a day; that there is none, 5 to 60 s."""
    if isinstance(answer, Absent):
        fresh_until = now + min(max(answer.ttl_s, SHORTEST_S), LONGEST_ABSENT_S)
        return Entry(answer=answer, fresh_until=fresh_until, stale_until=fresh_until)
    fresh_until = now + min(max(answer.ttl_s, SHORTEST_S), LONGEST_S)
    return Entry(answer=answer, fresh_until=fresh_until, stale_until=fresh_until + STALE_S)


class Cache:
    """The last answers by name, at most NAMES_AT_MOST; the one that was not asked for longest goes first."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, Entry] = OrderedDict()

    def keep(self, name: str, answer: Addresses | Absent, now: float) -> None:
        """Keep ``answer`` instead of what was known of ``name``."""
        self._entries[name] = entry_of(answer, now)
        self._entries.move_to_end(name)
        if len(self._entries) > NAMES_AT_MOST:
            self._entries.popitem(last=False)

    def fresh(self, name: str, now: float) -> Addresses | Absent | None:
        """Return what is known of ``name`` and may be believed without asking."""
        entry = self._entries.get(name)
        if entry is None or now >= entry.fresh_until:
            return None
        self._entries.move_to_end(name)
        return entry.answer

    def stale(self, name: str, now: float) -> Addresses | None:
        """Return addresses that are out of date and yet better than none; for RECHECK_S they are fresh again."""
        entry = self._entries.get(name)
        if entry is None or now >= entry.stale_until or not isinstance(entry.answer, Addresses):
            return None
        self._entries[name] = Entry(
            answer=entry.answer, fresh_until=now + RECHECK_S, stale_until=entry.stale_until
        )
        return entry.answer
