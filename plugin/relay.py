"""The relays in their order: a letter goes to the first that can be reached and does not refuse *us*.

What a relay says about the letter itself is final for this attempt: a refused letter is not offered to the next.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from plugin.alert import Attempt, Letter, RecipientOutcome
from plugin.delivery import classify
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


class Relays:
    """Delivers letters over one lane; not to be shared by threads."""

    def __init__(
        self,
        relays: Sequence[Relay],
        connect: Connect,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
        observe: Callable[[str], None] | None = None,
        report: Callable[[str | None], None] | None = None,
    ) -> None:
        """``observe`` gets each line of the dialogue, ``report`` the problem with all relays, or None."""
        self._relays = tuple(relays)
        # Kept from letter to letter, for what one connection leaves to the next: the TLS session.
        self._clients = {
            one: Client(self._way_to(one, connect), one.settings, clock=clock, observe=observe)
            for one in self._relays
        }
        self._now = now
        self._clock = clock
        self._report = report

    def deliver(self, letter: Letter) -> Attempt:
        """Try to hand ``letter`` over once; never raises for what a server or a network does."""
        started_at, start = self._now(), self._clock()
        envelope = Envelope(sender=letter.sender, recipients=letter.recipients, content=letter.content)
        transcript: list[str] = []
        relay, *others = self._relays
        delivery = self._hand_over(relay, envelope)
        transcript += delivery.transcript
        while delivery.relay_refused and others:
            _log.warning(
                "event=relay_refused relay=%s phase=%s problem=%r", relay.name, delivery.phase, _words(delivery)
            )
            relay, *others = others
            transcript.append(f"= the next relay is tried: {relay.name}")
            delivery = self._hand_over(relay, envelope)
            transcript += delivery.transcript
        if self._report is not None:
            self._report(f"{relay.name}: {_words(delivery)}" if delivery.relay_refused else None)
        return Attempt(
            relay=relay.name,
            recipients=_recipients(delivery),
            phase=delivery.phase,
            fault=None if delivery.fault is None else delivery.fault.text,
            greeting=delivery.greeting,
            tls=delivery.tls,
            authenticated=delivery.authenticated,
            possible_duplicate=delivery.possible_duplicate,
            started_at=started_at,
            duration_s=self._clock() - start,
            transcript=tuple(transcript),
        )

    def greet(self) -> Iterator[tuple[str, str | None, str]]:
        """Speak to each relay up to where a letter could follow; yield its name, the problem or None, and how."""
        for relay in self._relays:
            client = self._clients[relay]
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

    @staticmethod
    def _way_to(relay: Relay, connect: Connect) -> Callable[[], Stream]:
        return lambda: connect(relay.host, relay.port, relay.connect_timeout_s)

    def _hand_over(self, relay: Relay, envelope: Envelope) -> Delivery:
        client = self._clients[relay]
        try:
            (delivery,) = client.deliver((envelope,))
        finally:
            client.close()
        return delivery


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
