"""Several bridges at one broker: they share the work of a group, or fight for one client id, which is told."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from plugin.demo.broker import Version
from tests.brokers import Brokers, Kind, kinds
from tests.mqtt.support import Subject, eventually, peer, running, settings_for, started, unique

WITH_MOSQUITTO = [one for one in kinds() if one != "embedded"]
ALERTS = 60


@pytest.mark.parametrize("kind", WITH_MOSQUITTO)
def test_a_group_shares_the_alerts_and_each_is_asked_for_itself(brokers: Brokers, kind: Kind) -> None:
    broker, base, group = brokers.get(kind), unique("house"), unique("group")
    with ExitStack() as stack:
        members: list[Subject] = []
        for _ in range(2):
            member = Subject(settings_for(broker, "5", base=base, shared_group=group))
            member.start()
            stack.callback(member.end)
            member.wait_connected()
            members.append(member)
        client = stack.enter_context(peer(broker, "5"))
        for number in range(ALERTS):
            client.publish(f"{base}/email/a", str(number).encode())
        client.publish(f"{base}/bridge/request/status", b"")
        assert eventually(lambda: sum(len(one.messages) for one in members) == ALERTS + 2)
        taken = [[one.payload for one in member.messages if "/email/" in one.topic] for member in members]
        assert sorted(int(one) for part in taken for one in part) == list(range(ALERTS))
        assert all(taken)
        for member in members:
            assert [one.topic for one in member.messages if "/email/" not in one.topic] == [
                f"{base}/bridge/request/status"
            ]


@pytest.mark.parametrize("kind", WITH_MOSQUITTO)
@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("5", "another program connected with the same client id"),
        ("3.1.1", "is another program connected with the same client id"),
    ],
)
def test_a_namesake_is_told_as_what_it_is_also_while_the_connection_stands(
    brokers: Brokers, kind: Kind, version: Version, words: str
) -> None:
    broker = brokers.get(kind)
    settings = settings_for(broker, version, client_id=unique("twin"))
    with running(settings) as one, started(settings) as other:
        for twin in (one, other):
            assert twin.wait_reason(words, settings.client_id)
        # It comes back each time, and does not forget over it why it was thrown out.
        assert eventually(lambda: any(up and why and words in why for up, why in one.connections))


@pytest.mark.parametrize("kind", WITH_MOSQUITTO)
def test_the_suspicion_ends_when_a_connection_stands_for_long(
    brokers: Brokers, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugin.mqtt.client._STEADY_S", 0.5)
    settings = settings_for(brokers.get(kind), "5", client_id=unique("twin"))
    with running(settings) as one:
        with started(settings):
            assert one.wait_reason("another program")
        assert eventually(lambda: one.connections[-1] == (True, None))
