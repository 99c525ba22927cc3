"""docker-compose.yml for real: an alert goes in, a mail comes out, and one that comes too early is kept."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from plugin.demo.broker import LOOPBACK
from tests import brokers
from tests.deploy.containers import WAIT_S, Project, brought_up, hindrance, required, run, until

pytestmark = pytest.mark.timeout(400)  # the image is built in here


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    if reason := hindrance():
        if required():
            pytest.fail(f"HARDWIRE_REQUIRE: compose: {reason}")
        pytest.skip(reason)
    with brought_up() as project:
        yield project


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


def test_an_alert_goes_in_and_a_mail_comes_out(project: Project) -> None:
    with listening(project) as listener:
        listener.publish("alerts/email/water_leak/kitchen", {"title": "Wasser", "message": "Der Boden ist naß."})
        outcome = listener.outcome("alerts/success/water_leak/kitchen")
    assert {one["address"]: one["state"] for one in outcome["recipients"]} == {
        "alice@example.net": "accepted",
        "bob@example.net": "accepted",
    }
    assert outcome["relay"] == "mailpit:1025"
    (caught,) = project.mails(1)
    assert (caught["Subject"], caught["From"]["Address"]) == ("Wasser", "house@example.net")
    assert {one["Address"] for one in caught["To"]} == {"alice@example.net", "bob@example.net"}
    mail = message_from_bytes(project.get(f"/api/v1/message/{caught['ID']}/raw"), policy=policy.default)
    text = mail.get_body(("plain",))
    assert text is not None
    assert "Der Boden ist naß." in text.get_content()
    assert mail["Message-ID"] == outcome["message_id"]


def test_what_cannot_be_sent_survives_and_is_sent_when_the_mail_server_is_back(project: Project) -> None:
    project.compose("stop", "mailpit")
    with listening(project) as listener:
        listener.publish("alerts/email/door", {"title": "Door", "message": "open"})
        deferred = listener.outcome("alerts/deferred/door")
        assert deferred["next_attempt_at"] is not None
        # The outbox is on the volume, so another container finds it.
        project.compose("rm", "--stop", "--force", "hardwire")
        assert listener.next("alerts/bridge/state") == b"offline"
        project.compose("up", "--detach", "--no-build", "hardwire", "mailpit")
        assert listener.next("alerts/bridge/state") == b"online"
        outcome = listener.outcome("alerts/success/door")
    assert (outcome["id"], outcome["attempts"] > 1) == (deferred["id"], True)
    assert project.mails(1)[0]["Subject"] == "Door"


def test_the_bridge_is_nobody_and_its_file_system_is_read_only(project: Project) -> None:
    container = project.compose("ps", "--quiet", "hardwire").strip()
    inspected = json.loads(run("docker", "inspect", container, timeout_s=WAIT_S))[0]
    assert inspected["Config"]["User"] == "10001:10001"
    assert inspected["HostConfig"]["ReadonlyRootfs"] is True
    assert inspected["HostConfig"]["CapDrop"] == ["ALL"]
    assert inspected["HostConfig"]["Init"] is True


@pytest.mark.parametrize(("value", "expected"), [("", False), ("docker", False), ("docker, compose", True)])
def test_ci_requires_it_by_a_word(value: str, expected: bool) -> None:
    assert required({"HARDWIRE_REQUIRE": value}) is expected
    assert "compose" not in brokers.required({"HARDWIRE_REQUIRE": value}), "the word is known there, and no broker"
