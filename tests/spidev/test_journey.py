"""Alerts as their user has them: broker, ``hardwire run``, an SPI device that comes late, a mail server."""

from __future__ import annotations

import json
from email import message_from_bytes, policy
from pathlib import Path

import pytest

from plugin.demo.mailserver import MailServer
from tests.brokers import AnyBroker
from tests.journey.house import ALICE, Automation, Process, configuration, until
from tests.spidev.rig import DEVICE, Rig

MIB = 1 << 20


def test_an_alert_becomes_a_mail_of_a_mebibyte(
    rig: Rig,
    any_broker: AnyBroker,
    automation: Automation,
    mail: MailServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chip = f"{{bus: spidev, device: {DEVICE}, network: {{address: 127.0.0.10/8}}, lanes: 1}}"
    config = configuration(tmp_path, any_broker, mail.port, chip=chip)
    for name, value in rig.environment(bufsiz=65536).items():
        monkeypatch.setenv(name, value)
    there = rig.chip.path
    away = there.rename(there.with_name("away"))
    with Process(config) as process:
        until(lambda: automation.retained.get("bridge/state") == "online", "online")
        automation.publish("early", {"id": "early", "title": "Early", "message": "no device yet"})
        topic, outcome = automation.next()
        assert topic == "deferred/early"
        assert f"{DEVICE} cannot be opened as an SPI device" in outcome["recipients"][0]["text"]
        away.rename(there)
        assert automation.final("early")["event_type"] == "success"

        automation.publish("leak", {"id": "leak", "title": "Leak", "message": "x" * MIB})
        outcome = automation.final("leak")
        assert (outcome["event_type"], outcome["attempts"]) == ("success", 1)
        assert [(one["address"], one["code"]) for one in outcome["recipients"]] == [(ALICE, 250)]
        until(lambda: json.loads(automation.retained["bridge/health"])["chip"]["problem"] is None, "health")
        assert process.terminate() == 0
    early, leak = mail.mails
    assert b"Subject: Early" in early
    (whole,) = message_from_bytes(leak, policy=policy.default).iter_attachments()  # as long texts travel
    assert whole.get_content().strip() == "x" * MIB
    assert len(leak) > MIB
    assert max(len(call.assertions) for call in rig.chip.calls) == 511
    assert "Traceback" not in process.log.read_text()
