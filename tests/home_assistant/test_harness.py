"""The house itself: it runs the version that it says, and every part can be restarted."""

from __future__ import annotations

import json

from tests.home_assistant.household import Household, text
from tests.home_assistant.installation import Installation


def test_it_is_the_version_that_was_asked_for(house: Household, installation: Installation) -> None:
    assert house.home.request("GET", "config")["version"] == installation.version
    assert house.home.command("get_config")["version"] == installation.version


def test_home_assistant_bridge_and_broker_find_each_other_again(house: Household) -> None:
    parts = {
        "nothing": lambda: None,
        "bridge": house.restart_bridge,
        "broker": house.restart_broker,
        "home": house.restart_home,
    }
    for number, (name, restart) in enumerate(parts.items(), 1):
        restart()
        house.connected()
        house.home.act("mqtt.publish", topic="alerts/email/hello", payload=alert(name), qos=1)
        mail = house.wait_mail("Hello", number)
        assert f"after {name}" in text(mail)


def alert(name: str) -> str:
    return json.dumps({"title": "Hello", "message": f"after {name}"})
