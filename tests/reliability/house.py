"""A house whose parts can be taken away: a broker that keeps what waits, a mail server that counts, people."""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks.child import ROOT, Child
from plugin.demo.broker import LOOPBACK, mosquitto_binary, wait_for_port
from tests.journey.house import Process
from tests.reliability import faulty_bus

BASE: Final = "alerts"
OFFERS: Final = ("PIPELINING", "CHUNKING")
START_S: Final = 10.0
STEP_S: Final = 0.005
PUBLISHED_S: Final = 60.0
ALERT_BYTES: Final = 200
SESSION_S: Final = 3600
DEPLOYED: Final = ROOT / "deploy" / "mosquitto" / "mosquitto.conf"


def until(condition: Callable[[], bool], what: Callable[[], str] | str, timeout_s: float) -> None:
    """Wait for ``condition``, or fail and say ``what`` did not happen."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            told = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {timeout_s:g} s: {told}")
        time.sleep(STEP_S)


class Mosquitto:
    """A mosquitto as deploy/mosquitto has it, on a loopback port; ``stop`` and ``start`` interrupt it."""

    def __init__(self) -> None:
        binary = mosquitto_binary()
        assert binary is not None, "there is no mosquitto binary"
        with ExitStack() as undo:
            folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="hardwire-reliability-")))
            with socket.create_server((LOOPBACK, 0)) as reserved:
                self.port: Final = int(reserved.getsockname()[1])
            configuration = folder / "mosquitto.conf"
            configuration.write_text(mosquitto_configuration(DEPLOYED.read_text(), self.port, folder))
            self._command: Final = (binary, "-c", str(configuration))
            self._log: Final = folder / "mosquitto.log"
            self._process: subprocess.Popen[bytes] | None = None
            undo.callback(self.stop)
            self.start()
            self._undo = undo.pop_all()

    def start(self) -> None:
        with self._log.open("ab") as log:
            process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._process = process
        up = wait_for_port(LOOPBACK, self.port, START_S, lambda: process.poll() is not None)
        assert up, f"mosquitto did not start: {self._log.read_text(errors='replace')[-1000:]}"

    def stop(self) -> None:
        """End it as a service manager does: it writes its store."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(START_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()


