"""The time by which letters wait: it goes on evenly, whatever happens to the clock on the wall.

A Raspberry Pi has no clock that runs while it is off: it starts in some year of the past and jumps when it hears
of the time. Neither that nor a clock that is set back may expire the queue or stall it. So waiting and ages are
counted in seconds that were lived through; between two runs the wall clock tells how many those were, if it can
be believed. The dates that people read are those of the wall clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self

NOBODY_SET_IT: Final = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
"""A wall clock before this one has not been set since the machine was switched on."""
LONGEST_PAUSE_S: Final = 366 * 86_400.0
"""A longer time between two runs is a wall clock that is wrong: to believe it would expire the whole queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What both clocks showed at one moment, in seconds: what a run leaves to the next one."""

    steady: float
    wall: float

    @classmethod
    def read(cls, value: Any) -> Self | None:
        """Return the mark that ``as_json`` gave, None for anything else."""
        match value:
            case {"steady": int() | float() as steady, "wall": int() | float() as wall}:
                return cls(steady=float(steady), wall=float(wall))
            case _:
                return None

    @property
    def lead_s(self) -> float:
        """By how much the wall clock was ahead of the steady one."""
        return self.wall - self.steady

    def as_json(self) -> dict[str, float]:
        """Return what ``read`` takes."""
        return {"steady": self.steady, "wall": self.wall}


def resumed(mark: Mark | None, wall: float) -> float:
    """Return where a steady clock goes on from: ``mark`` was left by the run before, ``wall`` is now.

    ===========================  ==========================================
    mark, and the wall clock     the clock goes on
    ===========================  ==========================================
    none                         from what the wall clock shows
    both set, not set back,      from the mark, later by what lies between
    and at most a year between
    else                         from the mark
    ===========================  ==========================================
    """
    if mark is None:
        return wall
    pause_s = wall - mark.wall
    believed = min(mark.wall, wall) >= NOBODY_SET_IT and 0.0 <= pause_s <= LONGEST_PAUSE_S
    return mark.steady + (pause_s if believed else 0.0)


class SteadyClock:
    """Seconds on a scale that begins near the epoch, and never jumps; for several threads."""

    def __init__(
        self,
        mark: Mark | None = None,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Go on from ``mark``, or begin with what the wall clock shows."""
        self._wall = wall
        self._monotonic = monotonic
        self._offset = resumed(mark, wall()) - monotonic()

    def __call__(self) -> float:
        """Return the seconds now."""
        return self._monotonic() + self._offset

    def date(self, moment: float) -> datetime:
        """Return when ``moment`` of this clock is, or was, by the wall clock as it goes now."""
        return datetime.fromtimestamp(self._wall() + moment - self(), UTC)

    def mark(self) -> Mark:
        """Return what the next run needs to go on."""
        return Mark(steady=self(), wall=self._wall())
