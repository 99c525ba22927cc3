"""``Bridge``: accept, carry, report. No threads, no sockets, no clock of its own."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final, Protocol

from plugin.alert import Alert, Attempt, Letter, Malformed, Message, Outcome
from plugin.bridge.arrival import (
    Arrival,
    Decode,
    Direct,
    directions_json,
    directions_of,
    full,
    outcome_topics,
    read,
    where,
)
from plugin.bridge.history import History
from plugin.bridge.reporting import Reporting
from plugin.bridge.settlement import NextAttempt, failed_attempt, settle, utc
from plugin.compose import Sealed
from plugin.outbox import Claim, Intake, Outbox, OutboxError, Publication, Report, Settlement
from plugin.payload import decode
from plugin.route import Directions

_log = logging.getLogger("hardwire.bridge")

MAX_FAULT_CHARS: Final = 200
COUNTERS: Final = (
    "accepted",
    "repeated",
    "redelivered",
    "rejected",
    "queue_full",
    "retained_ignored",
    "success",
    "failure",
    "deferred",
)


class Seal(Protocol):
    """What ``plugin.compose.Composer`` does."""

    def seal(self, alert: Alert, directions: Directions, *, date: datetime) -> Sealed:
        """Return the mail; whatever an alert says, there is one."""
        ...

    def check_path(self, path: str) -> str | None:
        """Return why a file must not be attached, or None."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How the queue is: letters not settled, the age of the oldest, outcomes the broker has not acknowledged."""

    waiting: int
    oldest_waiting_s: float | None
    unpublished: int


