"""What is known of the relays: which are down or held back, why, and when a letter may go by them again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from plugin.relay.pace import SOONEST_LOOK_S, Pace, look_again_s

FIRST_REST_S: Final = 30.0
LONGEST_REST_S: Final = 300.0
REST_FACTOR: Final = 2.0
ALIKE: Final = 5
"""So many letters in a row put off with the same reply, and none taken in between: the relay is busy."""
TRIAL_S: Final = 60.0
"""How long one lane's trial of a relay that was down keeps the other lanes from trying it as well."""


@dataclass(slots=True, kw_only=True)
class _Standing:
    """``rest_s`` is 0 for a relay that is up; ``until`` is when one that is down may be tried, by the clock.

    ``look_at`` is when a letter may try it where all others are down as well. ``since`` is when it went down,
    ``probe_at`` when it is to be probed, None: only a letter may find out. ``on_trial``: a lane tries it now.
    ``missed``: it has put letters off for its own sake since it worked last. ``put_off`` is the phase, the code
    and the enhanced code with which it has put off the last ``alike`` letters.
    """

    pace: Pace = field(default_factory=Pace)
    rest_s: float = 0.0
    until: float = 0.0
    look_at: float = 0.0
    on_trial: bool = False
    since: float = 0.0
    probe_at: float | None = None
    missed: bool = False
    put_off: tuple[str, int | None, str | None] | None = None
    alike: int = 0
    problem: str = ""


