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
from plugin.delivery import cause, classify, wants_new_connection
from plugin.relay.standing import Standings
from plugin.smtp.client import Client, Delivery, Envelope, Greeted, Settings
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


@dataclass(slots=True, kw_only=True, eq=False)
class _Drawn:
    """A letter that was drawn, since when, what other relays have said, and the turn that it has at this one."""

    letter: Letter
    envelope: Envelope
    started_at: datetime
    begun: float
    turn: int = 0
    transcript: list[str] = field(default_factory=list)


class _Feed:
    """The letters as a client draws them: first those that another relay has not taken, then new ones.

    A relay that is held back gets no new ones before its turn.
    """

    def __init__(
        self,
        letters: Iterable[Letter],
        standings: Standings,
        now: Callable[[], datetime],
        clock: Callable[[], float],
    ) -> None:
        self.passed_on: list[_Drawn] = []
        self.open = True  # whether new letters are drawn
        self.position = 0  # of the relay that draws
        self._source = iter(letters)
        self._standings = standings
        self._now = now
        self._clock = clock
        self._drawn: dict[int, _Drawn] = {}
        first = self._draw()
        self._first: deque[_Drawn] = deque([] if first is None else [first])

    @property
    def waits(self) -> bool:
        """Whether there is a letter that no relay has had yet."""
        return bool(self._first)

    def begin(self, position: int) -> bool:
        """Have what was passed on come first, to the relay at ``position``; return whether there is anything."""
        self.position, self.open = position, True
        self._first.extend(self.passed_on)
        self.passed_on = []
        return bool(self._first)

    def __iter__(self) -> Iterator[Envelope]:
        while True:
            drawn = self._first.popleft() if self._first else None
            if drawn is None and self.open and not self._standings.held_back(self.position):
                drawn = self._draw()
            if drawn is None:
                return
            drawn.turn = self._standings.take(self.position)
            self._drawn[id(drawn.envelope)] = drawn
            yield drawn.envelope

    def of(self, envelope: Envelope) -> _Drawn:
        """Return the letter that was drawn as ``envelope``, once."""
        return self._drawn.pop(id(envelope))

    def _draw(self) -> _Drawn | None:
        letter = next(self._source, None)
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

        They are drawn as there is room for them on the way; none while all relays are held back (``ready_in``).
        Never raises for what a server or a network does.
        """
        if self._standings.ready_in():
            return
        feed = _Feed(letters, self._standings, self._now, self._clock)
        if not feed.waits:
            return  # a relay is on trial only with a letter at hand
        order = self._standings.order()
        for position, following in zip(order, [*order[1:], None], strict=True):
            if not feed.begin(position):
                return
            yield from self._by(position, feed, following)

    def _by(self, position: int, feed: _Feed, following: int | None) -> Iterator[tuple[Letter, Attempt]]:
        relay, client = self._relays[position], self._clients[position]
        for other in self._clients:
            if other is not client:
                other.close()  # a lane has one hardware socket
        refused, anew = False, False
        for delivery in client.deliver(feed):
            drawn = feed.of(delivery.envelope)
            drawn.transcript.extend(delivery.transcript)
            recipients = _recipients(delivery)
            if not refused:
                self._learn(position, delivery, recipients, drawn.turn)
            if delivery.relay_refused:
                refused = True
                # A relay that is busy may take the next letter; one that is away takes none of those that are due.
                feed.open = following is None and not self._standings.held_back(position)
                if following is not None:
                    drawn.transcript.append(f"= the next relay is tried: {self._relays[following].name}")
                    feed.passed_on.append(drawn)
                    continue
            elif any(map(wants_new_connection, recipients)):
                anew, feed.open = True, False
            yield drawn.letter, self._attempt(relay, drawn, delivery, recipients)
        if anew:
            client.close()

    def _learn(self, position: int, delivery: Delivery, recipients: Sequence[RecipientOutcome], turn: int) -> None:
        """Tell the standings what the fate of one letter says about the relay."""
        standings, problem = self._standings, _words(delivery)
        put_off = [one for one in recipients if one.state == "deferred"]
        accepted = any(one.state == "accepted" for one in recipients)
        causes = {cause(one) for one in put_off}
        news = False
        if not delivery.relay_refused:
            news = standings.worked(position, taken=turn if accepted else None)
        slowed = False
        if accepted:
            put_off = []
        elif "limited" in causes:
            slowed = standings.limited(position, problem, taken=turn)
        elif "busy" in causes:
            slowed = standings.busy(position, problem, taken=turn)
        elif delivery.relay_refused:
            if standings.failed(position, problem, probe="unreachable" in causes):
                self._warn("relay_refused", position, delivery, problem)
        elif put_off and put_off[0].code is not None:
            reply = (put_off[0].phase, put_off[0].code, put_off[0].enhanced)
            slowed = standings.put_off(position, problem, reply=reply, taken=turn)
        if slowed:
            self._warn("relay_slowed", position, delivery, problem)
        elif news:
            _log.info("event=relay_recovered relay=%s", self._relays[position].name)

    def _warn(self, event: str, position: int, delivery: Delivery, problem: str) -> None:
        name = self._relays[position].name
        _log.warning("event=%s relay=%s phase=%s problem=%r", event, name, delivery.phase, problem)

    def _attempt(
        self, relay: Relay, drawn: _Drawn, delivery: Delivery, recipients: tuple[RecipientOutcome, ...]
    ) -> Attempt:
        return Attempt(
            relay=relay.name,
            recipients=recipients,
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
        """Close what was kept long enough, and probe a relay that is away, where that is due and this lane's turn.

        Returns in how many seconds to look again, None: there is nothing. A probe takes as long as a connection.
        """
        position = self._standings.take_probe()
        if position is not None:
            self._probe(position)
        waits_s = [*(one.tend() for one in self._clients), self._standings.probe_in()]
        return min((left_s for left_s in waits_s if left_s is not None), default=None)

    def knows_more(self) -> bool:
        """Tell whether ``deliver`` will yield what came of another letter without a wait."""
        return any(one.knows_more for one in self._clients)

    def ready_in(self) -> float:
        """Return in how many seconds there is a relay that letters may be offered to, 0 for now."""
        return self._standings.ready_in()

    def _probe(self, position: int) -> None:
        """Find out whether a relay can be reached again; the connection is kept for the letters that wait."""
        for other in self._clients:
            other.close()
        greeted = self._clients[position].greet()
        if greeted.phase is None:
            self._standings.worked(position)
            _log.info("event=relay_recovered relay=%s", self._relays[position].name)
        else:
            self._standings.failed(position, _words(greeted), letter=False)

    def close(self) -> None:
        """Close the connection that was kept; never raises."""
        for one in self._clients:
            one.close()

    @staticmethod
    def _way_to(relay: Relay, connect: Connect) -> Callable[[], Stream]:
        return lambda: connect(relay.host, relay.port, relay.connect_timeout_s)


def _words(delivery: Delivery | Greeted) -> str:
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
