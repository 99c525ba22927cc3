"""When an alert of a route that has a rate may be mailed: at most so many within any minute, in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

MINUTE_S: Final = 60.0


class Rates:
    """The times at which the latest alerts of each route are due, in seconds since the epoch.

    Nothing is refused: what comes too fast is due later, behind what came before it.
    """

    def __init__(self, per_minute: Mapping[str, int]) -> None:
        """``per_minute`` has the routes with a rate, by their topic filter."""
        self.per_minute: Final = dict(per_minute)
        self._latest = {route: deque[float](maxlen=rate) for route, rate in self.per_minute.items()}

    def recall(self, route: str, due: Iterable[float]) -> None:
        """Take over when alerts of ``route`` were due before a restart, in any order."""
        self._latest[route].extend(sorted(due))

    def due_at(self, route: str, now: float) -> float:
        """Return when the next alert of ``route`` is due, ``now`` or later, and count it."""
        latest = self._latest.get(route)
        if latest is None:
            return now
        due_at = max(now, latest[-1]) if latest else now
        if len(latest) == latest.maxlen:
            due_at = max(due_at, latest[0] + MINUTE_S)
        latest.append(due_at)
        return due_at

    @contextmanager
    def tentatively(self) -> Iterator[None]:
        """Count nothing of what is asked in the block if that raises."""
        before = {route: latest.copy() for route, latest in self._latest.items()}
        try:
            yield
        except BaseException:
            self._latest = before
            raise
