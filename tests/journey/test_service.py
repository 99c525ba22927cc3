"""The whole journey over a real broker: an alert in, a mail at a real SMTP server, the outcome back."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from plugin.config import load
from plugin.demo.mailserver import MailServer
from plugin.service import Service
from tests.brokers import AnyBroker
from tests.journey.house import ALICE, BOB, LOGIN, PASSWORD, Automation, configuration, mail_server, until


@contextmanager
def running(config: Path) -> Iterator[Service]:
    service = Service(load(config))
    service.start()
    supervisor = threading.Thread(target=service.supervise)
    supervisor.start()
    try:
        assert service.wait_subscribed(30)
        yield service
    finally:
        service.stop()
        supervisor.join(10)
        assert not supervisor.is_alive()


def parsed(content: bytes) -> EmailMessage:
    mail = message_from_bytes(content, policy=policy.default)
    assert isinstance(mail, EmailMessage)
    return mail


def test_an_alert_becomes_a_mail_and_an_outcome(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path
) -> None:
    with running(configuration(tmp_path, any_broker, mail.port)):
        automation.publish(
            "water_leak", {"id": "w1", "title": "Leak", "message": "Cellar", "severity": "critical"}
        )
        outcome = automation.final("water_leak")
    assert outcome["event_type"] == "success"
    assert (outcome["id"], outcome["route"], outcome["subject"]) == ("w1", "#", "Leak")
    assert outcome["recipients"] == [
        {
            "address": ALICE,
            "state": "accepted",
            "phase": "content",
            "code": 250,
            "enhanced": "2.0.0",
            "text": "Ok: queued as DEMO1",
        }
    ]
    assert (outcome["greeting"], outcome["attempts"], outcome["reason"]) == ("EHLO", 1, None)
    (content,) = mail.mails
    letter = parsed(content)
    assert letter["Subject"] == "Leak"
    assert letter["Message-ID"] == outcome["message_id"]
    assert "Cellar" in letter.get_body(("plain",)).get_content()  # type: ignore[union-attr]


def test_state_info_and_health_are_told(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path
) -> None:
    with running(configuration(tmp_path, any_broker, mail.port)):
        until(lambda: len(automation.retained) == 3, "state, info and health")
        assert automation.retained["bridge/state"] == "online"
        health = json.loads(automation.retained["bridge/health"])
        assert health["chip"] == {"ok": True, "problem": None, "link": None}
        assert health["mqtt"]["connected"] is True
        info = json.loads(automation.retained["bridge/info"])
        assert info["relays"] == [f"127.0.0.1:{mail.port}"]
        assert info["chip"]["model"] == "w5100"
    until(lambda: automation.retained["bridge/state"] == "offline", "offline")


def test_one_bad_recipient_harms_no_other(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path
) -> None:
    config = configuration(tmp_path, any_broker, mail.port, routes='[{topic: "#", to: [alice, nobody, bob]}]')
    with running(config):
        automation.publish("x", b"text")
        outcome = automation.final("x")
    assert outcome["event_type"] == "failure"
    assert [one["state"] for one in outcome["recipients"]] == ["accepted", "refused", "accepted"]
    assert outcome["recipients"][1]["code"] == 550
    assert "nobody@" in outcome["reason"]
    assert len(mail.mails) == 1


def test_a_login_and_the_helo_fallback(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path
) -> None:
    relay = (
        f"[{{host: 127.0.0.1, port: {mail.port}, security: none, auth: preferred, username: {LOGIN}, "
        f'password: "{PASSWORD}"}}]'
    )
    with running(configuration(tmp_path, any_broker, mail.port, relays=relay)):
        automation.publish("one", b"text")
        one = automation.final("one")
        mail.forget_ehlo()
        automation.publish("two", b"text")
        two = automation.final("two")
    assert (one["greeting"], one["authenticated"]) == ("EHLO", True)
    assert (two["greeting"], two["authenticated"]) == ("HELO", False)
    assert [outcome["event_type"] for outcome in (one, two)] == ["success", "success"]


def test_a_wrong_password_is_told_and_the_mail_waits(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path
) -> None:
    relay = f"[{{host: 127.0.0.1, port: {mail.port}, security: none, username: {LOGIN}, password: not-the-one}}]"
    with running(configuration(tmp_path, any_broker, mail.port, relays=relay)) as service:
        automation.publish("one", b"text")
        topic, outcome = automation.next()
        assert topic in ("deferred/one", "bridge/outcome")
        assert (outcome["recipients"][0]["phase"], outcome["recipients"][0]["code"]) == ("auth", 535)
        assert outcome["next_attempt_at"] is not None
        until(lambda: service.health()["relay"]["ok"] is False, "a relay problem in health")
        assert "535" in service.health()["relay"]["problem"]
        assert "not-the-one" not in json.dumps(service.health()) + json.dumps(outcome)
    assert mail.mails == ()


def test_a_relay_that_is_away_is_waited_for(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path
) -> None:
    mail.close()
    with running(configuration(tmp_path, any_broker, mail.port)):
        automation.publish("one", b"text")
        _, outcome = automation.next()
        assert outcome["event_type"] == "deferred"
        assert outcome["recipients"][0]["phase"] == "connect"
        with MailServer(users=(ALICE, BOB), login=LOGIN, password=PASSWORD, port=mail.port) as back:
            outcome = automation.final("one")
            assert outcome["event_type"] == "success"
            assert outcome["attempts"] >= 2
            assert len(back.mails) == 1


def test_the_next_relay_takes_over(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path
) -> None:
    with mail_server() as gone:
        closed_port = gone.port
    relays = (
        f"[{{host: 127.0.0.1, port: {closed_port}, security: none}}, "
        f"{{host: 127.0.0.1, port: {mail.port}, security: none}}]"
    )
    with running(configuration(tmp_path, any_broker, mail.port, relays=relays)):
        automation.publish("one", b"text")
        outcome = automation.final("one")
    assert outcome["event_type"] == "success"
    assert outcome["relay"] == f"127.0.0.1:{mail.port}"


def test_a_response_topic_is_answered(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path
) -> None:
    with running(configuration(tmp_path, any_broker, mail.port)):
        automation.publish("one", {"id": "r1"}, correlation=b"\x01\x02")
        _, correlation, outcome = automation.responses.get(timeout=30)
    assert correlation == b"\x01\x02"
    assert (outcome["id"], outcome["event_type"]) == ("r1", "success")


def test_a_repeat_is_answered_but_not_mailed(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path
) -> None:
    with running(configuration(tmp_path, any_broker, mail.port)):
        automation.publish("one", {"id": "same", "message": "first"})
        first = automation.final("one")
        automation.publish("one", {"id": "same", "message": "second"})
        second = automation.final("one")
        automation.publish("one", {"id": "same", "state": "resolved"})
        third = automation.final("one")
    assert second == first
    assert third["message_id"] != first["message_id"]
    assert len(mail.mails) == 2


@pytest.mark.parametrize(
    ("payload", "subject", "text"),
    [
        (b"\xff\xfebroken", "Odd", "\ufffd\ufffdbroken"),
        (json.dumps({"title": "a\r\nBcc: x@example.net", "message": "m"}).encode(), "a Bcc: x@example.net", "m"),
        (b"x" * 3000, "Odd", "x" * 3000),
        (b"", "Odd", "Odd"),
    ],
    ids=["not UTF-8", "line break in the title", "3,000 characters in a line", "empty"],
)
def test_odd_input_is_mailed_all_the_same(
    any_broker: AnyBroker,
    automation: Automation,
    mail: MailServer,
    tmp_path: Path,
    payload: bytes,
    subject: str,
    text: str,
) -> None:
    with running(configuration(tmp_path, any_broker, mail.port)):
        automation.publish("odd", payload)
        assert automation.final("odd")["event_type"] == "success"
    (content,) = mail.mails
    letter = parsed(content)
    assert letter["Subject"] == subject
    assert letter["Bcc"] is None
    assert text in letter.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert max(len(line) for line in content.split(b"\r\n")) <= 998


def test_an_attachment_of_one_mebibyte_arrives_whole(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path
) -> None:
    data = bytes(range(256)) * 4096
    attachment = {"filename": "all.bin", "data": base64.b64encode(data).decode()}
    with running(configuration(tmp_path, any_broker, mail.port)):
        automation.publish("big", {"message": "m", "attachments": [attachment]})
        assert automation.final("big")["event_type"] == "success"
    (content,) = mail.mails
    (part,) = parsed(content).iter_attachments()
    assert part.get_content() == data


def test_what_is_no_alert_fails_with_a_reason(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path
) -> None:
    config = configuration(
        tmp_path, any_broker, mail.port, routes="[{topic: known/#, to: [alice]}]", limits="{payload_bytes: 2000}"
    )
    with running(config):
        for name, payload, words in (
            ("known/list", b"[1]", "JSON array"),
            ("known/type", b'{"data": 5}', "data must be an object"),
            ("known/to", b'{"to": "x@elsewhere.example"}', "allow_recipients"),
            ("known/big", b"x" * 2001, "limits.payload_bytes"),
            ("known/file", b'{"attachments": [{"path": "/etc/passwd"}]}', "attachments[0].path"),
            ("unknown", b"x", "no route"),
        ):
            automation.publish(name, payload)
            outcome = automation.final(name)
            assert outcome["event_type"] == "failure", name
            assert words in outcome["reason"], name
    assert mail.mails == ()
