"""Letters go to the first relay that can be reached and does not refuse *us*.

What a relay says about the letter itself is final for this attempt: a refused letter is not offered to the next.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from plugin.alert import Attempt, Letter, RecipientOutcome
from plugin.delivery import classify
from plugin.relay.standing import Standings
from plugin.smtp.client import Client, Delivery, Envelope, Settings
from plugin.smtp.stream import Stream

_log = logging.getLogger("hardwire.relay")


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """One relay: where it is, and how it wants to be spoken to."""

    host: str
    port: int
    connect_timeout_s: float
    settings: Settings

    @property
    def name(self) -> str:
        """Return ``host:port``, as outcomes and logs have it."""
        return f"{self.host}:{self.port}"


Connect = Callable[[str, int, float], Stream]
"""(host, port, timeout_s) -> a connected Stream; raises OSError, TimeoutError or ConnectionError."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Drawn:
    """A letter that was drawn, since when, and what relays before this one have said."""

    letter: Letter
    envelope: Envelope
    started_at: datetime
    begun: float
    transcript: list[str] = field(default_factory=list)


class _Feed:
    """The letters as a client draws them: first those that another relay has not taken, then new ones."""

    def __init__(self, letters: Iterable[Letter], now: Callable[[], datetime], clock: Callable[[], float]) -> None:
        self.passed_on: list[_Drawn] = []
        self.open = True  # whether new letters are drawn
        self._source = iter(letters)
        self._now = now
        self._clock = clock
        self._first: deque[_Drawn] = deque()
        self._drawn: dict[int, _Drawn] = {}

    def begin(self) -> bool:
        """Have what was passed on come first; return whether anything was."""
        more = bool(self.passed_on)
        self._first, self.passed_on, self.open = deque(self.passed_on), [], True
        return more

    def __iter__(self) -> Iterator[Envelope]:
        while True:
            drawn = self._first.popleft() if self._first else self._draw()
            if drawn is None:
                return
            self._drawn[id(drawn.envelope)] = drawn
            yield drawn.envelope

    def of(self, envelope: Envelope) -> _Drawn:
        """Return the letter that was drawn as ``envelope``, once."""
        return self._drawn.pop(id(envelope))

    def _draw(self) -> _Drawn | None:
        letter = next(self._source, None) if self.open else None
        if letter is None:
            return None
        envelope = Envelope(
            sender=letter.sender,
            recipients=letter.recipients,
            content=letter.content,
            envid=letter.message_id.strip("<>"),
        )
        return _Drawn(letter=letter, envelope=envelope, started_at=self._now(), begun=self._clock())


class Relays:
    """Delivers letters over one lane; not to be shared by threads. Between deliveries call ``tend``."""

    def __init__(
        self,
        relays: Sequence[Relay],
        connect: Connect,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
        observe: Callable[[str], None] | None = None,
        standings: Standings | None = None,
    ) -> None:
        """``observe`` gets each line of the dialogue; ``standings`` is what the lanes know together."""
        self._relays = tuple(relays)
        # Kept from letter to letter, with what one connection leaves to the next, and the connection itself.
        self._clients = [
            Client(self._way_to(one, connect), one.settings, clock=clock, observe=observe) for one in self._relays
        ]
        self._standings = standings or Standings([one.name for one in self._relays], clock=clock)
        self._now = now
        self._clock = clock

    def deliver(self, letters: Iterable[Letter]) -> Iterator[tuple[Letter, Attempt]]:
        """Try to hand each of ``letters`` over once, and yield what came of it as soon as it is known.

        They are drawn as there is room for them on the way. Never raises for what a server or a network does.
        """
        feed = _Feed(letters, self._now, self._clock)
        order = self._standings.order()
        for position, following in zip(order, [*order[1:], None], strict=True):
            yield from self._by(position, feed, following)
            if not feed.begin():
                return

    def _by(self, position: int, feed: _Feed, following: int | None) -> Iterator[tuple[Letter, Attempt]]:
        relay, client = self._relays[position], self._clients[position]
        for other in self._clients:
            if other is not client:
                other.close()  # a lane has one hardware socket
        refused = False
        for delivery in client.deliver(feed):
            drawn = feed.of(delivery.envelope)
            drawn.transcript.extend(delivery.transcript)
            if delivery.relay_refused:
                if not refused:
                    self._note_refusal(position, delivery)
                refused = True
                if following is not None:
                    feed.open = False
                    drawn.transcript.append(f"= the next relay is tried: {self._relays[following].name}")
                    feed.passed_on.append(drawn)
                    continue
            elif self._standings.worked(position):
                _log.info("event=relay_recovered relay=%s", relay.name)
            yield drawn.letter, self._attempt(relay, drawn, delivery)

    def _note_refusal(self, position: int, delivery: Delivery) -> None:
        name, problem = self._relays[position].name, _words(delivery)
        if self._standings.failed(position, problem):
            _log.warning("event=relay_refused relay=%s phase=%s problem=%r", name, delivery.phase, problem)

    def _attempt(self, relay: Relay, drawn: _Drawn, delivery: Delivery) -> Attempt:
        return Attempt(
            relay=relay.name,
            recipients=_recipients(delivery),
            phase=delivery.phase,
            fault=None if delivery.fault is None else delivery.fault.text,
            greeting=delivery.greeting,
            tls=delivery.tls,
            authenticated=delivery.authenticated,
            possible_duplicate=delivery.possible_duplicate,
            started_at=drawn.started_at,
            duration_s=self._clock() - drawn.begun,
            transcript=tuple(drawn.transcript),
        )

    def greet(self) -> Iterator[tuple[str, str | None, str]]:
        """Speak to each relay up to where a letter could follow; yield its name, the problem or None, and how."""
        for relay, client in zip(self._relays, self._clients, strict=True):
            try:
                greeted = client.greet()
            finally:
                client.close()
            how = f"{greeted.greeting}, {'authenticated' if greeted.authenticated else 'not authenticated'}"
            how += f", {greeted.secured}" if greeted.secured else ", in clear text"
            problem = None
            if greeted.phase is not None:
                problem = f"{greeted.phase}: {greeted.reply or greeted.fault}"
            yield relay.name, problem, how

    def tend(self) -> float | None:
        """Close what was kept long enough; return in how many seconds to look again, None: there is nothing."""
        return min((left_s for one in self._clients if (left_s := one.tend()) is not None), default=None)

    def close(self) -> None:
        """Close the connection that was kept; never raises."""
        for one in self._clients:
            one.close()

    @staticmethod
    def _way_to(relay: Relay, connect: Connect) -> Callable[[], Stream]:
        return lambda: connect(relay.host, relay.port, relay.connect_timeout_s)


def _words(delivery: Delivery) -> str:
    if delivery.reply is not None:
        return f"{delivery.reply.code} {delivery.reply.text}"
    return delivery.fault.text if delivery.fault is not None else "refused"


def _recipients(delivery: Delivery) -> tuple[RecipientOutcome, ...]:
    return tuple(
        RecipientOutcome(
            address=one.address,
            state=classify(one.phase, one.reply or one.fault),
            phase=one.phase,
            code=None if one.reply is None else one.reply.code,
            enhanced=None if one.reply is None else one.reply.enhanced,
            text=one.reply.text if one.reply is not None else one.fault and one.fault.text,
        )
        for one in delivery.recipients
    )
