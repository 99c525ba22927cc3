"""What stands around a bridge that is measured: a broker, a mail server that counts, somebody who publishes."""

from __future__ import annotations

import json
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.bridge_subjects import BASE, BridgeError, Place, Running, Subject
from benchmarks.child import Child
from plugin.demo.broker import LOOPBACK
from tests.reliability.house import Mosquitto

STEP_S: Final = 0.005
PROBE_S: Final = 0.5
START_S: Final = 30.0
CONNECT_S: Final = 10.0
ALERT_BYTES: Final = 200
IN_FLIGHT: Final = 1000


def wait_for(
    condition: Callable[[], bool], what: Callable[[], str], timeout_s: float, step_s: float = STEP_S
) -> None:
    """Wait for ``condition``; raises BridgeError that says ``what`` was there in the end."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise BridgeError(f"not within {timeout_s:.0f} s: {what()}")
        time.sleep(step_s)


def _no_delay(_client: paho.Client, _userdata: object, sock: object) -> None:
    """Set TCP_NODELAY, which paho does not: with Nagle's algorithm there would be 40 ms between alerts."""
    assert isinstance(sock, socket.socket)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Publisher:
    """Publishes alerts with QoS 1."""

    def __init__(self, port: int) -> None:
        self._acknowledged = 0
        self._asked = 0
        self._lock = threading.Lock()
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        client.max_inflight_messages_set(IN_FLIGHT)
        client.on_publish = self._published
        client.on_socket_open = _no_delay
        client.connect(LOOPBACK, port)
        client.loop_start()
        self._client = client
        wait_for(client.is_connected, lambda: "no connection to the broker", CONNECT_S)

    def _published(self, *_: object) -> None:
        with self._lock:
            self._acknowledged += 1

    def publish(self, names: Iterable[str]) -> float:
        """Publish an alert for each of ``names``, as fast as may be; return ``time.monotonic`` of just before."""
        begun = time.monotonic()
        for name in names:
            content = {"id": name, "title": name, "message": "Water in the cellar. ".ljust(ALERT_BYTES, "x")}
            self._client.publish(f"{BASE}/email/leak", json.dumps(content), qos=1)
            self._asked += 1
        return begun

    def wait_acknowledged(self, timeout_s: float) -> None:
        """Wait until the broker has all of them."""
        wait_for(
            lambda: self._acknowledged >= self._asked,
            lambda: f"{self._acknowledged} PUBACKs of {self._asked}",
            timeout_s,
        )

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._client.on_publish = self._client.on_socket_open = None


class House:
    """Broker, mail server, publisher and a folder, all new; a context manager."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.arrivals: dict[str, float] = {}
        """When the first mail of each alert was accepted, of ``time.monotonic``."""
        self.mails_of: Counter[str] = Counter()
        self.mails = 0
        self._named = 0
        with ExitStack() as undo:
            folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="hardwire-benchmark-")))
            broker = undo.enter_context(Mosquitto())
            self._sink = undo.enter_context(Child("benchmarks.bridge_sink"))
            mail_port = self._sink.ask(open={"offers": list(subject.offers)})["port"]
            self.publisher = Publisher(broker.port)
            undo.callback(self.publisher.close)
            self._place = Place(folder=folder, broker_port=broker.port, mail_port=mail_port)
            self._undo = undo.pop_all()

    def names(self, count: int) -> list[str]:
        """Return ``count`` names of alerts that were not there before."""
        self._named += count
        return [f"alert {n}" for n in range(self._named - count, self._named)]

    def start(self) -> Running:
        """Start the bridge, on what it has left in its folder."""
        return Running(self._subject, self._place)

    def delay(self, delay_s: float) -> None:
        """Let every reply be so late from now on."""
        self._sink.ask(be={"delay_s": delay_s})

    def away(self, away: bool) -> None:  # noqa: FBT001 - as the sink has it
        """Take the mail server away, or bring it back."""
        self._sink.ask(away=away)

    def connections(self) -> int:
        """Return how many connections the mail server has had."""
        return int(self._sink.ask(count=True)["connections"])

    def look(self) -> int:
        """Read what mails have come; return of how many alerts there is one."""
        while part := self._sink.ask(**{"from": self.mails})["mails"]:
            self.mails += len(part)
            for alert, _message_id, at in part:
                self.arrivals.setdefault(alert, at)
                self.mails_of[alert] += 1
        return len(self.arrivals)

    def arrived(self, names: Collection[str]) -> int:
        """Return of how many of ``names`` there is a mail."""
        self.look()
        return sum(name in self.arrivals for name in names)

    def wait_mails(self, names: Collection[str], running: Running, timeout_s: float) -> float:
        """Wait for a mail of each of ``names``; return when the last one was accepted."""

        def done() -> bool:
            running.check()
            before = self.mails
            self.look()
            return self.mails > before and self.arrivals.keys() >= set(names)

        if self.arrived(names) < len(names):
            wait_for(done, lambda: f"mails of {self.arrived(names)} of {len(names)} alerts", timeout_s)
        return max(self.arrivals[name] for name in names)

    def warm_up(self, running: Running) -> None:
        """Publish alerts until a mail comes of one: there is a subscription, and a connection."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            running.check()
            name = self.names(1)
            self.publisher.publish(name)
            probed = time.monotonic() + PROBE_S
            while time.monotonic() < probed:
                if self.arrived(name):
                    return
                time.sleep(STEP_S)
        raise BridgeError(f"{self._subject.name} has sent no mail in {START_S:.0f} s: {running.said()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()