class Bridge:
    """The journey of every alert. All methods may be called from several threads.

    ``clock`` gives seconds since the epoch. A method that touches the outbox raises OutboxError when that cannot
    be used; then nothing has changed and the call may be made again.
    """

    def __init__(
        self,
        *,
        outbox: Outbox,
        routing: Direct,
        composer: Seal,
        schedule: NextAttempt,
        base: str,
        payload_bytes: int,
        queue: int,
        forbidden_responses: Sequence[str],
        clock: Callable[[], float],
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        """``payload_bytes`` and ``queue`` are limits; no response goes below ``forbidden_responses``."""
        self._outbox = outbox
        self._decode: Decode = partial(
            decode, base=base, payload_bytes=payload_bytes, forbidden_responses=forbidden_responses
        )
        self._routing = routing
        self._composer = composer
        self._schedule = schedule
        self._base = base
        self._queue_limit = queue
        self._clock = clock
        self._new_id = new_id
        self._reporting = Reporting(outbox)
        self._history = History(outbox, now=clock())
        self._lock = threading.Lock()  # guards what follows
        self._counters: Counter[str] = Counter()
        self._unstored: list[Settlement] = []

    # --- accepting ------------------------------------------------------------------------------------------

    def accept(self, messages: Sequence[Message]) -> list[Message]:
        """Take in what has arrived together, in one transaction; return what may be acknowledged now.

        That is all of it: queued, answered with a failure, recognised as known, or a retained copy, which is no
        alert. If this raises, nothing may be acknowledged, and the same messages may be given again.
        """
        arrivals = []
        for message in messages:
            if message.retain:
                _log.warning("event=retained_ignored topic=%.200r", message.topic)
                self._count("retained_ignored")
            else:
                arrivals.append(self._read(message))
        if arrivals:
            with self._outbox.intake() as intake:
                results = [self._take_in(intake, arrival) for arrival in arrivals]
            for arrival, result in zip(arrivals, results, strict=True):
                self._count(result)
                _log.info("event=%s alert=%r topic=%.200r", result, arrival.id, arrival.message.topic)
                for warning in arrival.warnings:
                    _log.warning("event=alert_warning alert=%r warning=%.300r", arrival.id, warning)
        return list(messages)

    def session_lost(self) -> None:
        """Forget packet identifiers: the broker has no session for us, so nothing is a redelivery any more."""
        self._outbox.forget_packets()

    def _read(self, message: Message) -> Arrival:
        return read(
            message,
            decode=self._decode,
            routing=self._routing,
            check_path=self._composer.check_path,
            base=self._base,
            alert_id=self._new_id(),
        )

    def _take_in(self, intake: Intake, arrival: Arrival) -> str:
        """Store one arrival and return what it was: accepted, rejected, queue_full, repeated or redelivered."""
        message = arrival.message
        if intake.redelivered(message):
            return "redelivered"
        known = intake.find(arrival.id, arrival.state)
        if known is not None:
            if known.outcome is not None and known.event_type is not None:
                topics = outcome_topics(self._base, known.event_type, known.name)
                intake.answer(known.outcome, topics, arrival.response_topic, arrival.correlation)
            elif arrival.response_topic is not None and not intake.respond(
                known.alert, arrival.response_topic, arrival.correlation
            ):
                _log.warning("event=too_many_responders alert=%r", arrival.id)
            intake.remember(message, known.alert)
            return "repeated"
        received_at = message.received_at.timestamp()
        alert = intake.add(
            alert_id=arrival.id,
            state=arrival.state,
            topic=message.topic,
            name=arrival.name,
            received_at=received_at,
        )
        if arrival.response_topic is not None:
            intake.respond(alert, arrival.response_topic, arrival.correlation)
        intake.remember(message, alert)
        result, failure = "rejected", arrival.failure
        if arrival.directions is not None:
            waiting = intake.letters_open()
            if waiting < self._queue_limit:
                intake.queue(
                    alert,
                    message,
                    route=arrival.directions.route,
                    directions=directions_json(arrival.directions),
                    recipients=arrival.directions.recipients,
                    received_at=received_at,
                    due_at=self._clock(),
                )
                return "accepted"
            result, failure = "queue_full", full(arrival, waiting)
        if failure is not None:
            self._fail_at_once(intake, alert, failure)
        return result

    def _fail_at_once(self, intake: Intake, alert: int, failure: Outcome) -> None:
        now = self._clock()
        outcome = replace(failure, settled_at=utc(now))
        topics = outcome_topics(self._base, outcome.event_type, outcome.name)
        intake.report(Report(alert=alert, outcome=outcome, topics=topics), settled_at=now)

    # --- carrying -------------------------------------------------------------------------------------------

    def recover(self) -> int:
        """Put back what was on the wire when the process ended; to be called once, before ``carry``."""
        letters = self._outbox.recover(now=self._clock())
        if letters:
            _log.warning("event=recovered letters=%d possible_duplicate=true", letters)
        return letters

    def carry(self, deliver: Callable[[Letter], Attempt], *, limit: int = 1) -> int:
        """Carry up to ``limit`` letters that are due, one after the other; return how many there were.

        Each is sealed and stored before the wire is touched, so that every attempt sends the same octets.
        An exception of ``deliver`` puts the letter off. Nothing is sent while a result cannot be stored.
        """
        self.store_results()
        claims = self._outbox.claim(now=self._clock(), limit=limit)
        try:
            for claim in claims:
                self._carry(claim, deliver)
        finally:
            # A letter whose result waits to be stored is marked as on the wire, so nobody can claim it anew.
            self._outbox.release([claim.letter for claim in claims])
        self._history.prune_now_and_then(self._clock())
        return len(claims)

    def next_due_in(self) -> float | None:
        """Return in how many seconds there is something to carry, 0 for now; None: nothing waits."""
        with self._lock:
            if self._unstored:
                return 0.0
        due_at = self._outbox.next_due()
        return None if due_at is None else max(0.0, due_at - self._clock())

    def _carry(self, claim: Claim, deliver: Callable[[Letter], Attempt]) -> None:
        due = tuple(one.address for one in claim.recipients if one.due)
        letter = claim.sealed
        if letter is None:
            try:
                letter = self._seal(claim, due)
            except Exception as error:  # noqa: BLE001 - the raw message stays, and is sealed anew the next time
                fault = str(error) if isinstance(error, _Unsealable) else f"no mail could be made ({where(error)})"
                _log.error("event=seal_failed alert=%r problem=%r", claim.alerts[0].id, fault)
                attempt = failed_attempt(
                    due, fault, phase="compose", started_at=utc(self._clock()), possible_duplicate=False
                )
                self._settle(claim, None, attempt)
                return
        if not self._outbox.put_on_wire(letter, newly_sealed=claim.sealed is None):
            return
        self._settle(claim, letter, self._attempt(letter, deliver))

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

    def _attempt(self, letter: Letter, deliver: Callable[[Letter], Attempt]) -> Attempt:
        started_at = utc(self._clock())
        try:
            attempt = deliver(letter)
            if not isinstance(attempt, Attempt):
                raise TypeError(f"deliver gave a {type(attempt).__name__}, not an Attempt")
        except Exception as error:  # noqa: BLE001 - whatever it is, the letter is not lost
            _log.error("event=deliver_failed letter=%d problem=%r", letter.id, where(error))
            # How far the letter had come is not known, so it may have been taken.
            return failed_attempt(
                letter.recipients,
                f"{type(error).__name__}: {error}"[:MAX_FAULT_CHARS],
                phase="connect",
                started_at=started_at,
                possible_duplicate=True,
            )
        return attempt

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

    # --- reporting ------------------------------------------------------------------------------------------

    def outgoing(self, limit: int) -> list[Publication]:
        """Return what is to be published now, in order; never more than ``limit`` are in flight.

        What was returned is in flight until ``published`` or ``forget_in_flight``.
        """
        return self._reporting.outgoing(limit)

    def published(self, ids: Sequence[int]) -> None:
        """Note that the broker has acknowledged these publications: they are never published again.

        Does not raise: what cannot be stored now is remembered, and stored with the next call that can.
        """
        self._reporting.published(ids)

    def forget_in_flight(self) -> None:
        """Publish what is in flight again: the client that had it is gone and took it along."""
        self._reporting.forget_in_flight()

    # --- looking --------------------------------------------------------------------------------------------

    def health(self) -> Health:
        """Return how the queue is."""
        depth = self._outbox.depth()
        oldest = depth.oldest_received_at
        return Health(
            waiting=depth.waiting,
            oldest_waiting_s=None if oldest is None else round(max(0.0, self._clock() - oldest), 3),
            unpublished=depth.unpublished,
        )

    def counters(self) -> dict[str, int]:
        """Return what happened since the start, by name; names that never happened are 0."""
        with self._lock:
            return {name: self._counters[name] for name in COUNTERS}

    def _count(self, name: str) -> None:
        with self._lock:
            self._counters[name] += 1


class _Unsealable(ValueError):
    """No mail can be made; the text is one sentence for people."""
