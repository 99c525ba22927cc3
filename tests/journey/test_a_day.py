"""A day of a house with a bad cable and a worse power supply: a thousand faults of all kinds, seeded.

The clock of the house is turned by hand, minute by minute; chip, driver, mail client and mail server are real.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from plugin.smtp.settings import Timeouts
from plugin.w5100.emulator import (
    ChipReset,
    ExchangeError,
    Fault,
    FlippedBit,
    HeldStatus,
    LinkDown,
    StuckBus,
    StuckCommand,
    UnansweredSend,
)
from plugin.w5100.registers import Status
from tests.journey import emulated
from tests.journey.emulated import Journey, assert_delivered
from tests.journey.house import mail_server

MINUTES: Final = 24 * 60
FAULTS: Final = 1000
ALERTS: Final = 240
PATIENCE_S: Final = 0.04
SEED: Final = 20261125

# Each kind by the exchange at which it begins. Flipped data bits are not among them: no driver can tell them from
# what the chip meant, so they may change a mail (tests/journey/test_faults.py).
KINDS: Final[tuple[Callable[[int], Fault], ...]] = (
    lambda n: ExchangeError(first_exchange=n),
    lambda n: ExchangeError(first_exchange=n, chip_hears=True),
    lambda n: ExchangeError(first_exchange=n, exchanges=4),
    lambda n: StuckBus(first_exchange=n, exchanges=1, chip_hears=True),
    lambda n: StuckBus(first_exchange=n, exchanges=2, octet=0xFF),
    lambda n: FlippedBit(first_exchange=n, octet=1, bit=n % 8),
    lambda n: FlippedBit(first_exchange=n, octet=0, bit=n % 8, heard=True),
    lambda n: ChipReset(first_exchange=n),
    lambda n: ChipReset(first_exchange=n, exchanges=3, answers=False),
    lambda n: StuckCommand(first_exchange=n, exchanges=3),
    lambda n: UnansweredSend(first_exchange=n),
    lambda n: HeldStatus(first_exchange=n, status=Status.SYNSENT),
    lambda n: HeldStatus(first_exchange=n, status=Status.FIN_WAIT),
    lambda n: LinkDown(first_exchange=n, exchanges=10),
)


def test_a_day_with_a_thousand_faults(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.CRITICAL)
    monkeypatch.setattr("plugin.smtp.connection.LAST_WORDS_S", PATIENCE_S)
    monkeypatch.setattr("plugin.w5100.hardware_socket.COMMAND_TIMEOUT_S", PATIENCE_S)
    monkeypatch.setattr(emulated, "PATIENCE_S", PATIENCE_S)
    phases = {name: PATIENCE_S for name in Timeouts.__slots__ if name.endswith("_s")}
    monkeypatch.setattr(emulated, "TIMEOUTS", replace(Timeouts(**phases), letter_s=2.0))
    chance = random.Random(SEED)
    fault_minutes = sorted(chance.randrange(MINUTES) for _ in range(FAULTS))
    alert_minutes = [chance.randrange(MINUTES) for _ in range(ALERTS)]
    with mail_server() as server:
        journey = Journey(tmp_path, server.port, lanes=2)
        try:
            outcomes = []
            for minute in range(MINUTES):
                for number, _ in enumerate(one for one in alert_minutes if one == minute):
                    journey.accept(f"{minute}.{number}")
                for _ in range(fault_minutes.count(minute)):
                    journey.emulator.inject(chance.choice(KINDS)(chance.randrange(1, 40)))
                journey.uplink.watch()
                for lane in range(2):
                    journey.carry(lane)
                journey.emulator.clear_faults()
                journey.now += 60
                outcomes += journey.outcomes()
            journey.carry_to_the_end()
            outcomes += journey.outcomes()
            mails = server.mails
            for minute in set(alert_minutes):
                for number in range(alert_minutes.count(minute)):
                    assert_delivered(outcomes, mails, f"{minute}.{number}", f"minute {minute}")
            journey.uplink.watch()
            assert journey.uplink.problem is None
            assert journey.chip.holds(emulated.ADDRESSING)
            assert journey.chip.connections == 0
            assert journey.sockets_are_free()
            deferred = sum(one["event_type"] == "deferred" for one in outcomes)
            assert deferred > 20, "the faults have hardly met anything"
        finally:
            journey.close()
