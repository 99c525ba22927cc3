"""A client of the broker that a project has up: it publishes alerts and hears what becomes of them."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from plugin.demo.broker import LOOPBACK
from tests.deploy.containers import WAIT_S, Project, until


class Listener:
    """A client of the broker that keeps what it hears of outcomes."""

    def __init__(self, port: int) -> None:
        self._heard: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.on_message = lambda _client, _data, message: self._heard.put(
            (message.topic, bytes(message.payload))
        )
        until("the broker", lambda: self._client.connect(LOOPBACK, port) == mqtt.MQTT_ERR_SUCCESS or None)
        self._client.subscribe(
            [(f"alerts/{one}", 1) for one in ("bridge/state", "success/#", "deferred/#", "failure/#")]
        )
        self._client.loop_start()

    def next(self, topic: str) -> bytes:
        """Return the payload of the next message, which must be on ``topic``."""
        heard, payload = self._heard.get(timeout=WAIT_S)
        assert heard == topic, payload.decode()
        return payload

    def outcome(self, topic: str) -> dict[str, Any]:
        outcome: dict[str, Any] = json.loads(self.next(topic))
        return outcome

    def publish(self, topic: str, alert: dict[str, Any]) -> None:
        self._client.publish(topic, json.dumps(alert), qos=1).wait_for_publish(timeout=WAIT_S)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def listening(project: Project) -> Iterator[Listener]:
    listener = Listener(project.port("HARDWIRE_MQTT_PORT"))
    try:
        # The bridge may come up after us; its Last Will or nothing may be what is retained until then.
        until("the bridge", lambda: listener.next("alerts/bridge/state") == b"online" or None)
        yield listener
    finally:
        listener.close()
