"""Both ends for the tests of the MQTT room: the room running on a thread, and an ordinary client at the broker."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties
from paho.mqtt.reasoncodes import ReasonCode

from plugin.alert import Message
from plugin.demo.broker import Version
from plugin.mqtt import Mqtt, Settings
from tests.brokers import AnyBroker

PATIENCE_S = 10.0
_numbers = itertools.count()


def unique(prefix: str) -> str:
    """Return a name that no other test uses at the same broker."""
    return f"{prefix}-{os.getpid()}-{next(_numbers)}"


def settings_for(broker: AnyBroker, protocol: Version, **changes: Any) -> Settings:
    """Return settings of a bridge of its own at ``broker``, quick to come back."""
    name = unique("bridge")
    values: dict[str, Any] = {
        "host": broker.host,
        "port": broker.port_for(protocol),
        "protocol": protocol,
        "client_id": name,
        "base": name,
        "reconnect_first_s": 0.05,
        "reconnect_longest_s": 0.2,
    }
    return Settings(**(values | changes))


def eventually(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> bool:
    """Tell whether ``condition`` came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


class Subject:
    """``Mqtt`` on a thread, and all that it told."""

    def __init__(self, settings: Settings, on_message: Callable[[Message], None] | None = None) -> None:
        self.messages: list[Message] = []
        self.published: list[int] = []
        self.sessions: list[bool] = []
        self.connections: list[tuple[bool, str | None]] = []
        self.order: list[str] = []
        self.failures: list[BaseException] = []
        self.mqtt = Mqtt(
            settings,
            on_message=on_message or self._message,
            on_published=self.published.append,
            on_session=self._session,
            on_connection=lambda connected, reason: self.connections.append((connected, reason)),
        )
        self.thread = threading.Thread(target=self._run, name="subject")

    def _run(self) -> None:
        try:
            self.mqtt.run()
        except BaseException as error:  # noqa: BLE001 - told by end()
            self.failures.append(error)

    def _message(self, message: Message) -> None:
        self.order.append("message")
        self.messages.append(message)

    def _session(self, present: bool) -> None:
        self.order.append("session")
        self.sessions.append(present)

    def start(self) -> None:
        self.thread.start()

    def wait_connected(self) -> None:
        assert eventually(lambda: self.mqtt.connected), f"never connected: {self.connections}"

    def wait_messages(self, count: int) -> list[Message]:
        assert eventually(lambda: len(self.messages) >= count), f"{len(self.messages)} messages of {count}"
        return self.messages

    def wait_published(self, *tokens: int) -> None:
        assert eventually(lambda: set(tokens) <= set(self.published)), f"published: {self.published}"

    def wait_reason(self, *words: str) -> str:
        def told() -> list[str]:
            return [one[1] for one in self.connections if one[1] and all(word in one[1] for word in words)]

        assert eventually(lambda: bool(told())), f"{words} not in {self.connections}"
        return told()[0]

    def cut(self) -> None:
        """Break the connection as a network does: no DISCONNECT; wait for the next one."""
        connections = len(self.sessions)
        sock = self.mqtt._session.client.socket()
        assert isinstance(sock, socket.socket)
        sock.shutdown(socket.SHUT_RDWR)
        assert eventually(lambda: len(self.sessions) > connections and self.mqtt.connected)

    def end(self) -> None:
        self.mqtt.stop(timeout_s=5.0)
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()
        assert not self.failures


@contextmanager
def running(settings: Settings, on_message: Callable[[Message], None] | None = None) -> Iterator[Subject]:
    """Run a bridge's connection for the length of the block, from the standing subscription on."""
    with started(settings, on_message) as subject:
        subject.wait_connected()
        yield subject


@contextmanager
def started(settings: Settings, on_message: Callable[[Message], None] | None = None) -> Iterator[Subject]:
    """Run a bridge's connection for the length of the block."""
    subject = Subject(settings, on_message)
    subject.start()
    try:
        yield subject
    finally:
        subject.end()


class Peer:
    """An ordinary client: what automations are. ``received`` holds (topic, payload, retain, properties)."""

    def __init__(self, broker: AnyBroker, protocol: Version) -> None:
        five = protocol == "5"
        self.received: list[MQTTMessage] = []
        self._ready = threading.Event()
        self._subscribed = threading.Event()
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=unique("peer"),
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
        )
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _client, _userdata, message: self.received.append(message)
        self._client.connect(broker.host, broker.port_for(protocol))
        self._client.loop_start()
        assert self._ready.wait(PATIENCE_S)

    def _connected(
        self, _client: Client, _userdata: Any, _flags: ConnectFlags, _reason: ReasonCode, _told: Any
    ) -> None:
        self._ready.set()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, **properties: Any) -> None:
        packed = None
        if properties:
            packed = PahoProperties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            for name, value in properties.items():
                setattr(packed, name, value)
        self._client.publish(topic, payload, qos=1, retain=retain, properties=packed).wait_for_publish(PATIENCE_S)

    def subscribe(self, topic_filter: str) -> None:
        self._subscribed.clear()
        self._client.subscribe(topic_filter, qos=1)
        assert self._subscribed.wait(PATIENCE_S)

    def payloads(self, topic: str) -> list[bytes]:
        return [bytes(one.payload) for one in list(self.received) if one.topic == topic]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        client = self._client  # no circle: paho closes its sockets when it goes
        client.on_connect = client.on_subscribe = client.on_message = None


@contextmanager
def peer(broker: AnyBroker, protocol: Version, *filters: str) -> Iterator[Peer]:
    """Connect an ordinary client for the length of the block, subscribed to ``filters``."""
    one = Peer(broker, protocol)
    try:
        for topic_filter in filters:
            one.subscribe(topic_filter)
        yield one
    finally:
        one.close()
