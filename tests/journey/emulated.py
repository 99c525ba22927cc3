"""A journey without a broker: bridge, outbox and relays over the emulated chip, to a mail server on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from email import message_from_bytes
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from plugin.alert import Attempt, Letter, Message, Properties
from plugin.bridge import Bridge
from plugin.compose import Composer
from plugin.delivery import Schedule
from plugin.outbox import Outbox
from plugin.relay import Relay, Relays, Standings
from plugin.route import Route, Routing
from plugin.smtp.settings import Settings, Timeouts
from plugin.uplink import Fixed, Uplink, resolve_literal
from plugin.w5100 import Addressing, Chip
from plugin.w5100.emulator import (
    Emulator,
)
from tests.journey.house import ALICE

BASE: Final = "alerts"
PATIENCE_S: Final = 0.15  # of the mail client, in every phase; a busy machine costs an attempt and no test
ATTEMPTS: Final = 12
LOOK_EVERY_S: Final = 60  # simulated; a relay that is away is probed as often at least
ADDRESSING: Final = Addressing(
    mac=bytes.fromhex("0208dc010203"),
    address=IPv4Address("127.0.0.1"),
    subnet_mask=IPv4Address("255.0.0.0"),
    gateway=IPv4Address(0),
)
TIMEOUTS: Final = Timeouts(
    greeting_s=PATIENCE_S,
    hello_s=PATIENCE_S,
    tls_s=PATIENCE_S,
    auth_s=PATIENCE_S,
    mail_s=PATIENCE_S,
    rcpt_s=PATIENCE_S,
    data_s=PATIENCE_S,
    content_s=PATIENCE_S,
    block_s=PATIENCE_S,
    quit_s=PATIENCE_S,
    letter_s=2.0,
)


class Counting:
    """A Bus that counts the exchanges of the one below."""

    def __init__(self, bus: Emulator) -> None:
        self._bus = bus
        self.exchanges = 0

    def exchange(self, frames: bytes, frame_bytes: int = 4) -> bytes:
        self.exchanges += 1
        return self._bus.exchange(frames, frame_bytes)

    def wait_interrupt(self, timeout_s: float) -> bool:
        return self._bus.wait_interrupt(timeout_s)

    def close(self) -> None:
        self._bus.close()


class Journey:
    """One outbox, one chip, one relay; a clock that only the tests turn decides what is due."""

    def __init__(self, folder: Path, port: int, *, lanes: int = 1) -> None:
        self.emulator = Emulator()
        self.bus = Counting(self.emulator)
        self.chip = Chip(self.bus)
        self.lanes = lanes
        self.uplink = Uplink(self.chip, Fixed(ADDRESSING), lanes=lanes, resolve=resolve_literal)
        self.outbox = Outbox(folder / "outbox.db")
        self.now = 1_800_000_000.0
        composer = Composer(
            sender="House <house@demo.test>",
            templates_dir=None,
            allowed_dirs=(),
            max_attachment_bytes=1_000_000,
            product_version="1",
        )
        self.bridge = Bridge(
            outbox=self.outbox,
            routing=Routing(routes=[Route(topic="#", to=("alice",))], recipients={"alice": ALICE}),
            composer=composer,
            schedule=Schedule(first_s=1, factor=1, longest_s=1, max_age_s=86_400),
            base=BASE,
            payload_bytes=1_000_000,
            queue=1000,
            forbidden_responses=(BASE,),
            clock=lambda: self.now,
        )
        relay = Relay(
            host="127.0.0.1",
            port=port,
            connect_timeout_s=PATIENCE_S,
            settings=Settings(host="127.0.0.1", helo_name="[127.0.0.1]", timeouts=TIMEOUTS),
        )
        standings = Standings([relay.name], clock=lambda: self.now, on_recovery=self.hasten)
        self.couriers = [
            Relays([relay], self.uplink.connect, now=lambda: datetime.now(UTC), standings=standings)
            for _ in range(lanes)
        ]
        self.attempts: list[Attempt] = []
        self._packet_id = 0

    def accept(self, alert_id: str, text: str = "Water in the cellar") -> None:
        self._packet_id += 1
        message = Message(
            topic=f"{BASE}/email/leak",
            payload=json.dumps({"id": alert_id, "title": alert_id, "message": text}).encode(),
            qos=1,
            retain=False,
            dup=False,
            packet_id=self._packet_id,
            connection=1,
            properties=Properties(),
            received_at=datetime.fromtimestamp(self.now, UTC),
        )
        assert self.bridge.accept([message]) == [message]

    def carry(self, lane: int = 0) -> int:
        """Carry what is due; whatever happens on the wire, this must not raise."""

        def deliver(letters: Iterable[Letter]) -> Iterator[tuple[Letter, Attempt]]:
            for letter, attempt in self.couriers[lane].deliver(letters):
                self.attempts.append(attempt)
                yield letter, attempt

        carried = self.bridge.carry(deliver)
        self.couriers[lane].close()  # so that every delivery has a connection of its own
        return carried

    def hasten(self) -> None:
        """What the service does when a relay is well again."""
        self.bridge.hasten()

    def carry_to_the_end(self) -> None:
        """Let time pass and carry until nothing waits."""
        for _ in range(ATTEMPTS):
            if not self.bridge.health().waiting:
                return
            self.now += LOOK_EVERY_S
            self.couriers[0].tend()
            self.carry()
        last = self.attempts[-1]
        raise AssertionError(
            f"not delivered after {ATTEMPTS} attempts: {last.fault}\n" + "\n".join(last.transcript)
        )

    def outcomes(self) -> list[dict[str, Any]]:
        publications = self.bridge.outgoing(1000)
        self.bridge.published([one.id for one in publications])
        return [json.loads(one.payload) for one in publications if one.topic == f"{BASE}/bridge/outcome"]

    def sockets_are_free(self) -> bool:
        """Tell whether the chip still hands out as many sockets as it has lanes."""
        taken = [self.chip.tcp_socket() for _ in range(self.lanes)]
        for one in taken:
            one.close()
        return len({one.number for one in taken}) == self.lanes

    def close(self) -> None:
        self.uplink.close()
        self.outbox.close()


def subjects(mails: Sequence[bytes]) -> dict[str, list[str]]:
    """Return the Message-IDs of the mails of each subject."""
    found: dict[str, list[str]] = {}
    for mail in mails:
        parsed = message_from_bytes(mail)
        found.setdefault(str(parsed["Subject"]), []).append(str(parsed["Message-ID"]))
    return found


def assert_delivered(
    outcomes: Sequence[dict[str, Any]], mails: Sequence[bytes], alert_id: str, where: str
) -> None:
    """One final success; one mail, or more of the same Message-ID where the outcome says that this is possible."""
    mine = [one for one in outcomes if one["id"] == alert_id]
    finals = [one for one in mine if one["event_type"] != "deferred"]
    assert [one["event_type"] for one in finals] == ["success"], where
    assert mine[-1] is finals[0], where
    assert [one["attempts"] for one in mine] == list(range(1, len(mine) + 1)), where
    message_ids = subjects(mails).get(alert_id, [])
    assert message_ids, where
    assert set(message_ids) == {finals[0]["message_id"]}, where
    if len(message_ids) > 1:
        assert finals[0]["possible_duplicate"], where


def exchanges_of_one_delivery(journey: Journey) -> int:
    """Return how many exchanges a delivery has, from a chip that is up; those before it brings the chip up."""
    counts = []
    for alert_id in ("to bring the chip up", "to be counted"):
        journey.accept(alert_id)
        before = journey.bus.exchanges
        journey.carry_to_the_end()
        counts.append(journey.bus.exchanges - before)
    return counts[-1]
