"""Two whole bridges at one broker: a group that shares the work, and two that have one client id."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from plugin.config import load
from plugin.demo.mailserver import MailServer
from plugin.service import Service
from tests.brokers import AnyBroker, Brokers, Kind, kinds
from tests.journey.house import (
    WAIT_S,
    Automation,
    assert_all_arrived,
    base_of,
    configuration,
    finals,
    publish_all,
    until,
)

WITH_MOSQUITTO = [one for one in kinds() if one != "embedded"]  # the embedded broker knows no groups


def started(folder: Path, broker: AnyBroker, relay_port: int, mqtt: str, name: str, stack: ExitStack) -> Service:
    """Return a running bridge with an outbox of its own."""
    path = configuration(
        folder,
        broker,
        relay_port,
        mqtt=f"{{host: {broker.host}, port: {broker.port}, {mqtt}}}",
        outbox=f"{{path: {name}.db}}",
    )
    service = Service(load(path))
    service.start()
    stack.callback(service.stop)
    assert service.wait_subscribed(WAIT_S)
    return service


@pytest.mark.parametrize("kind", WITH_MOSQUITTO)
def test_a_group_mails_each_alert_once(brokers: Brokers, kind: Kind, mail: MailServer, tmp_path: Path) -> None:
    broker, base = brokers.get(kind), base_of(tmp_path)
    automation = Automation(broker, base)
    names = [f"alert {n}" for n in range(60)]
    with ExitStack() as stack:
        stack.callback(automation.close)
        group = [
            started(tmp_path, broker, mail.port, f"client_id: {base}-{name}, shared_group: {base}", name, stack)
            for name in ("left", "right")
        ]
        publish_all(automation, names)
        outcomes = finals(automation, names)
        accepted = [one.info()["counters"]["accepted"] for one in group]
    assert {one["event_type"] for one in outcomes.values()} == {"success"}
    assert_all_arrived(mail.mails, names)
    assert sum(accepted) == len(names)
    assert all(accepted)


@pytest.mark.parametrize("kind", WITH_MOSQUITTO)
def test_two_with_one_client_id_say_so_in_health(
    brokers: Brokers, kind: Kind, mail: MailServer, tmp_path: Path
) -> None:
    broker, base = brokers.get(kind), base_of(tmp_path)
    with ExitStack() as stack:
        twins = [
            started(tmp_path, broker, mail.port, f"client_id: {base}", name, stack) for name in ("left", "right")
        ]
        words = "another program connected with the same client id"
        for twin in twins:
            until(lambda told=twin: words in str(told.health()["mqtt"]["problem"]), "the reason")  # type: ignore[misc]
        until(lambda: any(one.health()["mqtt"]["connected"] for one in twins), "a connection")
        assert all(words in str(one.health()["mqtt"]["problem"]) for one in twins)
