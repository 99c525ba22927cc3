"""The blueprints of ha_config, one automation of each (house.yaml), and a phone that is told of failures."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from plugin.demo.broker import LOOPBACK
from tests.home_assistant.client import until
from tests.home_assistant.household import Household, parts, text
from tests.home_assistant.pictures import SMALL
from tests.journey.house import ALICE, BOB


def test_an_alert_and_its_end_are_one_thread(house: Household) -> None:
    house.tell("smoke", "OFF")
    house.home.wait_for("binary_sensor.smoke", "off")
    house.tell("smoke", "ON")
    alert = house.wait_mail("Smoke!")
    house.tell("smoke", "OFF")
    over = house.wait_mail("Smoke!: over")
    assert over["In-Reply-To"] == alert["In-Reply-To"] == over["References"]
    assert "off again" in text(over)


def test_without_a_memory_a_restart_is_no_news(house: Household) -> None:
    house.tell("smoke", "OFF")
    house.home.wait_for("binary_sensor.smoke", "off")
    count = len(house.mails("Smoke!"))
    house.tell("smoke", "ON")
    until(lambda: len(house.mails("Smoke!")) == count + 1, "the alert")
    house.restart_home()
    house.connected()
    house.home.wait_for("binary_sensor.smoke", "on")
    house.no_more_mails("Smoke!", count + 1)


def test_with_a_memory_nothing_is_missed_and_nothing_told_twice(house: Household) -> None:
    house.tell("freezer", "OFF")
    house.home.wait_for("binary_sensor.freezer", "off")
    # It begins while Home Assistant is not there.
    house.home.stop()
    house.tell("freezer", "ON")
    house.home.start()
    alert = house.wait_mail("Freezer")
    assert (str(alert["To"]), alert["X-Priority"]) == (f"{ALICE}, {BOB}", "2 (High)")
    assert "The freezer is warm." in text(alert)
    house.restart_bridge()
    house.restart_broker()
    house.connected()
    house.home.act("automation.trigger", entity_id="automation.freezer", skip_condition=False)
    house.no_more_mails("Freezer", 1)
    # It is over while the bridge is not there.
    house.stop_bridge()
    house.tell("freezer", "OFF")
    house.home.wait_for("input_text.freezer_told", "")
    house.start_bridge()
    over = house.wait_mail("Freezer: over")
    assert over["References"] == alert["References"]
    house.no_more_mails("Freezer", 2)


def test_a_bell_mails_the_picture_and_not_again_at_once(house: Household) -> None:
    house.show("porch", SMALL)
    house.tell("bell", "OFF")
    house.home.wait_for("binary_sensor.bell", "off")
    for _ in range(2):
        house.tell("bell", "ON")
        house.home.wait_for("binary_sensor.bell", "on")
        house.tell("bell", "OFF")
        house.home.wait_for("binary_sensor.bell", "off")
    mail = house.wait_mail("Somebody rings")
    assert str(mail["To"]) == BOB
    (shown,) = parts(mail, "image/jpeg")
    assert shown.get_content() == SMALL
    house.no_more_mails("Somebody rings", 1)


@pytest.fixture
def phone(house: Household) -> Iterator[list[dict[str, Any]]]:
    """A phone with the app, and an automation of the blueprint for it; what it is told comes into the list."""
    told: list[dict[str, Any]] = []

    class Push(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer((LOOPBACK, 0), Push) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            house.home.request("POST", "mobile_app/registrations", registration(server.server_port))
            house.home.request("POST", "config/automation/config/phone", automation(phone_of(house)))
            house.home.wait_for("automation.phone", "on")
            yield told
        finally:
            house.home.request("DELETE", "config/automation/config/phone")
            server.shutdown()
            serving.join()


def registration(port: int) -> dict[str, Any]:
    return {
        "app_id": "io.example.phone",
        "app_name": "Phone",
        "app_version": "1",
        "device_id": "phone",
        "device_name": "Phone",
        "manufacturer": "Nobody",
        "model": "One",
        "os_name": "None",
        "os_version": "1",
        "supports_encryption": False,
        "app_data": {"push_token": "token", "push_url": f"http://{LOOPBACK}:{port}/push"},
    }


def phone_of(house: Household) -> str:
    devices = house.home.command("config/device_registry/list")
    return next(str(one["id"]) for one in devices if one["name"] == "Phone")


def automation(device_id: str) -> dict[str, Any]:
    path = "hardwire/failed_mail_to_phone.yaml"
    return {"alias": "Phone", "use_blueprint": {"path": path, "input": {"phone": device_id}}}


def test_a_phone_is_told_of_a_mail_that_failed(house: Household, phone: list[dict[str, Any]]) -> None:
    house.automation.publish("fine", {"id": "phone-1", "title": "Fine", "message": "x"})
    house.wait_mail("Fine")
    house.automation.publish("lost", {"id": "phone-2", "title": "Lost", "message": "x", "to": "stranger"})
    until(lambda: phone, "the phone is told")
    (told,) = phone
    assert told["title"] == "Mail not delivered: Lost"
    assert "550" in told["message"]
    assert told["data"] == {"tag": "hardwire-phone-2", "group": "hardwire"}
