"""Carrying: what is due is claimed, sealed, handed to the relays, and settled as soon as its attempt is known."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from plugin.alert import Alert, Attempt, Letter, Malformed
from plugin.bridge.arrival import Decode, directions_of, where
from plugin.bridge.history import History
from plugin.bridge.settlement import NextAttempt, failed_attempt, settle, utc
from plugin.compose import Sealed
from plugin.outbox import Claim, Outbox, OutboxError, Settlement
from plugin.route import Directions

_log = logging.getLogger("hardwire.bridge")

MAX_FAULT_CHARS: Final = 200
AHEAD: Final = 8  # letters sealed and stored with one fsync


class Seal(Protocol):
    """What ``plugin.compose.Composer`` does."""

    def seal(self, alert: Alert, directions: Directions, *, date: datetime) -> Sealed:
        """Return the mail; whatever an alert says, there is one."""
        ...

    def check_path(self, path: str) -> str | None:
        """Return why a file must not be attached, or None."""
        ...


Deliver = Callable[[Iterable[Letter]], Iterable[tuple[Letter, Attempt]]]
"""What ``plugin.relay.Relays.deliver`` does: draws letters, and gives each back with what came of it."""


@dataclass(slots=True, kw_only=True)
class _Run:
    """One call of ``carry``: how many it has carried, what has no result yet, what went wrong with the outbox."""

    limit: int
    stop: Callable[[], bool]
    carried: int = 0
    under_way: dict[int, tuple[Claim, Letter]] = field(default_factory=dict)
    trouble: OutboxError | None = None


class Carrier:
    """Carries letters; several threads may, each with relays of its own.

    ``count`` is told the kind of each outcome. What ``Bridge`` says of its methods holds for these.
    """

    def __init__(
        self,
        *,
        outbox: Outbox,
        decode: Decode,
        composer: Seal,
        schedule: NextAttempt,
        base: str,
        clock: Callable[[], float],
        count: Callable[[str], None],
    ) -> None:
        self._outbox = outbox
        self._decode = decode
        self._composer = composer
        self._schedule = schedule
        self._base = base
        self._clock = clock
        self._count = count
        self._history = History(outbox, now=clock())
        self._lock = threading.Lock()  # guards what follows
        self._unstored: list[Settlement] = []
        self._ahead: deque[tuple[Claim, Letter]] = deque()  # sealed, marked as on the wire, drawn by nobody yet

    def carry(self, deliver: Deliver, *, limit: int = 1, stop: Callable[[], bool] = lambda: False) -> int:
        """Carry up to ``limit`` letters that are due, the longest due first; return how many there were.

        ``deliver`` draws letters as it has room for them on the way. They are sealed and stored before the wire is
        touched, so that every attempt sends the same octets: a few ahead, for the lanes in common, because a
        commit costs more than a letter. What nobody has drawn at the end waits again. Each is settled as soon as
        its attempt is known. None is drawn any more once ``stop``. An exception of ``deliver`` puts off what it
        has drawn. Nothing is sent while a result cannot be stored.
        """
        self.store_results()
        run = _Run(limit=limit, stop=stop)
        try:
            for letter, attempt in self._attempts(run, deliver):
                claim, _ = run.under_way.pop(letter.id)
                try:
                    self._settle(claim, letter, attempt)
                except OutboxError as error:
                    run.trouble = error  # what is on the wire goes on to its end, and its results are kept
            self._put_back()
        except OutboxError as error:
            run.trouble = run.trouble or error
        if run.trouble is not None:
            raise run.trouble
        self._history.prune_now_and_then(self._clock())
        return run.carried

    def next_due_in(self) -> float | None:
        """Return in how many seconds there is something to carry, 0 for now; None: nothing waits."""
        with self._lock:
            if self._unstored or self._ahead:
                return 0.0
        due_at = self._outbox.next_due()
        return None if due_at is None else max(0.0, due_at - self._clock())

    def _letters(self, run: _Run) -> Iterator[Letter]:
        """Give letters that are sealed and stored, one whenever ``deliver`` asks for one."""
        while run.trouble is None and run.carried < run.limit and not run.stop():
            try:
                drawn = self._draw(run)
            except OutboxError as error:
                run.trouble = error
                return
            if drawn is None:
                return
            claim, letter = drawn
            run.carried += 1
            run.under_way[letter.id] = claim, letter
            yield letter

    def _draw(self, run: _Run) -> tuple[Claim, Letter] | None:
        """Return the next letter of those sealed ahead, or None: nothing is due.

        They belong to all lanes, so one that is slow keeps nothing from the others; and what is more urgent than
        the next of them goes first.
        """
        while run.carried < run.limit:
            with self._lock:
                head = self._ahead[0][0].urgency if self._ahead else None
            if head is None:
                if not self._seal_ahead(run, min(AHEAD, run.limit - run.carried)):
                    return None
            elif head and self._outbox.more_urgent(head, now=self._clock()):
                self._seal_ahead(run, 1)
            with self._lock:
                if self._ahead:
                    return self._ahead.popleft()
        return None

    def _seal_ahead(self, run: _Run, limit: int) -> int:
        """Claim, seal and store up to ``limit`` letters in one transaction; return how many were due.

        One that cannot be sealed is settled, and counts as carried.
        """
        claims = self._outbox.claim(now=self._clock(), limit=limit)
        try:
            made = [(claim, letter) for claim in claims if (letter := self._prepare(claim, run)) is not None]
            if made:
                new = {claim.letter for claim, _ in made if claim.sealed is None}
                stored = self._outbox.put_on_wire([letter for _, letter in made], newly_sealed=new)
                with self._lock:
                    ready = [*self._ahead, *(one for one in made if one[1].id in stored)]
                    self._ahead = deque(sorted(ready, key=lambda one: one[0].urgency))
        finally:
            self._outbox.release([claim.letter for claim in claims])  # in the file they are on the wire by now
        return len(claims)

    def _prepare(self, claim: Claim, run: _Run) -> Letter | None:
        """Return the letter, sealed; None where there is none to send, which is settled then."""
        if claim.sealed is not None:
            return claim.sealed
        due = tuple(one.address for one in claim.recipients if one.due)
        try:
            return self._seal(claim, due)
        except Exception as error:  # noqa: BLE001 - the raw message stays, and is sealed anew the next time
            fault = str(error) if isinstance(error, _Unsealable) else f"no mail could be made ({where(error)})"
            _log.error("event=seal_failed alert=%r problem=%r", claim.alerts[0].id, fault)
            attempt = failed_attempt(
                due, fault, phase="compose", started_at=utc(self._clock()), possible_duplicate=False
            )
            self._settle(claim, None, attempt)
            run.carried += 1
            return None

    def _put_back(self) -> None:
        """Have those wait again that were sealed ahead and drawn by nobody; no doubt is left on them."""
        with self._lock:
            if not self._ahead:
                return
            left, self._ahead = self._ahead, deque()
        try:
            self._outbox.take_off_wire([letter.id for _, letter in left])
        except OutboxError:
            with self._lock:
                self._ahead.extendleft(reversed(left))
            raise

    def _seal(self, claim: Claim, due: tuple[str, ...]) -> Letter:
        queued = claim.alerts[0]
        if queued.message is None:
            raise _Unsealable("the alert's message is missing from the outbox")
        alert = self._decode(queued.message, alert_id=queued.id)
        if isinstance(alert, Malformed):  # accepted under other limits
            raise _Unsealable(alert.reason)
        sealed = self._composer.seal(alert, directions_of(claim.directions), date=utc(self._clock()))
        return Letter(
            id=claim.letter,
            alert_ids=tuple(one.id for one in claim.alerts),
            route=claim.route,
            subject=sealed.subject,
            message_id=sealed.message_id,
            sender=sealed.sender,
            recipients=due,
            content=sealed.content,
            notes=sealed.notes,
        )

    def _attempts(self, run: _Run, deliver: Deliver) -> Iterator[tuple[Letter, Attempt]]:
        """Yield what came of each letter that was drawn, whatever ``deliver`` does."""
        started_at = utc(self._clock())
        fault = "deliver gave no Attempt for the letter"
        try:
            for letter, attempt in deliver(self._letters(run)):
                if letter.id not in run.under_way or not isinstance(attempt, Attempt):
                    raise TypeError(f"deliver gave a {type(attempt).__name__} for letter {letter.id}")
                yield letter, attempt
        except Exception as error:  # noqa: BLE001 - whatever it is, no letter is lost
            _log.error("event=deliver_failed letters=%s problem=%r", sorted(run.under_way), where(error))
            fault = f"{type(error).__name__}: {error}"[:MAX_FAULT_CHARS]
        for _, letter in list(run.under_way.values()):
            # How far the letter had come is not known, so it may have been taken.
            yield (
                letter,
                failed_attempt(
                    letter.recipients, fault, phase="connect", started_at=started_at, possible_duplicate=True
                ),
            )

    def _settle(self, claim: Claim, letter: Letter | None, attempt: Attempt) -> None:
        settlement = settle(claim, letter, attempt, schedule=self._schedule, base=self._base, now=self._clock())
        try:
            self._store(settlement)
        except OutboxError:
            if letter is not None:  # it was sent: the result is kept until it can be stored
                with self._lock:
                    self._unstored.append(settlement)
            raise

    def _store(self, settlement: Settlement) -> None:
        if not self._outbox.settle(settlement):
            _log.warning("event=settled_meanwhile letter=%d", settlement.letter)
            return
        for report in settlement.reports:
            outcome = report.outcome
            self._count(outcome.event_type)
            _log.info(
                "event=%s alert=%r attempt=%d relay=%s duration_s=%.3f reason=%r",
                outcome.event_type,
                outcome.id,
                outcome.attempts,
                outcome.relay,
                settlement.attempt.duration_s,
                outcome.reason,
            )

    def store_results(self) -> None:
        """Store what attempts have come to and could not be stored then; OutboxError if it still cannot.

        ``carry`` begins with it; who will not call that any more calls this.
        """
        while True:
            with self._lock:
                if not self._unstored:
                    return
                settlement = self._unstored.pop(0)
            try:
                self._store(settlement)
            except BaseException:
                with self._lock:
                    self._unstored.insert(0, settlement)
                raise


class _Unsealable(ValueError):
    """No mail can be made; the text is one sentence for people."""
