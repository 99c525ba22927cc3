"""How many alerts, which seeds, and the house: a broker, a mail server, a household."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.brokers import hindrance, required
from tests.reliability.house import Household, MailSink, Mosquitto


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test that draws something its seeds."""
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(1, metafunc.config.getoption("--reliability-seeds") + 1))


@dataclass(frozen=True, slots=True)
class House:
    """What stands around the bridge."""

    broker: Mosquitto
    sink: MailSink
    household: Household


@pytest.fixture
def names(pytestconfig: pytest.Config) -> list[str]:
    """The alerts of a test, by their ids, which are their titles as well."""
    return [f"alert {n}" for n in range(pytestconfig.getoption("--reliability-alerts"))]


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
