"""The journey with the wire and the chip failing at every exchange in turn: nothing is lost, or sent twice unsaid.

Real are bridge, outbox, routing, composer, relays, uplink, driver, emulator, and an SMTP server on loopback.
A fault may cost attempts; when it is over, further calls of ``carry`` deliver.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Final

import pytest

from plugin.demo.mailserver import MailServer
from plugin.w5100.emulator import (
    ChipReset,
    ExchangeError,
    Fault,
    FlippedBit,
    HeldStatus,
    StuckBus,
    StuckCommand,
    UnansweredSend,
)
from plugin.w5100.registers import Status
from tests.journey.emulated import (
    LOOK_EVERY_S,
    PATIENCE_S,
    Journey,
    assert_delivered,
    exchanges_of_one_delivery,
)
from tests.journey.house import mail_server


@pytest.fixture(scope="module")
def server() -> Iterator[MailServer]:
    with mail_server() as running:
        yield running


@pytest.fixture
def journey(tmp_path: Path, server: MailServer) -> Iterator[Journey]:
    one = Journey(tmp_path, server.port)
    yield one
    one.close()


@pytest.fixture(autouse=True)
def quiet_and_quick(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.CRITICAL)  # hundreds of failures on order
    monkeypatch.setattr("plugin.smtp.connection.LAST_WORDS_S", PATIENCE_S)


# Each kind: the fault that begins at exchange n; and every how many exchanges, for what has to be waited out.
Make = Callable[[int], Fault]
SWEEPS: Final[dict[str, tuple[Make, int]]] = {
    "EIO": (lambda n: ExchangeError(first_exchange=n), 1),
    "EIO after the frames were carried out": (lambda n: ExchangeError(first_exchange=n, chip_hears=True), 1),
    "three EIO": (lambda n: ExchangeError(first_exchange=n, exchanges=3), 2),
    "MISO stuck at 0, the chip hears": (lambda n: StuckBus(first_exchange=n, exchanges=1, chip_hears=True), 1),
    "MISO stuck at 1, nothing is heard": (lambda n: StuckBus(first_exchange=n, exchanges=2, octet=0xFF), 1),
    "MISO stuck for ten": (lambda n: StuckBus(first_exchange=n, exchanges=10), 3),
    "a flipped bit in an echo": (lambda n: FlippedBit(first_exchange=n, octet=2, bit=1), 1),
    "a flipped opcode": (lambda n: FlippedBit(first_exchange=n, octet=0, bit=3, heard=True), 1),
    "the chip resets itself": (lambda n: ChipReset(first_exchange=n), 1),
    "the chip is held in reset": (lambda n: ChipReset(first_exchange=n, exchanges=4, answers=False), 2),
    "a command is never taken": (lambda n: StuckCommand(first_exchange=n, exchanges=20), 5),
}


@pytest.mark.parametrize("kind", SWEEPS)
def test_a_fault_at_every_exchange_of_a_delivery(journey: Journey, server: MailServer, kind: str) -> None:
    make, stride = SWEEPS[kind]
    count = exchanges_of_one_delivery(journey)
    assert count > 20
    journey.outcomes()
    mails_before = len(server.mails)
    retried = 0
    for n in range(1, count + 1, stride):
        alert_id = f"{kind} {n}"
        journey.accept(alert_id)
        journey.emulator.inject(make(n))
        journey.now += 2
        assert journey.carry() == 1
        journey.emulator.clear_faults()
        journey.carry_to_the_end()
        outcomes = journey.outcomes()
        mails = server.mails[mails_before:]
        assert_delivered(outcomes, mails, alert_id, alert_id)
        retried += len(outcomes) > 1
        assert journey.sockets_are_free(), alert_id
        assert journey.bridge.health().waiting == 0
    assert journey.uplink.problem is None
    assert retried > 1, "the faults have hardly met anything"


# What one flipped data bit says cannot be told from what the chip meant: a reply may read as another one, and a
# mail may be changed. But never is an alert lost without an outcome, and nothing may hang or leak.
@pytest.mark.parametrize("heard", [False, True], ids=["received", "heard"])
@pytest.mark.parametrize("bit", [0, 6])
def test_a_flipped_data_bit_at_every_exchange(journey: Journey, server: MailServer, heard: bool, bit: int) -> None:
    count = exchanges_of_one_delivery(journey)
    journey.outcomes()
    for n in range(1 + bit // 6, count + 1, 2):
        alert_id = f"data bit {bit} {heard} {n}"
        journey.accept(alert_id)
        mails_before = len(server.mails)
        # A different frame of each exchange: its first ones are mostly interrupts to clear.
        journey.emulator.inject(FlippedBit(first_exchange=n, frame=1 + n % 5, bit=bit, heard=heard))
        journey.now += 2
        assert journey.carry() == 1
        journey.emulator.clear_faults()
        journey.carry_to_the_end()
        outcomes = journey.outcomes()
        (final,) = [one for one in outcomes if one["event_type"] != "deferred"]
        if final["event_type"] == "success":
            assert len(server.mails) > mails_before, alert_id
        else:
            assert final["reason"], alert_id
            assert final["recipients"][0]["code"] is not None, f"{alert_id}: refused, but by whom? {final}"
        assert journey.sockets_are_free(), alert_id


# ESTABLISHED is not among them: a chip that claims it whatever happens cannot be told from one that is connected.
@pytest.mark.parametrize("status", [Status.SYNSENT, Status.FIN_WAIT, Status.CLOSED])
def test_a_status_that_stays(journey: Journey, server: MailServer, status: Status) -> None:
    count = exchanges_of_one_delivery(journey)
    journey.outcomes()
    mails_before = len(server.mails)
    for n in range(1, count + 1, count // 6):
        alert_id = f"{status.name} {n}"
        journey.accept(alert_id)
        journey.emulator.inject(HeldStatus(first_exchange=n, status=status))
        journey.now += 2
        assert journey.carry() == 1
        journey.emulator.clear_faults()
        journey.carry_to_the_end()
        assert_delivered(journey.outcomes(), server.mails[mails_before:], alert_id, alert_id)
        assert journey.sockets_are_free(), alert_id


def test_a_send_that_is_never_done(journey: Journey, server: MailServer) -> None:
    """Erratum 1 of the chip, at each of the sends of a delivery in turn."""
    count = exchanges_of_one_delivery(journey)
    journey.outcomes()
    mails_before = len(server.mails)
    phases = set()
    for n in range(1, count + 1, 2):
        alert_id = f"no SEND_OK {n}"
        journey.accept(alert_id)
        journey.emulator.inject(UnansweredSend(first_exchange=n))
        journey.now += 2
        assert journey.carry() == 1
        phases.add(journey.attempts[-1].phase)
        journey.emulator.clear_faults()
        journey.carry_to_the_end()
        assert_delivered(journey.outcomes(), server.mails[mails_before:], alert_id, alert_id)
        assert journey.sockets_are_free(), alert_id
    assert {"hello", "mail", "rcpt", "data", "content"} <= phases


def test_a_large_mail_with_faults_all_along(journey: Journey, server: MailServer) -> None:
    """Many rings of content: a fault in the middle must not leave a mail that is cut off or mixed up."""
    text = "\n".join(f"line {n} of a long report" for n in range(2500))
    journey.accept("unharmed", text)
    journey.carry_to_the_end()  # brings the chip up
    journey.accept("counted", text)
    before = journey.bus.exchanges
    journey.carry_to_the_end()
    exchanges = journey.bus.exchanges - before
    journey.outcomes()
    journey.accept("large", text)
    mails_before = len(server.mails)
    faults = (
        ExchangeError(first_exchange=exchanges * 7 // 10),
        StuckBus(first_exchange=exchanges * 7 // 10, exchanges=2, chip_hears=True),
        ChipReset(first_exchange=exchanges * 8 // 10),
        FlippedBit(first_exchange=exchanges // 2, octet=1, bit=0),
        UnansweredSend(first_exchange=exchanges * 6 // 10),
    )
    for fault in faults:
        journey.emulator.inject(fault)
        journey.now += 2
        assert journey.carry() == 1
        journey.emulator.clear_faults()
    journey.carry_to_the_end()
    outcomes = journey.outcomes()
    assert len(outcomes) > len(faults)
    mails = server.mails[mails_before:]
    assert_delivered(outcomes, mails, "large", "large")
    for mail in mails:
        body = message_from_bytes(mail)
        plain = next(part for part in body.walk() if part.get_content_type() == "text/plain")
        content = plain.get_payload(decode=True)
        assert isinstance(content, bytes)
        assert content.decode().replace("\r\n", "\n").count(text) == 1


def test_a_broken_bus_is_told_and_forgotten_when_it_works_again(journey: Journey, server: MailServer) -> None:
    journey.accept("one")
    journey.emulator.inject(ExchangeError(exchanges=None))
    for _ in range(3):
        journey.now += LOOK_EVERY_S
        assert journey.carry() == 1
        assert "Input/output error" in (journey.uplink.problem or "")
        assert journey.attempts[-1].phase == "connect"
        assert not journey.attempts[-1].possible_duplicate
    journey.emulator.clear_faults()
    journey.carry_to_the_end()
    assert journey.uplink.problem is None
    outcomes = journey.outcomes()
    assert [one["event_type"] for one in outcomes] == ["deferred"] * 3 + ["success"]
    assert outcomes[-1]["possible_duplicate"] is False


def test_one_flipped_bit_does_not_cost_the_other_lanes_their_connections(
    tmp_path: Path, server: MailServer
) -> None:
    journey = Journey(tmp_path, server.port, lanes=2)
    try:
        first = journey.uplink.connect("127.0.0.1", server.port, 5)
        # The first octet of the gateway's address, as it is read back before the next connection.
        journey.emulator.inject(FlippedBit(first_exchange=1, frame=1, octet=3))
        second = journey.uplink.connect("127.0.0.1", server.port, 5)
        assert first.receive(100, timeout_s=5).startswith(b"220 ")
        assert second.receive(100, timeout_s=5).startswith(b"220 ")
        first.close()
        second.close()
    finally:
        journey.close()


def test_two_lanes_and_a_chip_that_resets_itself(tmp_path: Path, server: MailServer) -> None:
    """A reset under both lanes at once: each notices, one sets the chip up anew, all mails arrive."""
    journey = Journey(tmp_path, server.port, lanes=2)
    mails_before = len(server.mails)
    names = [f"lane {n}" for n in range(16)]
    for name in names:
        journey.accept(name)
    died: list[BaseException] = []

    def courier(lane: int) -> None:
        try:
            while journey.bridge.health().waiting:
                journey.now += 1
                journey.carry(lane)
        except BaseException as error:
            died.append(error)
            raise

    for n in range(60, 600, 90):
        journey.emulator.inject(ChipReset(first_exchange=n))
    threads = [threading.Thread(target=courier, args=(lane,)) for lane in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert died == []
    outcomes = journey.outcomes()
    for name in names:
        assert_delivered(outcomes, server.mails[mails_before:], name, name)
    assert any(one["event_type"] == "deferred" for one in outcomes), "no reset has met a connection"
    assert journey.sockets_are_free()
    journey.close()


@pytest.mark.parametrize("after", [b"", b"220 here\r\n"], ids=["at once", "after the greeting"])
def test_a_relay_that_falls_silent_costs_only_its_time(tmp_path: Path, after: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        journey = Journey(tmp_path, listener.getsockname()[1])
        journey.accept("one")
        held: list[socket.socket] = []

        def serve() -> None:
            connection, _ = listener.accept()
            held.append(connection)
            connection.sendall(after)

        thread = threading.Thread(target=serve)
        thread.start()
        assert journey.carry() == 1
        thread.join(10)
        (outcome,) = journey.outcomes()
        assert outcome["event_type"] == "deferred"
        assert outcome["recipients"][0]["phase"] == ("hello" if after else "greeting")
        assert journey.sockets_are_free()
        for one in held:
            one.close()
        journey.close()