class Standings:
    """The relays ``names``, in the order of the configuration. Shared by all lanes; thread-safe.

    A relay that cannot be reached or refuses us is passed over for a while that grows from FIRST_REST_S to
    LONGEST_REST_S, then one lane tries it, and when it has recovered it is again the one before the others.
    Where all are down, one lane tries them with what is due, and then nobody does for a while (``look_again_s``),
    or letters that are due one by one would be a connection each. A probe without a letter finds out as well
    whether a relay can be reached again.

    A relay that is busy, or says that we are too fast, is held back: it gets a letter only now and then
    (``plugin.relay.pace``), and those that have no other relay wait without being tried.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        clock: Callable[[], float] = time.monotonic,
        on_recovery: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_recovery`` is called by the lane that finds a relay in order again that had put letters off."""
        self._names = tuple(names)
        self._clock = clock
        self._on_recovery = on_recovery
        self._lock = threading.Lock()
        self._standings = [_Standing() for _ in names]

    # --- choosing -------------------------------------------------------------------------------------------

    def order(self) -> list[int]:
        """Return the positions of the relays in the order in which a letter is to be offered to them.

        To be called with a letter at hand, for a relay that has rested is now on trial. Those that are held back
        are left out, unless there are no others: ``ready_in`` tells when a letter had better wait.
        """
        with self._lock:
            now = self._clock()
            everyone = range(len(self._standings))
            free = [n for n in everyone if not self._standings[n].pace.ready_in(now)] or [*everyone]
            rested = [n for n in free if now >= self._standings[n].until]
            for one in (self._standings[n] for n in rested):
                if one.rest_s:
                    one.on_trial, one.until = True, now + TRIAL_S
            if all(one.rest_s for one in self._standings):
                for one in (self._standings[n] for n in free):
                    one.on_trial, one.look_at = True, now + TRIAL_S
            return [*rested, *(n for n in free if n not in rested)]

    def ready_in(self) -> float:
        """Return in how many seconds a letter may be drawn, 0 for now: there is a relay to offer it to."""
        with self._lock:
            return self._ready_in(self._clock())

    def _ready_in(self, now: float) -> float:
        all_down = all(one.rest_s for one in self._standings)
        return max(
            0.0,
            min(
                max(one.pace.ready_in(now), (one.look_at if all_down else one.until) - now)
                for one in self._standings
            ),
        )

    def held_back(self, position: int) -> bool:
        """Tell whether a relay is to get no letter now."""
        with self._lock:
            return self._standings[position].pace.ready_in(self._clock()) > 0

    def take(self, position: int) -> int:
        """Take a relay's turn for one letter.

        What is returned is told to ``limited``, ``busy``, ``put_off`` and ``worked`` with what came of the letter.
        """
        with self._lock:
            return self._standings[position].pace.take(self._clock())

    # --- learning -------------------------------------------------------------------------------------------

    def failed(self, position: int, problem: str, *, probe: bool = True, letter: bool = True) -> bool:
        """Take note that a relay refuses us; return whether that is news.

        ``probe`` False: one that does not want us is not asked more often than the letters need it. ``letter``
        False: that was a probe, which puts off no letter's own look, for an outcome has to tell how it fares.
        """
        with self._lock:
            now = self._clock()
            one = self._standings[position]
            news = one.rest_s == 0
            if news:
                one.since = now
            if news:
                one.rest_s = FIRST_REST_S
            elif one.on_trial:  # else it is another lane's word of the same failure
                one.rest_s = min(one.rest_s * REST_FACTOR, LONGEST_REST_S)
            one.on_trial = False
            one.until = now + one.rest_s
            if letter:
                one.look_at = now + look_again_s(now - one.since)
            if not probe:
                one.probe_at = None
            elif one.probe_at is None:
                one.probe_at = now + SOONEST_LOOK_S
            one.problem, one.missed = problem, True
            return news

    def limited(self, position: int, problem: str, *, taken: int) -> bool:
        """Take note that a relay has put a letter off because we are too fast; return whether that slows us down.

        Of the letters that were on the way together the first tells it for all.
        """
        with self._lock:
            one = self._standings[position]
            one.problem, one.missed = problem, True
            return one.pace.limited(self._clock(), taken)

    def busy(self, position: int, problem: str, *, taken: int) -> bool:
        """Take note that a relay would put off any letter for now; return what ``limited`` returns."""
        with self._lock:
            one = self._standings[position]
            one.problem, one.missed = problem, True
            return one.pace.busy(self._clock(), taken)

    def put_off(
        self, position: int, problem: str, *, reply: tuple[str, int | None, str | None], taken: int
    ) -> bool:
        """Take note that a relay has put a letter off with ``reply``: phase, code and enhanced code.

        One such letter says nothing of the relay, ALIKE in a row do. Returns what ``limited`` returns.
        """
        with self._lock:
            one = self._standings[position]
            one.alike = one.alike + 1 if one.put_off == reply else 1
            one.put_off = reply
            if one.alike < ALIKE:
                return False
            one.problem, one.missed = problem, True
            return one.pace.busy(self._clock(), taken)

    def worked(self, position: int, *, taken: int | None = None) -> bool:
        """Take note that a relay takes letters; return whether that is news.

        ``taken`` is the turn of a letter that was accepted, None where it was not, or there was none.
        """
        with self._lock:
            one = self._standings[position]
            news = one.rest_s > 0
            one.rest_s, one.until, one.look_at, one.probe_at, one.on_trial = 0.0, 0.0, 0.0, None, False
            if taken is not None:
                one.pace.accepted(self._clock(), taken)
                one.put_off, one.alike = None, 0
            recovered = one.missed and (news or taken is not None)
            one.missed = one.missed and not recovered
        if recovered:
            self._on_recovery()
        return news

    # --- probing --------------------------------------------------------------------------------------------

    def probe_in(self) -> float | None:
        """Return in how many seconds a relay is to be probed; None: that is left to the letters."""
        with self._lock:
            due = self._probes()
            return max(0.0, min(due) - self._clock()) if due else None

    def take_probe(self) -> int | None:
        """Return the position of a relay that this lane is to probe now, or None."""
        with self._lock:
            now = self._clock()
            if not any(at <= now for at in self._probes()):
                return None
            position = min(
                (n for n, one in enumerate(self._standings) if one.probe_at is not None),
                key=lambda n: self._standings[n].probe_at or 0.0,
            )
            one = self._standings[position]
            one.probe_at = now + look_again_s(now - one.since)
            return position

    def _probes(self) -> list[float]:
        """Return when relays are to be probed: none is while another has the mail, for then a letter tries it."""
        if not all(one.rest_s for one in self._standings):
            return []
        return [one.probe_at for one in self._standings if one.probe_at is not None]

    # --- telling --------------------------------------------------------------------------------------------

    @property
    def problem(self) -> str | None:
        """What is wrong with the first relay that is down or held back, and which one has its mail; or None."""
        with self._lock:
            troubled = [one.rest_s > 0 or one.pace.interval_s > 0 for one in self._standings]
            if not any(troubled):
                return None
            first = troubled.index(True)
            one = self._standings[first]
            pace = f" (one letter every {one.pace.interval_s:.0f} s)" if one.pace.interval_s else ""
            instead = "" if all(troubled) else f" (mail goes by {self._names[troubled.index(False)]})"
            return f"{self._names[first]}: {one.problem}{pace}{instead}"
