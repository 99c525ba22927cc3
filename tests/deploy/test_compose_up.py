"""docker-compose.yml for real: an alert goes in, a mail comes out, and one that comes too early is kept."""

from __future__ import annotations

import json
from email import message_from_bytes, policy

import pytest

from tests import brokers
from tests.deploy.containers import WAIT_S, Project, required, run
from tests.deploy.listener import listening

pytestmark = pytest.mark.timeout(400)  # the image is built in here


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
        project.compose("rm", "--stop", "--force", "-v", "hardwire")
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