def mosquitto_configuration(deployed: str, port: int, folder: Path) -> str:
    """Return the ``deployed`` configuration with a port and a folder of this test's own."""
    lines = re.sub(r"^listener .*$", f"listener {port} {LOOPBACK}", deployed, flags=re.MULTILINE)
    lines = re.sub(r"^persistence_location .*$", f"persistence_location {folder}/", lines, flags=re.MULTILINE)
    assert lines.count(str(folder)) == 1
    assert lines.count(f"listener {port}") == 1
    # Without it a broker that root starts becomes a user who may not write there.
    return lines + (f"user {getpass.getuser()}\n" if os.geteuid() == 0 else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A mail that the server has accepted, ``at`` of ``time.monotonic``."""

    alert: str
    message_id: str
    at: float


class MailSink:
    """The mail server in its process; a context manager. See benchmarks/bridge_sink.py."""

    def __init__(self, *, offers: Sequence[str] = OFFERS) -> None:
        self._child = Child("benchmarks.bridge_sink")
        self.port: Final[int] = self._child.ask(open={"offers": list(offers)})["port"]

    def be(self, **how: Any) -> None:
        """Be so from now on: ``trouble``, ``delay_s``, ``mails_a_connection``."""
        self._child.ask(be=how)

    def go_away(self) -> None:
        self._child.ask(away=True)

    def come_back(self) -> float:
        """Listen again; return when that was, of ``time.monotonic``."""
        at: float = self._child.ask(away=False)["at"]
        return at

    def arrived(self) -> int:
        """Return how many mails were accepted."""
        return int(self._child.ask(count=True)["mails"])

    def alerts(self) -> int:
        """Return of how many alerts there was a mail."""
        return int(self._child.ask(count=True)["alerts"])

    def connections(self) -> int:
        return int(self._child.ask(count=True)["connections"])

    def mails(self) -> list[Mail]:
        found: list[Mail] = []
        while part := self._child.ask(**{"from": len(found)})["mails"]:
            found += [Mail(alert=alert, message_id=message_id, at=at) for alert, message_id, at in part]
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close()


class Household:
    """Publishes alerts with QoS 1, counts the PUBACKs, reads final outcomes in a session that the broker keeps."""

    def __init__(self, port: int) -> None:
        self._lock = threading.Lock()
        self._acknowledged = 0
        self._asked = 0
        self._outcomes: dict[str, dict[str, Any]] = {}
        self.contradictions: list[str] = []
        ready = threading.Event()
        self._listener = self._client("household", port, persistent=True)
        self._listener.on_message = self._arrived
        self._listener.on_subscribe = lambda *_: ready.set()
        self._listener.subscribe(f"{BASE}/bridge/outcome", 1)
        self._publisher = self._client("", port, persistent=False)
        self._publisher.on_publish = self._published
        for one in (self._listener, self._publisher):
            one.loop_start()
        assert ready.wait(START_S)

    @staticmethod
    def _client(name: str, port: int, *, persistent: bool) -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv5)
        client.reconnect_delay_set(1, 1)
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = SESSION_S if persistent else 0
        # mosquitto 2.0 stores no session that began with a clean start.
        client.connect(LOOPBACK, port, clean_start=not persistent, properties=session)
        return client

    def _arrived(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        outcome = json.loads(message.payload)
        if outcome["event_type"] == "deferred":
            return
        with self._lock:
            if self._outcomes.setdefault(outcome["id"], outcome) != outcome:
                self.contradictions.append(outcome["id"])

    def _published(self, *_: object) -> None:
        with self._lock:
            self._acknowledged += 1

    def publish(self, names: Iterable[str]) -> None:
        """Publish an alert for each of ``names``, as fast as the broker takes them; does not wait for it."""
        for name in names:
            content = {"id": name, "title": name, "message": "Water in the cellar. ".ljust(ALERT_BYTES, "x")}
            self._publisher.publish(f"{BASE}/email/leak", json.dumps(content), qos=1)
            self._asked += 1

    def wait_acknowledged(self) -> None:
        """Wait until the broker has acknowledged all that was published."""

        def done() -> bool:
            with self._lock:
                return self._acknowledged >= self._asked

        until(done, lambda: f"{self._acknowledged} PUBACKs of {self._asked}", PUBLISHED_S)

    def outcomes(self) -> dict[str, dict[str, Any]]:
        """Return the final outcomes so far, by alert."""
        with self._lock:
            return dict(self._outcomes)

    def wait_outcomes(self, names: Collection[str], timeout_s: float) -> dict[str, dict[str, Any]]:
        """Wait for the final outcome of each of ``names``; none may be told in two ways."""

        def missing() -> int:
            return len(set(names) - self.outcomes().keys())

        until(lambda: not missing(), lambda: f"{missing()} of {len(names)} outcomes", timeout_s)
        assert not self.contradictions
        return self.outcomes()

    def close(self) -> None:
        for one in (self._publisher, self._listener):
            one.disconnect()
            one.loop_stop()


def configured(
    folder: Path, broker: Mosquitto, sink: MailSink, *, outbox: Path | None = None, seed: int = 0
) -> Path:
    """Write a hardwire.yaml with nothing but what it must have; ``seed`` above 0 puts faults on the SPI bus."""
    bus = "emulator"
    if seed:
        shutil.copy(faulty_bus.__file__, folder / "faulty_bus.py")
        (folder / "seeded_bus.py").write_text(
            f"from faulty_bus import FaultyBus\n\n\ndef factory():\n    return FaultyBus({seed})\n"
        )
        bus = '"seeded_bus:factory"'
    path = folder / "hardwire.yaml"
    path.write_text(
        f"mqtt: {{host: {LOOPBACK}, port: {broker.port}}}\n"
        f"topics: {{base: {BASE}}}\n"
        f"chip: {{bus: {bus}, network: host}}\n"
        f"relays: [{{host: {LOOPBACK}, port: {sink.port}, security: none}}]\n"
        'sender: "House <house@example.net>"\n'
        "recipients: {alice: alice@example.net}\n"
        'routes: [{topic: "#", to: [alice]}]\n'
        f"outbox: {{path: {outbox or folder / 'outbox.db'}}}\n"
    )
    return path


def begin_session(config: Path) -> None:
    """Have the broker keep a session for the bridge: what is published before the first one goes nowhere."""
    with Process(config) as process:
        process.wait_connected()
        assert process.terminate() == 0


def put_back(process: Process) -> int:
    """Return how many letters had been on the wire at the kill before this start, as the bridge tells it."""
    return sum(int(one) for one in re.findall(r"event=recovered letters=(\d+)", process.said()))


def duplicates(mails: Sequence[Mail]) -> dict[str, int]:
    """Return how many mails too many there are, by alert."""
    return {alert: count - 1 for alert, count in Counter(one.alert for one in mails).items() if count > 1}


def assert_nothing_lost(mails: Sequence[Mail], outcomes: dict[str, dict[str, Any]], names: Sequence[str]) -> None:
    """Every alert has a mail and a success; all mails of an alert are one and the same, and were foretold."""
    message_ids: dict[str, set[str]] = {}
    for one in mails:
        message_ids.setdefault(one.alert, set()).add(one.message_id)
    assert message_ids.keys() == set(names), f"{len(set(names) - message_ids.keys())} alerts have no mail"
    assert {one["event_type"] for one in outcomes.values()} == {"success"}
    assert message_ids == {name: {outcomes[name]["message_id"]} for name in names}
    unsaid = [one for one in duplicates(mails) if not outcomes[one]["possible_duplicate"]]
    assert not unsaid, f"twice, and no word of it: {unsaid}"


def memory_bytes(process: Process) -> int:
    """Return the most memory that the process has had resident (VmHWM)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
