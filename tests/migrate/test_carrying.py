"""Each old key has its place in the new configuration, or a note; and the loader takes what comes of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from plugin.alert import Alert, Message
from plugin.config import Config, Kept, configuration_text, kept_in, load, secrets_text, write_new
from plugin.migrate import COMMENTS, Migration, Notifier, carry
from plugin.migrate.carrying import LEFT_OUT, slug
from plugin.payload import decode
from plugin.route import parse_mailbox
from tests.deploy.home_assistant import render

OLD: dict[str, Any] = {
    "name": "Gmail",
    "server": "smtp.gmail.com",
    "port": 587,
    "sender": "house@gmail.com",
    "recipient": ["alice@example.net", "bob@example.net"],
    "username": "house@gmail.com",
    "password": Kept(name="gmail", text="abcd efgh ijkl mnop"),
}


def carried(*changes: dict[str, Any]) -> Migration:
    """Carry ``OLD`` over, once for each of ``changes``; None takes a key out."""
    merged = [OLD | one for one in changes]
    return carry(
        Notifier(place=f"c.yaml:{line}", keys={key: value for key, value in one.items() if value is not None})
        for line, one in enumerate(merged, 1)
    )


def loaded(folder: Path, migration: Migration) -> Config:
    secrets = secrets_text(kept_in(migration.configuration))
    text = configuration_text(migration.configuration, comments=COMMENTS)
    return load(write_new(folder, {"hardwire.yaml": text, "secrets.yaml": secrets})[0], environ={})


def notes(migration: Migration) -> list[tuple[str, str]]:
    return [(one.place, one.key) for one in migration.notes]


def test_a_usual_block_is_carried_over_whole(tmp_path: Path) -> None:
    migration = carried({})
    assert migration.notes == ()
    config = loaded(tmp_path, migration)
    (relay,) = config.relays
    assert (relay.host, relay.port, relay.security, relay.auth) == ("smtp.gmail.com", 587, "starttls", "required")
    assert relay.username == "house@gmail.com"
    assert relay.password is not None
    assert relay.password.get_secret_value() == "abcd efgh ijkl mnop"
    assert "abcd" not in (tmp_path / "hardwire.yaml").read_text()
    assert config.sender == "house@gmail.com"
    assert config.recipients == {"gmail": ("alice@example.net", "bob@example.net")}
    assert [(one.topic, one.to) for one in config.routes] == [("gmail/#", ("gmail",)), ("#", ("gmail",))]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"encryption": "tls", "port": 465}, {"security": "tls", "port": 465}),
        ({"encryption": "starttls"}, {"security": "starttls"}),
        ({"encryption": "none", "port": 25}, {"security": "none", "port": 25}),
        ({"encryption": None, "port": None}, {"security": "starttls", "port": 587}),
        ({"server": None}, {"host": "localhost"}),
        ({"verify_ssl": True}, {"verify": True}),
        ({"verify_ssl": False}, {"verify": False}),
        ({"verify_ssl": False, "encryption": "none"}, {"verify": True}),
        ({"username": None, "password": None}, {"auth": "none", "username": None, "password": None}),
        ({"username": Kept(name="u", text="me")}, {"username": "me"}),
        ({"server": Kept(name="s", text="h.test")}, {"host": "h.test"}),
        ({"port": Kept(name="p", text="2525")}, {"port": 2525}),
    ],
)  # fmt: skip
def test_what_becomes_of_the_relay(tmp_path: Path, change: dict[str, Any], expected: dict[str, Any]) -> None:
    (relay,) = loaded(tmp_path, carried(change)).relays
    assert {key: getattr(relay, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("change", "key", "says"),
    [
        ({"timeout": 15}, "timeout", "connect_timeout"),
        ({"debug": True}, "debug", "outbox show"),
        ({"verify_ssl": False}, "verify_ssl", "ca_file"),
        ({"encryption": "ssl"}, "encryption", "starttls is written"),
        ({"encryption": "none"}, "encryption", "clear text"),
        ({"username": None}, "password", "without a username"),
        ({"password": None}, "username", "without a password"),
        ({"scan_interval": 5}, "scan_interval", "not known"),
    ],
)
def test_what_has_to_be_told(change: dict[str, Any], key: str, says: str) -> None:
    (note,) = carried(change).notes
    assert (note.place, note.key) == ("c.yaml:1", key)
    assert says in note.text
    assert says in str(note)


def test_a_password_that_could_not_be_read_is_asked_for_by_the_loader(tmp_path: Path) -> None:
    migration = carry([Notifier(place="c.yaml:1", keys=OLD | {"password": None})])
    assert kept_in(migration.configuration) == {"smtp_gmail": ""}
    text = configuration_text(migration.configuration, comments={})
    file = write_new(tmp_path, {"hardwire.yaml": text, "secrets.yaml": ""})[0]
    with pytest.raises(Exception, match=r"secrets\.yaml beside this file has no smtp_gmail"):
        load(file, environ={})


@pytest.mark.parametrize("name", ["House", 'Häus "of" \\ mine'])
def test_the_name_of_the_sender(tmp_path: Path, name: str) -> None:
    assert parse_mailbox(loaded(tmp_path, carried({"sender_name": name})).sender) == (name, "house@gmail.com")


def test_several_notifiers_are_groups_and_routes_of_one_configuration(tmp_path: Path) -> None:
    migration = carried(
        {}, {"name": "Gmail", "recipient": "carol@example.net"}, {"name": None, "recipient": "d@e.net"}
    )
    config = loaded(tmp_path, migration)
    assert config.recipients["gmail_2"] == ("carol@example.net",)
    assert [one.topic for one in config.routes] == ["gmail/#", "gmail_2/#", "notify/#", "#"]
    assert len(config.relays) == 1
    assert notes(migration) == [("c.yaml:2", "name")]


def test_another_relay_and_sender_are_told_not_mixed_in(tmp_path: Path) -> None:
    migration = carried({}, {"name": "isp", "server": "mail.isp.test", "sender": "me@isp.test"})
    config = loaded(tmp_path, migration)
    assert [one.host for one in config.relays] == ["smtp.gmail.com"]
    assert notes(migration) == [("c.yaml:2", "sender"), ("c.yaml:2", "server")]


def test_secrets_of_the_same_name_that_differ_stay_apart(tmp_path: Path) -> None:
    other = {
        "name": "b",
        "password": Kept(name="gmail", text="other"),
        "username": Kept(name="gmail", text="third"),
    }
    migration = carried({}, other)
    assert kept_in(migration.configuration) == {"gmail": "abcd efgh ijkl mnop"}
    reversed_ = carried(other, {})
    assert kept_in(reversed_.configuration) == {"gmail": "third", "gmail_2": "other"}


def test_no_recipient_is_no_route(tmp_path: Path) -> None:
    migration = carried({"recipient": None})
    assert migration.configuration["routes"] == []
    assert notes(migration) == [("c.yaml:1", "recipient")]


def test_pictures_may_come_from_the_folders_that_were_allowed(tmp_path: Path) -> None:
    migration = carry([Notifier(place="c", keys=OLD)], allowed_dirs=["/media"])
    assert loaded(tmp_path, migration).attachments.allowed_dirs == (Path("/media"),)


def test_the_new_action_is_an_alert_on_the_notifiers_topic() -> None:
    (action,) = carried({"name": "Front door"}).actions
    before, after = yaml.safe_load(action.before), yaml.safe_load(action.after)
    assert before == {
        "action": "notify.front_door",
        "data": {"title": "Water leak", "message": "The kitchen floor is wet."},
    }
    assert (after["action"], after["data"]["topic"], after["data"]["qos"]) == (
        "mqtt.publish", "alerts/email/front_door", 1,
    )  # fmt: skip
    message = Message(
        topic=after["data"]["topic"],
        payload=render(after["data"]["payload"]).encode(),
        qos=1, retain=False, dup=False, packet_id=1, connection=1,
        received_at=datetime.now(UTC),
    )  # fmt: skip
    alert = decode(message, base="alerts", alert_id="x", payload_bytes=10**6, forbidden_responses=())
    assert isinstance(alert, Alert)
    assert {"title": alert.title, "message": alert.message} == before["data"]
    assert json.loads(message.payload) == before["data"]


@pytest.mark.parametrize(
    ("name", "action"),
    [("Gmail", "gmail"), ("My  Mail-1", "my_mail_1"), ("Küche", "kuche"), ("_x_", "x"), ("!!", "notify")],
)
def test_names_are_those_of_home_assistants_actions(name: str, action: str) -> None:
    assert slug(name) == action


def test_every_key_of_the_old_integration_is_known() -> None:
    # The keys of its PLATFORM_SCHEMA; platform itself is what finds the block.
    schema = {*OLD, "timeout", "encryption", "sender_name", "debug", "verify_ssl"}
    everything: dict[str, Any] = dict.fromkeys(schema, "x") | OLD
    assert {one.key for one in carried(everything).notes if "not known" in one.text} == set()
    assert set(LEFT_OUT) < schema
