"""What the blueprints decide, without Home Assistant: an alert on a binary sensor, and what it publishes."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, Final

import pytest

from plugin.alert import Alert
from tests.deploy.home_assistant import NOW, ROOT, States, lenient, load, sensor, within
from tests.ha_config.test_package import understood

ALERT: Final = load(ROOT / "ha_config/blueprints/automation/hardwire/alert_on_binary_sensor.yaml")
SNAPSHOT: Final = load(ROOT / "ha_config/blueprints/automation/hardwire/camera_snapshot.yaml")


def change(trigger: str, state: str, *, since_s: float = 100, told: str | None = None, before: str = "off") -> str:
    """Return what the blueprint decides; ``told`` is what the memory holds, None is no memory."""
    watched = sensor("Sink", state, None, last_changed=NOW - timedelta(seconds=since_s))
    memory = {} if told is None else {"input_text__told": sensor("Told", told or "unknown", None)}
    return lenient(
        ALERT["variables"]["change"],
        sensor="binary_sensor.sink",
        memory="" if told is None else "input_text.told",
        told=told or "",
        on_for={"seconds": 0},
        off_for={"minutes": 1},
        trigger={"id": trigger, "from_state": sensor("Sink", before, None)},
        **within(States(binary_sensor__sink=watched, **memory)),
    )


@pytest.mark.parametrize(
    ("trigger", "state", "before", "expected"),
    [
        ("firing", "on", "off", "firing"),
        ("firing", "on", "unavailable", ""),  # a restart is no news
        ("firing", "on", "unknown", ""),
        ("resolved", "off", "on", "resolved"),
        ("resolved", "off", "unavailable", ""),
        ("look", "on", "off", ""),
        ("look", "off", "on", ""),
    ],
)
def test_without_a_memory_the_way_of_the_sensor_decides(
    trigger: str, state: str, before: str, expected: str
) -> None:
    assert change(trigger, state, before=before) == expected


@pytest.mark.parametrize("trigger", ["firing", "resolved", "look"])
@pytest.mark.parametrize(
    ("state", "since_s", "told", "expected"),
    [
        ("on", 0, "", "firing"),
        ("on", 9999, "x", ""),
        ("off", 9999, "", ""),
        ("off", 60, "x", "resolved"),
        ("off", 5, "x", ""),
        ("unavailable", 9999, "x", ""),
        ("unavailable", 9999, "", ""),
    ],
)
def test_with_a_memory_what_was_told_and_what_is_now_decide(
    trigger: str, state: str, since_s: float, told: str, expected: str
) -> None:
    assert change(trigger, state, since_s=since_s, told=told, before="unavailable") == expected


def published(change: str, **inputs: Any) -> Alert:
    (action,) = ALERT["actions"][1]["then"]
    variables = {
        "sensor": "binary_sensor.sink",
        "change": change,
        "alert_id": "a-1",
        "name": "Sink",
        "alert_message": "Wet.",
        "recovery_message": "Dry.",
        "severity": "critical",
        "recipients": [],
        **inputs,
    }
    return understood(
        lenient(action["data"]["topic"], **variables), lenient(action["data"]["payload"], **variables)
    )


def test_an_alert_and_its_end_have_one_identity_and_one_thread() -> None:
    firing, resolved = published("firing"), published("resolved")
    assert (firing.id, firing.thread, firing.name) == (resolved.id, resolved.thread, resolved.name)
    assert (firing.state, firing.severity, firing.message) == ("firing", "critical", "Wet.")
    assert (resolved.state, resolved.severity, resolved.message) == ("resolved", "info", "Dry.")


@pytest.mark.parametrize(("given", "to"), [([], None), (["family"], ("family",))])
def test_without_recipients_the_route_decides(given: list[str], to: tuple[str, ...] | None) -> None:
    assert published("firing", recipients=given).to == to


@pytest.mark.parametrize(("ago_s", "expected"), [(None, "True"), (59, "False"), (60, "True")])
def test_a_picture_is_not_mailed_again_at_once(ago_s: int | None, expected: str) -> None:
    last = None if ago_s is None else NOW - timedelta(seconds=ago_s)
    condition = SNAPSHOT["conditions"][0]["value_template"]
    said = lenient(
        condition,
        this={"attributes": {"last_triggered": last}},
        quiet={"minutes": 1},
        as_timestamp=lambda value, default: value.timestamp() if value else default,
    )
    assert json.loads(said.lower()) is (expected == "True")
