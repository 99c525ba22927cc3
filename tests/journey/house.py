"""A house for tests: a configuration file, a client that publishes alerts and gathers outcomes, a mail server."""

from __future__ import annotations

import itertools
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from email import message_from_bytes
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

    def __init__(self, broker: AnyBroker, base: str, *, persistent: bool = False) -> None:
        """``persistent``: the broker keeps what comes while this client is away."""
        self.base = base
        self._asked = itertools.count(1)
        self.outcomes: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self.retained: dict[str, str] = {}
        self.answers: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self.responses: queue.Queue[tuple[str, bytes | None, dict[str, Any]]] = queue.Queue()
        ready = threading.Event()
        client_id = f"automation-{base}" if persistent else ""
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5)
        self._client.on_message = self._arrived
        self._client.on_subscribe = lambda *_: ready.set()
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = 3600 if persistent else 0
        # mosquitto 2.0 stores no session that began with a clean start.
        self._client.connect(broker.host, broker.port, clean_start=not persistent, properties=session)
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
        elif topic.startswith("bridge/response/"):
            self.answers.put((topic.removeprefix("bridge/response/"), json.loads(message.payload)))
        elif not topic.startswith("bridge/request/"):
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

    def ask(self, verb: str, content: bytes | dict[str, Any] = b"") -> dict[str, Any]:
        """Request something of the bridge, and return the answer; answers to others are passed over."""
        if isinstance(content, dict):
            content = {"transaction": f"ask-{next(self._asked)}", **content}
        self.request(verb, content)
        deadline = time.monotonic() + WAIT_S
        while True:
            answered, answer = self.answers.get(timeout=max(0.1, deadline - time.monotonic()))
            ours = not isinstance(content, dict) or answer["transaction"] == content["transaction"]
            if answered == verb and ours:
                return answer

    def request(self, verb: str, content: bytes | dict[str, Any] = b"") -> None:
        """Request something of the bridge; return when the broker has it."""
        payload = content if isinstance(content, bytes) else json.dumps(content).encode()
        self._client.publish(f"{self.base}/bridge/request/{verb}", payload, qos=1).wait_for_publish(WAIT_S)

    def health(self) -> dict[str, Any]:
        """Return what the bridge last told of how it is."""
        told: dict[str, Any] = json.loads(self.retained.get("bridge/health", "{}"))
        return told

    def wait_connected(self) -> None:
        """Wait until the broker is there again."""
        until(self._client.is_connected, "a connection of the automation")

    def final(self, name: str) -> dict[str, Any]:
        """Return the final outcome of the alert ``name``; others are passed over."""
        deadline = time.monotonic() + WAIT_S
        while True:
            topic, outcome = self.outcomes.get(timeout=max(0.1, deadline - time.monotonic()))
            if topic in (f"success/{name}", f"failure/{name}"):
                return outcome

    def next_final(self) -> dict[str, Any]:
        """Return the next final outcome, of whichever alert."""
        deadline = time.monotonic() + WAIT_S
        while True:
            topic, outcome = self.outcomes.get(timeout=max(0.1, deadline - time.monotonic()))
            if topic.startswith(("success/", "failure/")):
                return outcome

    def next(self) -> tuple[str, dict[str, Any]]:
        """Return the next outcome on any topic."""
        return self.outcomes.get(timeout=WAIT_S)

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()
        self._client.on_message = self._client.on_subscribe = (
            None  # no circle: paho closes its sockets when it goes
        )


class Process:
    """``hardwire run`` as its user runs it."""

    def __init__(self, config: Path, *, prelude: str = "", verbose: bool = False) -> None:
        """``prelude`` is Python that runs in the process before the command: what the test does to it."""
        self.log = config.parent / "hardwire.log"
        self._log_starts_at = self.log.stat().st_size if self.log.exists() else 0
        command = f"{prelude}\nfrom plugin.cli import main\nmain(prog_name='hardwire')"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, *(("-c", command) if prelude else ("-m", "plugin"))),
                    *("run", "--config", str(config), *(("--verbose",) if verbose else ())),
                ],
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Tell whether it has not ended."""
        return self._process.poll() is None

    def said(self) -> str:
        """Return what this process has logged so far."""
        with self.log.open("rb") as log:
            log.seek(self._log_starts_at)
            return log.read().decode()

    def wait_connected(self, times: int = 1) -> None:
        """Wait until its subscription stands, for the so many-th time."""
        until(lambda: self.said().count("event=broker_connected") >= times or not self.running, "a connection")
        assert self.running, self.said()

    def signal_end(self) -> None:
        """Send SIGTERM, and do not wait."""
        self._process.terminate()

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


def configured(folder: Path, broker: AnyBroker, relay_port: int, *, version: str = "5", **changes: str) -> Path:
    """As ``configuration``, with a session of its own: what the broker keeps for one test is not for the next."""
    port = broker.port_for("5" if version == "5" else "3.1.1")
    mqtt = f'{{host: {broker.host}, port: {port}, protocol: "{version}", client_id: {base_of(folder)}}}'
    return configuration(folder, broker, relay_port, **{"mqtt": mqtt, **changes})


def publish_all(automation: Automation, names: Sequence[str], text: str = "text") -> None:
    for name in names:
        automation.publish("leak", {"id": name, "title": name, "message": text})


def mails_by_title(mails: Sequence[bytes]) -> dict[str, list[str]]:
    """Return the Message-IDs of the mails of each subject."""
    found: dict[str, list[str]] = {}
    for mail in mails:
        parsed = message_from_bytes(mail)
        found.setdefault(str(parsed["Subject"]), []).append(str(parsed["Message-ID"]))
    return found


def finals(automation: Automation, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Wait for the final outcome of each alert; one that is told twice must be the same both times."""
    told: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + WAIT_S
    while missing := set(names) - told.keys():
        try:
            topic, outcome = automation.outcomes.get(timeout=max(0.01, deadline - time.monotonic()))
        except queue.Empty:
            raise AssertionError(f"no outcome of {sorted(missing)}") from None
        if topic == "bridge/outcome" and outcome["event_type"] != "deferred":
            assert told.setdefault(outcome["id"], outcome) == outcome
    return told


def assert_all_arrived(mails: Sequence[bytes], names: Sequence[str], *, twice_at_most: int = 0) -> None:
    found = mails_by_title(mails)
    assert found.keys() == set(names)
    assert {len(set(ids)) for ids in found.values()} == {1}, "a second mail with another Message-ID"
    assert len(mails) - len(names) <= twice_at_most
