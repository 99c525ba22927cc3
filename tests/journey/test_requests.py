"""Requests over MQTT, from the broker to the answer, on the running service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from plugin.alert import Message
from plugin.config import load
from plugin.demo.mailserver import MailServer
from plugin.service import Service
from tests.brokers import CAPABILITIES, AnyBroker, Brokers, Kind, kinds
from tests.journey.house import (
    ALICE,
    BOB,
    WAIT_S,
    Automation,
    Process,
    base_of,
    configured,
    finals,
    mails_by_title,
    publish_all,
    until,
)


@contextmanager
def running(config: Path) -> Iterator[Service]:
    service = Service(load(config))
    service.start()
    try:
        assert service.wait_subscribed(WAIT_S)
        yield service
    finally:
        service.stop()


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_test_mail_goes_the_way_of_every_alert(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path, version: str
) -> None:
    with running(configured(tmp_path, any_broker, mail.port, version=version)):
        answer = automation.ask("test", {"to": ["bob"], "transaction": "first"})
        assert (answer["status"], answer["transaction"], answer["error"]) == ("ok", "first", None)
        outcome = automation.final("test")
    assert outcome["id"] == answer["data"]["id"]
    assert outcome["topic"] == answer["data"]["topic"] == f"{base_of(tmp_path)}/email/test"
    assert [one["address"] for one in outcome["recipients"]] == [BOB]
    assert len(mail.mails) == 1


def test_what_is_wrong_is_answered_with_a_sentence_and_harms_nobody(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path
) -> None:
    with running(configured(tmp_path, any_broker, mail.port)):
        for verb, content, words in (
            ("tset", {}, "there is no request 'tset'"),
            ("test", b"PRESS", "no JSON"),
            ("test", {"to": []}, "to must have"),
            ("reload", {}, "not started from a configuration file"),
        ):
            answer = automation.ask(verb, content)
            assert (answer["status"], answer["data"]) == ("error", None)
            assert words in answer["error"]
        answer = automation.ask("status", {"transaction": 7})
        assert answer["transaction"] == 7
        assert answer["data"]["health"]["queue"]["waiting"] == 0
        assert answer["data"]["info"]["counters"]["accepted"] == 0
    assert not mail.mails


def test_while_paused_alerts_are_accepted_and_no_mail_goes_out_also_after_a_restart(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path
) -> None:
    config = configured(tmp_path, any_broker, mail.port, chip="{bus: emulator, lanes: 2}")
    with running(config) as service:
        assert automation.ask("pause")["data"] == {"paused": True}
        publish_all(automation, ["one", "two"])
        until(lambda: service.health()["queue"]["waiting"] == 2, "acceptance")
    with running(config) as service:
        assert service.health()["paused"] is True
        assert service.info()["paused"] is True
        publish_all(automation, ["three"])
        until(lambda: service.health()["queue"]["waiting"] == 3, "acceptance")
        assert not mail.mails
        assert automation.outcomes.empty()
        assert automation.ask("pause", {"paused": False})["data"] == {"paused": False}
        outcomes = finals(automation, ["one", "two", "three"])
    assert {one["event_type"] for one in outcomes.values()} == {"success"}
    assert len(mail.mails) == 3


@pytest.mark.parametrize(("dup", "mails"), [(True, 1), (False, 2)])
def test_a_test_that_the_broker_gives_again_is_no_second_mail(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path, dup: bool, mails: int
) -> None:
    """The PUBACK was lost, over a restart as well; a new request with the same identifier is a new one."""
    from datetime import UTC, datetime

    def request(*, again: bool) -> Message:
        return Message(
            topic=f"{base_of(tmp_path)}/bridge/request/test",
            payload=b"{}",
            qos=1,
            retain=False,
            dup=again,
            packet_id=9,
            connection=1,
            received_at=datetime.now(UTC),
        )

    config = configured(tmp_path, any_broker, mail.port)
    answers: list[dict[str, Any]] = []
    for again in (False, dup):
        with running(config) as service:
            service._hand_over(request(again=again))
            answers.append(automation.answers.get(timeout=WAIT_S)[1])
            automation.final("test")
    assert len({one["data"]["id"] for one in answers}) == mails
    assert len(mail.mails) == mails


@pytest.mark.parametrize("kind", [one for one in kinds() if CAPABILITIES[one].marks_redelivery])
def test_a_test_that_was_begun_when_the_power_failed_is_one_mail(
    brokers: Brokers, kind: Kind, mail: MailServer, tmp_path: Path
) -> None:
    """The process dies after the alert was stored and before the PUBACK; the broker gives the request again."""
    broker = brokers.get(kind)
    automation = Automation(broker, base_of(tmp_path))
    config = configured(tmp_path, broker, mail.port)
    dying = "import os\nfrom plugin.service.desk import Desk\nDesk._respond = lambda *_, **__: os._exit(9)"
    with Process(config, prelude=dying) as first:
        first.wait_connected()
        automation.request("test")
        assert first.wait() == 9
    with Process(config) as second:
        verb, answer = automation.answers.get(timeout=WAIT_S)
        assert (verb, answer["status"]) == ("test", "ok")
        assert automation.final("test")["id"] == answer["data"]["id"]
        assert second.terminate() == 0
    automation.close()
    assert len(mails_by_title(mail.mails)["Test mail"]) <= 2  # a mail may have been on the wire
    assert len(set(mails_by_title(mail.mails)["Test mail"])) == 1


def test_a_request_that_we_fail_on_is_answered_and_does_not_come_again(
    any_broker: AnyBroker,
    automation: Automation,
    mail: MailServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with running(configured(tmp_path, any_broker, mail.port)) as service:
        monkeypatch.setitem(service._desk._powers, "status", lambda _: {"x": 1 // 0})
        answer = automation.ask("status", b'{"transaction": "\\ud800"}')
        assert answer["error"].startswith(
            "the bridge failed on this request (ZeroDivisionError in test_requests.py"
        )
        assert automation.ask("pause")["status"] == "ok"
        service._clerks.check()


def test_more_requests_than_a_minute_has_room_for_are_refused(
    any_broker: AnyBroker,
    automation: Automation,
    mail: MailServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("plugin.service.desk.PER_MINUTE", 2)
    with running(configured(tmp_path, any_broker, mail.port)):
        states = [automation.ask("status")["status"] for _ in range(3)]
    assert states == ["ok", "ok", "error"]


def test_a_new_configuration_takes_over_and_a_broken_one_does_not(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path
) -> None:
    config = configured(tmp_path, any_broker, mail.port)
    good = config.read_text()
    names = [f"alert {n}" for n in range(30)]
    with Process(config) as process:
        process.wait_connected()
        publish_all(automation, names[:10])
        config.write_text(good + "colour: red\n")
        answer = automation.ask("reload", {"transaction": 1})
        assert answer["status"] == "error"
        assert "hardwire.yaml:" in answer["error"]
        assert "colour: is no known key" in answer["error"]
        until(lambda: automation.health().get("configuration", {}).get("ok") is False, "the refusal in health")
        config.write_text(good.replace("path: outbox.db", "path: other.db"))
        assert "outbox.path cannot change" in automation.ask("reload")["error"]
        config.write_text(good.replace("to: [alice]", "to: [bob]"))
        publish_all(automation, names[10:20])
        answer = automation.ask("reload", {"transaction": 2})
        assert (answer["status"], answer["data"]) == ("ok", {"changed": ["routes"]})
        process.wait_connected(times=2)
        publish_all(automation, names[20:])
        outcomes = finals(automation, names)
        until(lambda: automation.health()["configuration"]["ok"], "health of the new one")
        assert process.terminate() == 0
    assert {one["event_type"] for one in outcomes.values()} == {"success"}
    assert {one["recipients"][0]["address"] for one in list(outcomes.values())} == {ALICE, BOB}
    assert outcomes["alert 29"]["recipients"][0]["address"] == BOB
    titles = [str(message_from_bytes(one)["Subject"]) for one in mail.mails]
    assert sorted(titles) == sorted(names)
    assert "Traceback" not in process.said()


def test_hangup_is_a_reload_and_a_bus_that_is_not_there_brings_the_old_configuration_back(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path
) -> None:
    config = configured(tmp_path, any_broker, mail.port)
    good = config.read_text()
    with Process(config) as process:
        process.wait_connected()
        config.write_text(good.replace("bus: emulator", 'bus: "nowhere:bus"'))
        os.kill(process.pid, signal.SIGHUP)
        process.wait_connected(times=2)
        until(lambda: "nowhere:bus" in str(automation.health().get("configuration")), "the reason in health")
        publish_all(automation, ["still here"])
        assert finals(automation, ["still here"])["still here"]["event_type"] == "success"
        config.write_text("no: [sense\n")
        os.kill(process.pid, signal.SIGHUP)
        until(lambda: "event=reload_refused" in process.said(), "the refusal")
        assert process.terminate() == 0


def outbox(config: Path, *arguments: str) -> Any:
    """Run ``hardwire outbox`` as a process of its own; return what it prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "plugin", "outbox", *arguments, "--json", "--config", str(config)],
        capture_output=True, text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip
    return json.loads(done.stdout) if done.stdout else (done.returncode, done.stderr)


