"""How many alerts, which seeds, and the house: a broker, a mail server, a household."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from tests.brokers import hindrance, required
from tests.reliability.house import Household, MailSink, Mosquitto

ALERTS: Final = 500
SEEDS: Final = (1,)
LONG_SEEDS: Final = tuple(range(1, 11))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what makes this longer. pytest knows it only where tests/reliability is named on the command line."""
    parser.addoption(
        "--reliability-alerts", type=int, default=ALERTS, metavar="N", help=f"alerts of each test; {ALERTS}"
    )
    parser.addoption("--long", action="store_true", help=f"{len(LONG_SEEDS)} seeds instead of {len(SEEDS)}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test that draws something its seeds."""
    if "seed" in metafunc.fixturenames:
        long = metafunc.config.getoption("--long", default=False)
        metafunc.parametrize("seed", LONG_SEEDS if long else SEEDS)


@dataclass(frozen=True, slots=True)
class House:
    """What stands around the bridge."""

    broker: Mosquitto
    sink: MailSink
    household: Household


@pytest.fixture
def names(pytestconfig: pytest.Config) -> list[str]:
    """The alerts of a test, by their ids, which are their titles as well."""
    return [f"alert {n}" for n in range(pytestconfig.getoption("--reliability-alerts", default=ALERTS))]


@pytest.fixture
def house() -> Iterator[House]:
    """A house of this test's own, for most tests take something away from it."""
    reason = hindrance("mosquitto")
    if reason and "mosquitto" in required():
        pytest.fail(f"HARDWIRE_REQUIRE: mosquitto: {reason}")
    if reason:
        pytest.skip(f"the reliability of the bridge is tested with mosquitto alone: {reason}")
    with Mosquitto() as broker, MailSink() as sink:
        household = Household(broker.port)
        try:
            yield House(broker, sink, household)
        finally:
            household.close()
