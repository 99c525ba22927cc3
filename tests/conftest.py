"""Fixtures that rooms share: real brokers (tests/brokers.py tells the kinds)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings

from tests.brokers import AnyBroker, Brokers, Kind, kinds

# Timing never decides a test: a busy machine is no reason to fail. Nor does chance, but with
# --hypothesis-profile=explore.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("hardwire", settings.get_profile("explore"), derandomize=True, database=None)
settings.load_profile("hardwire")

_SUMMARIES = pytest.StashKey[set[str]]()
RELIABILITY_ALERTS: Final = 500
TESTS: Final = Path(__file__).parent
LONGEST: Final = ("reliability", "deploy")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what makes tests/reliability longer; pytest reads no options from conftest files further down."""
    parser.addoption(
        "--reliability-alerts",
        type=int,
        default=RELIABILITY_ALERTS,
        metavar="N",
        help=f"alerts of each test of tests/reliability ({RELIABILITY_ALERTS})",
    )
    parser.addoption(
        "--reliability-seeds", type=int, default=1, metavar="N", help="how often what is drawn is drawn"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the rooms that take longest, so that no process is left with one of them at the end."""
    items.sort(key=lambda item: not any(item.path.is_relative_to(TESTS / room) for room in LONGEST))


@pytest.fixture(scope="session")
def brokers(pytestconfig: pytest.Config) -> Iterator[Brokers]:
    """All brokers of this test run, each started at its first use; they end with it."""
    all_brokers = Brokers()
    yield all_brokers
    summary = all_brokers.summary()
    pytestconfig.stash.setdefault(_SUMMARIES, set()).add(summary)
    if (output := getattr(pytestconfig, "workeroutput", None)) is not None:  # one of several processes
        output["brokers"] = summary
    all_brokers.close()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a process of several has found out about brokers."""
    if summary := getattr(node, "workeroutput", {}).get("brokers"):
        node.config.stash.setdefault(_SUMMARIES, set()).add(summary)


@pytest.fixture(params=kinds())
def broker_kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of broker that this machine has, in turn."""
    kind: Kind = request.param
    return kind


@pytest.fixture
def broker(broker_kind: Kind, brokers: Brokers) -> AnyBroker:
    """A running broker of each kind that this machine has, in turn."""
    return brokers.get(broker_kind)


@pytest.fixture
def any_broker(brokers: Brokers) -> AnyBroker:
    """The best broker of this machine, for tests to which any will do."""
    return brokers.best()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which brokers were used, if any, and why others were not."""
    summaries: set[str] = config.stash.get(_SUMMARIES, set())
    for summary in sorted(summaries):
        terminalreporter.write_line(summary)
