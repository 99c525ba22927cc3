"""``Bridge``: accept, carry, report. No threads, no sockets, no clock of its own."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Final

from plugin.alert import Message, Outcome
from plugin.bridge.arrival import (
    Arrival,
    Decode,
    Direct,
    directions_json,
    full,
    held_back,
    outcome_topics,
    read,
)
from plugin.bridge.carrying import Carrier, Deliver, Seal
from plugin.bridge.rates import Rates
from plugin.bridge.reporting import Reporting
from plugin.bridge.settlement import NextAttempt, dropped, utc
from plugin.outbox import Intake, Outbox, Publication, Report
from plugin.payload import MAX_ATTACHMENTS, decode

_log = logging.getLogger("hardwire.bridge")

HASTEN_S: Final = 2.0
DROP_STEP: Final = 200  # letters given up in one transaction
MAX_QUEUE_BYTES: Final = 2**40
COUNTERS: Final = (
    "accepted",
    "repeated",
    "redelivered",
    "rejected",
    "queue_full",
    "retained_ignored",
    "held_back",
    "success",
    "failure",
    "deferred",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How the queue is: letters not settled, the age of the oldest, outcomes the broker has not acknowledged."""

    waiting: int
    oldest_waiting_s: float | None
    unpublished: int


class Bridge:
    """The journey of every alert. All methods may be called from several threads.

    ``clock`` gives seconds by which letters wait (``SteadyClock``), ``date`` what people call a moment of it. A
    method that touches the outbox raises OutboxError when that cannot be used; then nothing has changed and the
    call may be made again.
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
        queue_bytes: int = MAX_QUEUE_BYTES,
        max_attachments: int = MAX_ATTACHMENTS,
        attachments_bytes: int | None = None,
        rates: Mapping[str, int] | None = None,
        forbidden_responses: Sequence[str],
        clock: Callable[[], float],
        date: Callable[[float], datetime] = utc,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        """``payload_bytes`` to ``attachments_bytes`` are limits, ``rates`` mails a minute by a route's filter.

        No response goes below ``forbidden_responses``.
        """
        self._outbox = outbox
        self._decode: Decode = partial(
            decode,
            base=base,
            payload_bytes=payload_bytes,
            forbidden_responses=forbidden_responses,
            max_attachments=max_attachments,
            attachments_bytes=attachments_bytes,
        )
        self._routing = routing
        self._composer = composer
        self._base = base
        self._queue_limit = queue
        self._queue_bytes = queue_bytes
        self._rates = Rates(rates or {})
        self._clock = clock
        self._date = date
        self._new_id = new_id
        self._reporting = Reporting(outbox)
        self._carrier = Carrier(
            outbox=outbox,
            decode=self._decode,
            composer=composer,
            schedule=schedule,
            base=base,
            clock=clock,
            date=date,
            count=self._count,
        )
        self._lock = threading.Lock()  # guards what follows
        self._counters: Counter[str] = Counter()

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
            with self._rates.tentatively(), self._outbox.intake() as intake:
                results = [self._take_in(intake, arrival) for arrival in arrivals]
            for arrival, result in zip(arrivals, results, strict=True):
                self._count(result)
                if result == "held_back":
                    self._count("accepted")
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
        """Store one arrival; return accepted, held_back, rejected, queue_full, repeated or redelivered."""
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
            failure = full(
                arrival,
                waiting=intake.letters_open(),
                stored_bytes=intake.stored_bytes(),
                queue=self._queue_limit,
                queue_bytes=self._queue_bytes,
            )
            if failure is None:
                route, now = arrival.directions.route, self._clock()
                due_at = self._rates.due_at(route, now)
                intake.queue(
                    alert,
                    message,
                    route=arrival.directions.route,
                    directions=directions_json(arrival.directions),
                    recipients=arrival.directions.recipients,
                    received_at=now,
                    due_at=due_at,
                    severity=arrival.directions.severity,
                )
                if due_at > now:
                    outcome = held_back(arrival, rate=self._rates.per_minute[route], due_at=self._date(due_at))
                    topics = outcome_topics(self._base, outcome.event_type, outcome.name)
                    intake.tell(Report(alert=alert, outcome=outcome, topics=topics))
                    return "held_back"
                return "accepted"
            result = "queue_full"
        if failure is not None:
            self._fail_at_once(intake, alert, failure)
        return result

    def _fail_at_once(self, intake: Intake, alert: int, failure: Outcome) -> None:
        now = self._clock()
        outcome = replace(failure, settled_at=self._date(now))
        topics = outcome_topics(self._base, outcome.event_type, outcome.name)
        intake.report(Report(alert=alert, outcome=outcome, topics=topics), settled_at=now)

    # --- carrying -------------------------------------------------------------------------------------------

    def recover(self) -> int:
        """Put back what was on the wire when the process ended; to be called once, before ``carry``."""
        letters = self._outbox.recover(now=self._clock())
        for route, rate in self._rates.per_minute.items():
            self._rates.recall(route, self._outbox.latest_due(route, rate))
        if letters:
            _log.warning("event=recovered letters=%d possible_duplicate=true", letters)
        return letters

    def carry(
        self,
        deliver: Deliver,
        *,
        limit: int = 1,
        stop: Callable[[], bool] = lambda: False,
        more: Callable[[], bool] = lambda: False,
    ) -> int:
        """Carry up to ``limit`` letters that are due; return how many there were. See ``Carrier.carry``."""
        return self._carrier.carry(deliver, limit=limit, stop=stop, more=more)

    def next_due_in(self) -> float | None:
        """Return in how many seconds there is something to carry, 0 for now; None: nothing waits."""
        return self._carrier.next_due_in()

    def store_results(self) -> None:
        """Store what attempts have come to and could not be stored then; OutboxError if it still cannot.

        ``carry`` begins with it; who will not call that any more calls this.
        """
        self._carrier.store_results()

    def hasten(self) -> int:
        """Have due now what a relay has put off that has just recovered; return how many letters there were.

        Many are spread over HASTEN_S: one after the other, the most severe and the oldest first.
        """
        return self._outbox.hasten(self._clock(), spread_s=HASTEN_S)

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

    # --- by request -----------------------------------------------------------------------------------------

    def retry(self, letters: Collection[int] | None) -> int:
        """Have letters that failed go out again, None for all; return how many. See ``Outbox.retry``."""
        return self._outbox.retry(letters, now=self._clock())

    def drop(self, letters: Collection[int] | None) -> int:
        """Give up letters that wait, None for all; each alert ends in a failure. Return how many there were."""
        now, count = self._clock(), 0
        while ended := self._outbox.drop(
            letters, partial(dropped, base=self._base, now=now, date=self._date), limit=DROP_STEP
        ):
            count += len(ended)
            for report in (report for one in ended for report in one.reports):
                self._count(report.outcome.event_type)
                _log.info("event=dropped alert=%r", report.outcome.id)
        return count

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

    def totals(self) -> dict[str, Any]:
        """Return what alerts have come to since the outbox is there, by event type, and which was the last."""
        return self._outbox.totals()

    def _count(self, name: str) -> None:
        with self._lock:
            self._counters[name] += 1
