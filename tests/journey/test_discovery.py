"""The device as Home Assistant sees it at a broker: announced, again when it is asked for, and taken back."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from plugin.config import load
from plugin.demo.mailserver import MailServer
from plugin.service import Service
from tests.brokers import AnyBroker, Brokers, Kind, kinds
from tests.journey.house import ALICE, WAIT_S, Automation, base_of, configured, until


class HomeAssistant:
    """Listens where Home Assistant does, and says what it says."""

    def __init__(self, broker: AnyBroker, prefix: str) -> None:
        self.prefix = prefix
        self.heard: queue.Queue[tuple[str, bytes, bool]] = queue.Queue()
        ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "", protocol=paho.MQTTv5)
        self._client.on_message = lambda _client, _userdata, one: self.heard.put(
            (one.topic, bytes(one.payload), one.retain)
        )
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()
        self._client.subscribe(f"{prefix}/device/+/config")
        assert ready.wait(WAIT_S)

    def next(self) -> tuple[str, dict[str, Any] | None]:
        """Return what comes next: its topic, and its content, None for an empty one."""
        topic, payload, _ = self.heard.get(timeout=WAIT_S)
        return topic, json.loads(payload) if payload else None

    def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=0, retain=retain).wait_for_publish(WAIT_S)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._client.on_message = self._client.on_subscribe = None


@contextmanager
def home_assistant_at(broker: AnyBroker, folder: Path) -> Iterator[HomeAssistant]:
    """A Home Assistant with a prefix of this test's own."""
    client = HomeAssistant(broker, f"ha-{folder.name}")
    try:
        yield client
    finally:
        client.close()


@contextmanager
def supervised(config: Path) -> Iterator[Service]:
    """Run a service with what its main thread does."""
    service = Service(load(config))
    service.start()
    main = threading.Thread(target=service.supervise)
    main.start()
    try:
        assert service.wait_subscribed(WAIT_S)
        yield service
    finally:
        service.request_stop()
        main.join(WAIT_S)
        service.stop()


def config_for(folder: Path, broker: AnyBroker, relay_port: int, more: str = "", **changes: str) -> Path:
    discovery = f"{{prefix: ha-{folder.name}{more}}}"
    return configured(folder, broker, relay_port, home_assistant=discovery, **changes)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("kind", kinds())
def test_announced_reborn_deleted_and_taken_back(
    brokers: Brokers, kind: Kind, mail: MailServer, tmp_path: Path, version: str
) -> None:
    broker, fewer = brokers.get(kind), f"{{alice: {ALICE}}}"

    def config(more: str = "", **changes: str) -> Path:
        return config_for(tmp_path, broker, mail.port, more, version=version, **changes)

    with home_assistant_at(broker, tmp_path) as home_assistant:
        with supervised(config()):
            topic, first = home_assistant.next()
            assert first is not None
            assert {"notify_alice", "notify_bob", "notify_route_all", "outcome", "pause"} <= first["cmps"].keys()
            home_assistant.say(f"{home_assistant.prefix}/status", b"online")
            assert home_assistant.next() == (topic, first)
            for _ in range(14):
                home_assistant.say(topic, b"", retain=True)
            assert [home_assistant.next() for _ in range(14)] == [(topic, None)] * 14
            assert home_assistant.next() == (topic, first)
        with supervised(config(recipients=fewer)):
            gone = home_assistant.next()[1]
            assert gone is not None
            assert gone["cmps"] == {"notify_bob": {"p": "notify"}, "notify_nobody": {"p": "notify"}}
            left = home_assistant.next()[1]
            assert left is not None
            assert left["cmps"].keys() == first["cmps"].keys() - gone["cmps"].keys()
        with supervised(config(", discovery: false")):
            assert home_assistant.next() == (topic, None)
        assert home_assistant.heard.empty()


def test_what_its_notifiers_publish_is_mailed(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path
) -> None:
    """Without any route that knows of them, and to nobody whom the configuration does not name."""
    routes = "[{topic: water_leak/#, to: [bob]}]"
    with supervised(config_for(tmp_path, any_broker, mail.port, routes=routes)):
        automation.publish("notify/alice", {"message": "Hello", "to": ["alice"]})
        outcome = automation.final("notify/alice")
        assert (outcome["event_type"], outcome["route"]) == ("success", "notify/#")
        assert [one["address"] for one in outcome["recipients"]] == [ALICE]
        automation.publish("notify/alice", {"message": "Hello"})
        assert "no recipient" in automation.final("notify/alice")["reason"]
    assert len(mail.mails) == 1


def test_the_last_outcome_and_the_totals_are_told_to_who_comes_later(
    any_broker: AnyBroker, mail: MailServer, tmp_path: Path
) -> None:
    config = config_for(tmp_path, any_broker, mail.port)
    first = Automation(any_broker, base_of(tmp_path))

    def told(automation: Automation) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(automation.retained.get("bridge/info", '{"outcomes": {}}'))["outcomes"]
        return found

    with supervised(config):
        first.publish("leak", {"title": "Water leak"})
        first.final("leak")
        until(lambda: told(first).get("last") == "success", "the totals")
    first.close()
    later = Automation(any_broker, base_of(tmp_path))
    with supervised(config) as service:
        until(lambda: told(later).get("success", {}).get("count") == 1, "the retained totals")
        later.publish("leak", {"to": "nobody at all"})
        until(lambda: told(later)["last"] == "failure", "the next totals")
        assert told(later)["success"]["count"] == told(later)["failure"]["count"] == 1
        assert "Water leak" not in later.retained["bridge/info"]
        assert service.info()["outcomes"] == told(later)
    later.close()
