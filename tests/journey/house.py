"""A house for tests: a configuration file, a client that publishes alerts and gathers outcomes, a mail server."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from plugin.demo.mailserver import DOMAIN, MailServer
from tests.brokers import AnyBroker

ALICE = f"alice@{DOMAIN}"
BOB = f"bob@{DOMAIN}"
LOGIN, PASSWORD = "house", "s3cret pass"
WAIT_S = 30.0


def configuration(folder: Path, broker: AnyBroker, relay_port: int, *, more: str = "", **changes: str) -> Path:
    """Write a hardwire.yaml into ``folder``; ``changes`` replace whole top-level lines by key."""
    lines = {
        "mqtt": f'{{host: {broker.host}, port: {broker.port}, protocol: "5"}}',
        "topics": f"{{base: {base_of(folder)}}}",
        "chip": "{bus: emulator, lanes: 1}",
        "relays": f"[{{host: 127.0.0.1, port: {relay_port}, security: none}}]",
        "sender": f'"House <house@{DOMAIN}>"',
        "recipients": f"{{alice: {ALICE}, bob: {BOB}, nobody: nobody@{DOMAIN}}}",
        "routes": '[{topic: "#", to: [alice]}]',
        "outbox": "{path: outbox.db, retry: {first: 300ms, factor: 1, longest: 300ms}}",
        **changes,
    }
    path = folder / "hardwire.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in lines.items()) + more)
    return path


def base_of(folder: Path) -> str:
    """Return a topic base of its own for each test, since tests share brokers."""
    return f"t-{folder.name}"


class Automation:
    """What Home Assistant would be: publishes alerts with QoS 1, and reads outcomes as they come."""

    def __init__(self, broker: AnyBroker, base: str) -> None:
        self.base = base
        self.outcomes: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self.retained: dict[str, str] = {}
        self.responses: queue.Queue[tuple[str, bytes | None, dict[str, Any]]] = queue.Queue()
        ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.on_message = self._arrived
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()
        topics = ("success/#", "failure/#", "deferred/#", "bridge/#")
        self._client.subscribe([(f"{base}/{one}", 1) for one in topics] + [(f"answers-{base}", 1)])
        assert ready.wait(WAIT_S)

    def _arrived(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        topic = message.topic.removeprefix(f"{self.base}/")
        if topic.startswith("answers-"):
            correlation = getattr(message.properties, "CorrelationData", None)
            self.responses.put((topic, correlation, json.loads(message.payload)))
        elif topic in ("bridge/state", "bridge/info", "bridge/health"):
            self.retained[topic] = message.payload.decode()
        else:
            self.outcomes.put((topic, json.loads(message.payload)))

    def publish(self, name: str, payload: bytes | dict[str, Any], correlation: bytes | None = None) -> None:
        """Publish an alert and wait until the broker has it."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if correlation is not None:
            properties.ResponseTopic = f"answers-{self.base}"
            properties.CorrelationData = correlation
        content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self._client.publish(f"{self.base}/email/{name}", content, qos=1, properties=properties).wait_for_publish(
            WAIT_S
        )

    def final(self, name: str) -> dict[str, Any]:
        """Return the final outcome of the alert ``name``; others are passed over."""
        deadline = time.monotonic() + WAIT_S
        while True:
            topic, outcome = self.outcomes.get(timeout=max(0.1, deadline - time.monotonic()))
            if topic in (f"success/{name}", f"failure/{name}"):
                return outcome

    def next(self) -> tuple[str, dict[str, Any]]:
        """Return the next outcome on any topic."""
        return self.outcomes.get(timeout=WAIT_S)

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()


class Process:
    """``hardwire run`` as its user runs it."""

    def __init__(self, config: Path) -> None:
        self.log = config.parent / "hardwire.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "plugin", "run", "--config", str(config)], stdout=log, stderr=log
            )

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait(WAIT_S)

    def terminate(self) -> int:
        """Ask it to end, as systemd does; return the exit code."""
        self._process.terminate()
        return self._process.wait(WAIT_S)

    def wait(self) -> int:
        """Return the exit code once it has ended by itself."""
        return self._process.wait(WAIT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(WAIT_S)


@contextmanager
def mail_server() -> Iterator[MailServer]:
    """Run a mail server with the mailboxes of Alice and Bob."""
    with MailServer(users=(ALICE, BOB), login=LOGIN, password=PASSWORD) as server:
        yield server


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for ``condition``, or fail."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {WAIT_S} s"
        time.sleep(0.02)