def test_dead_letters_are_tried_again_and_waiting_ones_dropped_while_the_service_runs(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path
) -> None:
    config = configured(
        tmp_path, any_broker, mail.port, outbox="{path: outbox.db, retry: {first: 1h, longest: 1h}}"
    )
    with Process(config) as process:
        process.wait_connected()
        automation.publish("a", {"id": "refused", "title": "R", "to": ["nobody", "alice"]})
        assert automation.final("a")["event_type"] == "failure"
        (letter,) = outbox(config, "list", "--state", "failed")
        assert letter["alert_ids"] == ["refused"]
        number = letter["number"]
        dialogue = outbox(config, "show", str(number))["tries"][0]["transcript"]
        assert any(line.startswith("C: RCPT TO:<nobody@") for line in dialogue)

        # By the command: Alice has it and does not get it again, nobody is nobody still.
        assert outbox(config, "retry", str(number)) == {"letters": 1, "left": []}
        outcome = automation.final("a")
        assert (outcome["event_type"], outcome["attempts"]) == ("failure", 2)
        assert [one["state"] for one in outcome["recipients"]] == ["refused", "accepted"]
        assert len(mail.mails) == 1

        # By MQTT.
        assert automation.ask("retry", {"letters": [number]})["data"] == {"letters": 1, "left": []}
        assert automation.final("a")["attempts"] == 3
        assert automation.ask("retry")["data"]["letters"] == 1
        assert automation.final("a")["attempts"] == 4
        assert "letter 99 is not there" in automation.ask("retry", {"letters": [99]})["error"]
        assert "has failed already" in automation.ask("drop", {"letters": [number]})["error"]

        automation.ask("pause")
        publish_all(automation, ["one", "two", "three"])
        until(lambda: len(outbox(config, "list", "--state", "waiting")) == 3, "acceptance")
        waiting = [one["number"] for one in outbox(config, "list", "--state", "waiting")]
        answer = automation.ask("drop", {"letters": [waiting[0], 99], "transaction": "t"})
        assert answer["data"] == {"letters": 1, "left": [{"letter": 99, "reason": "is not there"}]}
        dropped = automation.final("leak")
        assert (dropped["event_type"], dropped["recipients"][0]["state"]) == ("failure", "dropped")
        assert outbox(config, "drop", "--all") == {"letters": 2, "left": []}
        assert {automation.final("leak")["id"] for _ in range(2)} | {dropped["id"]} == {"one", "two", "three"}
        assert process.terminate() == 0
    assert len(mail.mails) == 1
