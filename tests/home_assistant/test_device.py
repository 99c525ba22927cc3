"""The device that Hardwire announces, on a real Home Assistant: all of it there, and all of it working."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest

from plugin.demo.mailserver import MailServer
from tests.home_assistant.client import until
from tests.home_assistant.household import STRANGER, Household, text
from tests.journey.house import ALICE, BOB, LOGIN, PASSWORD

SENSORS: Final = {
    "event.hardwire_outcome",
    "sensor.hardwire_last_outcome",
    "sensor.hardwire_last_sent",
    "sensor.hardwire_waiting",
    "sensor.hardwire_oldest_waiting",
    "sensor.hardwire_sent",
    "sensor.hardwire_failed",
    "sensor.hardwire_delivery_time",
    "binary_sensor.hardwire_connected",
    "binary_sensor.hardwire_mail_server_problem",
    "binary_sensor.hardwire_chip_problem",
}
CONTROLS: Final = {"button.hardwire_send_test_mail", "button.hardwire_retry_failed", "switch.hardwire_pause"}
NOTIFIERS: Final = {f"notify.hardwire_{one}" for one in ("alice", "bob", "family", "stranger", "route_all")}
PAST: Final = ("last_outcome", "last_sent", "sent", "failed", "delivery_time")


def registered(house: Household) -> dict[str, dict[str, Any]]:
    """Return what the registry has of our device, by entity id."""
    entries = house.home.command("config/entity_registry/list")
    return {one["entity_id"]: one for one in entries if str(one["unique_id"]).startswith("hardwire_alerts_")}


def device(house: Household) -> dict[str, Any] | None:
    """Return our device in the registry, or None."""
    devices = house.home.command("config/device_registry/list")
    return next((one for one in devices if ["mqtt", "hardwire_alerts"] in one["identifiers"]), None)


def send(house: Household, entity_id: str, message: str) -> None:
    house.home.act("notify.send_message", entity_id=entity_id, message=message)


def recipients(house: Household, message: str) -> list[str]:
    """Return who was written to in the mail that has ``message``."""
    (mail,) = (one for one in house.mails() if message in text(one))
    return sorted(address.addr_spec for address in mail["To"].addresses)


def wait_text(house: Household, message: str) -> None:
    until(lambda: [one for one in house.mails() if message in text(one)], f"a mail with {message!r}")


def settled(house: Household, sensor: str) -> int:
    """Return what a sensor counts, once all that the tests before have sent is counted."""
    status = house.automation.ask("status", {})["data"]
    for _ in range(10):  # more than 60 requests a minute are refused
        if status["health"]["queue"]["waiting"] == 0:
            break
        time.sleep(1)
        status = house.automation.ask("status", {})["data"]
    told = status["info"]["outcomes"]["success" if sensor == "sent" else "failure"]["count"]
    return int(house.home.wait_for(f"sensor.hardwire_{sensor}", str(told))["state"])


def changes(house: Household, since: datetime) -> list[str]:
    """Return the states of the event entity since then, each once: it fires by changing to another time."""
    path = f"history/period/{since.isoformat()}?filter_entity_id=event.hardwire_outcome&no_attributes"
    (states,) = house.home.request("GET", path.replace("+00:00", "Z")) or [[]]
    return sorted({one["state"] for one in states} - {"unknown", "unavailable"})


@pytest.fixture
def changed(house: Household) -> Iterator[Path]:
    """The configuration of the bridge, which a test may change; afterwards it is as before, and announced."""
    before = house.bridge_config.read_text()
    yield house.bridge_config
    house.bridge_config.write_text(before)
    house.restart_bridge()
    until(lambda: set(registered(house)) == SENSORS | CONTROLS | NOTIFIERS, "all entities again")


def test_every_entity_is_there_and_no_other(house: Household) -> None:
    until(lambda: set(registered(house)) == SENSORS | CONTROLS | NOTIFIERS, "all entities")
    found = device(house)
    assert found is not None
    assert (found["name"], found["manufacturer"]) == ("Hardwire", "Hardwire")
    for entity in ("binary_sensor.hardwire_connected", "sensor.hardwire_waiting"):
        house.home.wait_for(entity)
    states = house.home.states()
    assert {states[one]["attributes"]["friendly_name"] for one in NOTIFIERS} == {
        f"Hardwire {one}" for one in ("alice", "bob", "family", "stranger", "Route #")
    }
    assert {
        one: states[one]["state"] for one in sorted(SENSORS | CONTROLS) if states[one]["state"] == "unavailable"
    } == {}


@pytest.mark.parametrize(("entity", "to"), [("alice", [ALICE]), ("family", [ALICE, BOB]), ("route_all", [ALICE])])
def test_a_message_becomes_a_mail(house: Household, entity: str, to: list[str]) -> None:
    message = f'To {entity}: "it\'s {{{{ wet }}}}" ü'
    send(house, f"notify.hardwire_{entity}", message)
    wait_text(house, message)
    assert recipients(house, message) == to
    assert house.mails("Message from Home Assistant")


def test_the_sensors_tell_what_became_of_it(house: Household) -> None:
    sent = settled(house, "sent")
    before = house.home.state("event.hardwire_outcome")
    send(house, "notify.hardwire_alice", "Counted")
    house.home.wait_for("sensor.hardwire_sent", str(sent + 1))
    house.home.wait_for("sensor.hardwire_last_outcome", "success")
    event = until(
        lambda: (
            None if (now := house.home.entity("event.hardwire_outcome")) is None or now["state"] == before else now
        ),
        "the event",
    )
    assert event["attributes"]["event_type"] == "success"
    assert event["attributes"]["topic"] == "alerts/email/notify/alice"
    assert "Counted" not in str(event)
    assert float(house.home.wait_for("sensor.hardwire_delivery_time")["state"]) >= 0
    at = datetime.fromisoformat(house.home.wait_for("sensor.hardwire_last_sent")["state"])
    assert abs(at.timestamp() - time.time()) < 60


def test_what_is_refused_is_a_failure_and_can_be_tried_again(house: Household) -> None:
    failed = settled(house, "failed")
    send(house, "notify.hardwire_stranger", "Is anybody there?")
    house.home.wait_for("sensor.hardwire_failed", str(failed + 1))
    event = house.home.wait_for("event.hardwire_outcome")["attributes"]
    assert event["event_type"] == "failure"
    assert STRANGER in event["reason"] or "User unknown" in event["reason"]
    house.home.act("button.press", entity_id="button.hardwire_retry_failed")
    # All letters go out again that have failed in this house.
    until(lambda: int(str(house.home.state("sensor.hardwire_failed"))) > failed + 1, "another failure")
    house.home.wait_for("sensor.hardwire_last_outcome", "failure")


def test_the_test_mail(house: Household) -> None:
    number = len(house.mails("Test mail"))
    house.home.act("button.press", entity_id="button.hardwire_send_test_mail")
    house.wait_mail("Test mail", number + 1)


def test_the_pause(house: Household) -> None:
    house.home.act("switch.turn_on", entity_id="switch.hardwire_pause")
    house.home.wait_for("switch.hardwire_pause", "on")
    send(house, "notify.hardwire_alice", "Held back")
    house.home.wait_for("sensor.hardwire_waiting", "1")
    assert not [one for one in house.mails() if "Held back" in text(one)]
    house.home.act("switch.turn_off", entity_id="switch.hardwire_pause")
    house.home.wait_for("switch.hardwire_pause", "off")
    wait_text(house, "Held back")
    house.home.wait_for("sensor.hardwire_waiting", "0")
    house.home.wait_for("sensor.hardwire_oldest_waiting", "0")


def test_a_mail_server_that_is_away_is_a_problem_with_a_sentence(house: Household) -> None:
    house.home.wait_for("binary_sensor.hardwire_mail_server_problem", "off")
    house.mail.close()
    send(house, "notify.hardwire_alice", "Later")
    problem = house.home.wait_for("binary_sensor.hardwire_mail_server_problem", "on")
    assert str(house.mail.port) in problem["attributes"]["problem"]
    house.mail = MailServer(users=(ALICE, BOB), login=LOGIN, password=PASSWORD, port=house.mail.port)
    house.home.wait_for("binary_sensor.hardwire_mail_server_problem", "off", timeout_s=90)
    wait_text(house, "Later")


def test_what_is_sent_while_the_bridge_is_down_arrives_and_the_past_stays(house: Household) -> None:
    past = {one: house.home.state(f"sensor.hardwire_{one}") for one in PAST}
    event = house.home.state("event.hardwire_outcome")
    house.stop_bridge()
    house.home.wait_for("binary_sensor.hardwire_connected", "off")
    house.home.wait_for("sensor.hardwire_waiting", "unavailable")
    assert {one: house.home.state(f"sensor.hardwire_{one}") for one in PAST} == past
    assert house.home.state("event.hardwire_outcome") == event
    send(house, "notify.hardwire_alice", "While you were away")
    house.start_bridge()
    wait_text(house, "While you were away")
    house.home.wait_for("binary_sensor.hardwire_connected", "on")


def test_restarts_fire_nothing_twice_and_lose_nothing(house: Household) -> None:
    since = datetime.fromisoformat(house.home.render("{{ utcnow().isoformat() }}"))
    fired = len(changes(house, since))
    restarts = (house.restart_bridge, house.restart_broker, house.restart_home)
    for number, restart in enumerate(restarts, 1):
        restart()
        house.connected()
        house.home.wait_for("binary_sensor.hardwire_connected", "on")
        send(house, "notify.hardwire_alice", f"Restart {number}")
        wait_text(house, f"Restart {number}")
        until(lambda wanted=fired + number: len(changes(house, since)) >= wanted, "the event")  # type: ignore[misc]
    sent = settled(house, "sent")
    house.restart_home()
    house.connected()
    house.home.wait_for("sensor.hardwire_sent", str(sent))
    house.home.wait_for("sensor.hardwire_last_outcome", "success")
    assert len(changes(house, since)) == fired + len(restarts)


def test_a_device_that_somebody_deletes_comes_back(house: Household) -> None:
    before = registered(house)
    found = device(house)
    assert found is not None
    data = {"device_id": found["id"], "config_entry_id": next(iter(found["config_entries"]))}
    # It empties our topic once for each entity, and is surprised by all but the first.
    house.home.foresee("No device components to cleanup for hardwire_alerts")
    # The command that 2026.2 has; later ones have another, and say so.
    house.home.foresee("remove_config_entry is deprecated")
    house.home.command("config/device_registry/remove_config_entry", **data)
    until(lambda: set(registered(house)) == set(before) and device(house), "the device again")
    house.home.wait_for("sensor.hardwire_sent")
    send(house, "notify.hardwire_alice", "Back again")
    wait_text(house, "Back again")


@pytest.mark.parametrize("away", [False, True], ids=["there", "not there"])
def test_who_leaves_the_configuration_leaves_home_assistant(house: Household, changed: Path, away: bool) -> None:
    if away:
        house.home.stop()
    changed.write_text(changed.read_text().replace("bob: bob@", "carol: bob@").replace("[alice, bob]", "[alice]"))
    house.restart_bridge()
    if away:
        house.home.start()
        house.connected()
    renamed = (SENSORS | CONTROLS | NOTIFIERS | {"notify.hardwire_carol"}) - {"notify.hardwire_bob"}
    until(lambda: set(registered(house)) == renamed, f"carol for bob: {sorted(registered(house))}")
    with pytest.raises(AssertionError):
        until(lambda: house.home.state("notify.hardwire_bob"), "bob", 3)


def test_switched_off_the_device_goes(house: Household, changed: Path) -> None:
    changed.write_text(changed.read_text() + "home_assistant: {discovery: false}\n")
    house.restart_bridge()
    until(lambda: not registered(house) and device(house) is None, "nothing of it left")
