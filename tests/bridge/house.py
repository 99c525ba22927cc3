"""A house around the bridge: fakes for what composes and delivers, a clock to turn, a broker that remembers."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plugin.alert import Alert, Attempt, Letter, Message, Phase, Properties, RecipientOutcome, RecipientState
from plugin.bridge import Bridge
from plugin.compose import Sealed
from plugin.delivery import Schedule
from plugin.outbox import Outbox, Publication
from plugin.route import Directions, Route, Routing

START = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
ALICE, BOB, CAROL = "alice@example.net", "bob@example.net", "carol@example.net"


class Clock:
    def __init__(self) -> None:
        self.now = START.timestamp()

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds

    @property
    def datetime(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)


class Composer:
    """Seals in a way that shows what was sealed, and when; fails on demand."""

    def __init__(self) -> None:
        self.sealed = 0
        self.error: Exception | None = None
        self.notes: tuple[str, ...] = ()

    def seal(self, alert: Alert, directions: Directions, *, date: datetime) -> Sealed:
        if self.error is not None:
            raise self.error
        self.sealed += 1
        content = f"{alert.id}|{alert.message}|{date.isoformat()}|{self.sealed}|{','.join(directions.recipients)}"
        return Sealed(
            subject=alert.title or alert.name,
            message_id=f"<{alert.id}.{alert.state}.{self.sealed}@example.net>",
            sender="house@example.net",
            content=content.encode(),
            notes=self.notes,
        )

    def check_path(self, path: str) -> str | None:
        return None if path.startswith("/allowed/") else "the file lies outside attachments.allowed_dirs"


def fate(
    address: str, state: RecipientState, phase: Phase = "rcpt", code: int = 0, text: str = ""
) -> RecipientOutcome:
    defaults = {"accepted": (250, "Ok"), "refused": (550, "No such user"), "deferred": (451, "Greylisted")}
    usual_code, usual_text = defaults[state]
    return RecipientOutcome(
        address=address,
        state=state,
        phase="content" if state == "accepted" else phase,
        code=code or usual_code,
        text=text or usual_text,
    )


@dataclass
class Relay:
    """A relay that answers as told: per address a list of states, the last one for ever; default accepted."""

    clock: Clock
    plan: dict[str, list[RecipientState]] = field(default_factory=dict)
    letters: list[Letter] = field(default_factory=list)
    error: Exception | None = None
    possible_duplicate: bool = False
    around: Callable[[str], None] = lambda step: None

    def deliver(self, letters: Iterable[Letter]) -> Iterator[tuple[Letter, Attempt]]:
        for letter in letters:
            yield letter, self.attempt(letter)

    def attempt(self, letter: Letter) -> Attempt:
        self.around("before the mail")
        self.letters.append(letter)
        self.around("after the mail")
        if self.error is not None:
            raise self.error
        recipients = tuple(fate(address, self._state(address)) for address in letter.recipients)
        return Attempt(
            relay="smtp.example.net:25",
            recipients=recipients,
            phase=recipients[-1].phase,
            greeting="EHLO",
            possible_duplicate=self.possible_duplicate,
            started_at=self.clock.datetime,
            duration_s=0.2,
            transcript=("S: 220 smtp.example.net", "C: EHLO house"),
        )

    def _state(self, address: str) -> RecipientState:
        states = self.plan.get(address, ["accepted"])
        return states.pop(0) if len(states) > 1 else states[0]


ROUTES = (
    Route(topic="both/#", to=("alice", "bob")),
    Route(topic="three/#", to=("alice", "bob", "carol")),
    Route(topic="#", to=("alice",)),
)
RECIPIENTS = {"alice": ALICE, "bob": BOB, "carol": CAROL}


def routing() -> Routing:
    return Routing(routes=ROUTES, recipients=RECIPIENTS)


class House:
    """Everything around one outbox file. ``restart`` is what a crash and a new start leave."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock | None = None,
        factory: type[sqlite3.Connection] = sqlite3.Connection,
        queue: int = 1000,
        routing: Any = None,
        schedule: Schedule | None = None,
        **limits: Any,
    ) -> None:
        self.path = path
        self.clock = clock or Clock()
        self.composer = Composer()
        self.relay = Relay(self.clock)
        self.outbox = Outbox(path, factory=factory)
        self._ids: Iterator[int] = iter(range(10**6))
        self.bridge = Bridge(
            outbox=self.outbox,
            routing=routing or Routing(routes=ROUTES, recipients=RECIPIENTS),
            composer=self.composer,
            schedule=schedule or Schedule(first_s=10, factor=2, longest_s=900, max_age_s=86_400),
            base="alerts",
            payload_bytes=10_000,
            queue=queue,
            forbidden_responses=("alerts", "homeassistant"),
            clock=self.clock,
            new_id=lambda: f"new-{path.parent.name}-{next(self._ids)}",
            **limits,
        )

    def message(self, payload: Any = "Water!", name: str = "water_leak", **fields: Any) -> Message:
        given: dict[str, Any] = {
            "topic": f"alerts/email/{name}",
            "payload": json.dumps(payload).encode() if isinstance(payload, dict) else str(payload).encode(),
            "qos": 1,
            "retain": False,
            "dup": False,
            "packet_id": 1,
            "connection": 1,
            "properties": Properties(),
            "received_at": self.clock.datetime,
        }
        return Message(**{**given, **fields})

    def accept(self, payload: Any = "Water!", name: str = "water_leak", **fields: Any) -> Message:
        message = self.message(payload, name, **fields)
        assert self.bridge.accept([message]) == [message]
        return message

    def carry(self) -> int:
        return self.bridge.carry(self.relay.deliver)

    def publish(self, limit: int = 1000) -> list[Publication]:
        """Play the broker: take everything and acknowledge it."""
        publications = self.bridge.outgoing(limit)
        self.bridge.published([one.id for one in publications])
        return publications

    def outcomes(self) -> list[dict[str, Any]]:
        """Publish, and return what came on the topic of all outcomes."""
        return [json.loads(one.payload) for one in self.publish() if one.topic == "alerts/bridge/outcome"]

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.outbox._database.reading() as db:
            return [tuple(row) for row in db.execute(query, values)]


def topics(publications: Sequence[Publication]) -> list[str]:
    return [one.topic for one in publications]
