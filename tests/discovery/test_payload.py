"""The discovery payload: nothing in it that a Home Assistant from 2026.2 on rejects, and templates that stand."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from plugin.alert import Alert, Message, Outcome
from plugin.discovery import Description, NamedRoute, payload_of, slug
from plugin.outbox.totals import totals_of
from plugin.payload import decode
from tests.discovery.home_assistant import (
    CATEGORIES,
    DEVICE,
    LATER,
    ORIGIN,
    PLATFORMS,
    REQUIRED,
    SHORT_IN_DEVICE,
    SHORT_IN_ORIGIN,
    TOP,
    long,
)

FULL = Description(
    base="alerts",
    prefix="homeassistant",
    version="1.2.3",
    expiry_s=86_400,
    recipients=("alice", "The family", "Jürgen's {{ \"#%}\\ 😀", "中", "route all"),
    routes=(
        NamedRoute(topic_filter="water_leak/#", name="water_leak"),
        NamedRoute(topic_filter="#", name="notify"),
    ),
)
PAYLOAD = payload_of(FULL)
COMPONENTS: dict[str, dict[str, Any]] = PAYLOAD["cmps"]
HEALTH: dict[str, Any] = {
    "queue": {"waiting": 0, "oldest_waiting_s": None, "problem": None},
    "relay": {"ok": True, "problem": None},
    "chip": {"ok": True, "problem": None, "link": None},
    "mqtt": {"connected": True, "problem": None},
    "configuration": {"ok": True, "problem": None},
    "paused": False,
}


def render(template: str, **variables: Any) -> str:
    """Return what Home Assistant makes of ``template``; what it would log as an error is one here."""
    sandbox = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
    return sandbox.from_string(template).render(variables).strip()


def test_no_key_that_makes_home_assistant_reject_all() -> None:
    top = long(PAYLOAD)
    assert top.keys() <= TOP
    assert long(top["device"], SHORT_IN_DEVICE).keys() <= DEVICE
    assert long(top["origin"], SHORT_IN_ORIGIN).keys() <= ORIGIN
    assert "name" in top["origin"]
    assert PAYLOAD["avty"] == [{"t": "alerts/bridge/state"}]


@pytest.mark.parametrize("key", COMPONENTS)
def test_a_component_has_only_keys_that_its_platform_knows(key: str) -> None:
    component = long(COMPONENTS[key])
    platform = component["platform"]
    assert REQUIRED[platform] <= component.keys()
    assert component.keys() - LATER.keys() <= PLATFORMS[platform]
    assert component.get("entity_category", "diagnostic") in CATEGORIES.get(platform, {"diagnostic"})
    assert re.fullmatch(r"[a-zA-Z0-9_-]+", key)
    assert re.fullmatch(rf"{platform}\.hardwire_[a-z0-9_]+", component["default_entity_id"])
    assert component["qos"] == 1
    assert re.fullmatch(r"mdi:[a-z-]+", component.get("icon", "mdi:x"))


def test_identifiers_are_all_different() -> None:
    for name in ("uniq_id", "def_ent_id"):
        assert len({one[name] for one in COMPONENTS.values()}) == len(COMPONENTS)
    assert len({one["cmd_t"] for one in COMPONENTS.values() if one["p"] == "notify"}) == 7


def test_what_is_sent_is_never_dropped_because_the_bridge_is_away() -> None:
    sends = {key for key, one in COMPONENTS.items() if one["p"] == "notify"} | {"send_test_mail"}
    for key in sends:
        assert COMPONENTS[key]["avty"] == []
        assert COMPONENTS[key]["msg_exp_int"] > 0
    assert COMPONENTS["connected"]["avty"] == []
    assert "avty" not in COMPONENTS["mail_server_problem"]


def test_with_mqtt_3_1_1_nothing_expires_for_home_assistant_would_refuse_to_send_it() -> None:
    old = payload_of(dataclasses.replace(FULL, expiry_s=None))["cmps"]
    assert [key for key, one in old.items() if "msg_exp_int" in one] == []
    assert old.keys() == COMPONENTS.keys()


@pytest.mark.parametrize(
    ("base", "name", "entity", "topic"),
    [
        ("alerts", "Hardwire", "sensor.hardwire_sent", "homeassistant/device/hardwire_alerts/config"),
        ("home/Über", "Hardwire home/Über", "sensor.hardwire_home_uber_sent",
         "homeassistant/device/hardwire_home_uber/config"),
    ],
)  # fmt: skip
def test_another_base_is_another_device(base: str, name: str, entity: str, topic: str) -> None:
    described = Description(base=base, prefix="homeassistant", version="1", expiry_s=1)
    made = payload_of(described)
    assert (made["dev"]["name"], made["cmps"]["sent"]["def_ent_id"], described.topic) == (name, entity, topic)
    assert made["cmps"]["sent"]["stat_t"] == f"{base}/bridge/info"


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("alice", "alice"),
        ("The  Family!", "the_family"),
        ("Jürgen", "jurgen"),
        ("中", "a567bdaa"),
        ("_", "d2e2adf7"),
    ],
)
def test_slugs(text: str, made: str) -> None:
    assert slug(text) == made


# --- what the templates make of what the bridge tells -------------------------------------------------------


def state(key: str, told: dict[str, Any]) -> str:
    return render(COMPONENTS[key]["val_tpl"], value_json=told)


def test_before_the_first_outcome_all_is_unknown_or_0() -> None:
    info = {"outcomes": totals_of(None)}
    assert {key: state(key, info) for key in ("last_outcome", "last_sent", "delivery_time", "sent", "failed")} == {
        "last_outcome": "None", "last_sent": "None", "delivery_time": "None", "sent": "0", "failed": "0",
    }  # fmt: skip


def test_after_outcomes() -> None:
    success = {"count": 3, "at": "2026-11-23T10:00:00.210Z", "duration_s": 0.21}
    failure = {"count": 1, "at": "2026-11-24T10:00:00.000Z", "duration_s": 9.0}
    info = {"outcomes": totals_of({"last": "failure", "success": success, "failure": failure})}
    assert {key: state(key, info) for key in ("last_outcome", "last_sent", "delivery_time", "sent", "failed")} == {
        "last_outcome": "failure", "last_sent": "2026-11-23T10:00:00.210Z", "delivery_time": "0.21", "sent": "3",
        "failed": "1",
    }  # fmt: skip


@pytest.mark.parametrize("info", [{"outcomes": None}, {}], ids=["an outbox that cannot be read", "of before"])
def test_totals_that_are_not_there_are_unknown(info: dict[str, Any]) -> None:
    for key in ("last_outcome", "last_sent", "delivery_time", "sent", "failed"):
        assert state(key, info) == "None"


@pytest.mark.parametrize(
    ("queue", "waiting", "oldest"),
    [
        ({"waiting": 0, "oldest_waiting_s": None}, "0", "0"),
        ({"waiting": 2, "oldest_waiting_s": 3.5}, "2", "3.5"),
        ({"waiting": None, "oldest_waiting_s": None}, "None", "None"),
    ],
)
def test_the_queue(queue: dict[str, Any], waiting: str, oldest: str) -> None:
    told = {**HEALTH, "queue": queue}
    assert (state("waiting", told), state("oldest_waiting", told)) == (waiting, oldest)


def test_problems_and_the_pause() -> None:
    trouble = {**HEALTH, "relay": {"ok": False, "problem": 'it\'s "down"'}, "paused": True}
    assert [state(key, HEALTH) for key in ("mail_server_problem", "chip_problem", "pause")] == [
        "OFF",
        "OFF",
        "OFF",
    ]
    assert [state(key, trouble) for key in ("mail_server_problem", "chip_problem", "pause")] == ["ON", "OFF", "ON"]
    attributes = render(COMPONENTS["mail_server_problem"]["json_attr_tpl"], value_json=trouble)
    assert json.loads(attributes) == {"problem": 'it\'s "down"'}


@pytest.mark.parametrize(("subject", "reason"), [(None, None), ("s" * 300, 'the server said "no"' + "x" * 5000)])
def test_an_outcome_is_an_event_with_bounded_attributes(subject: str | None, reason: str | None) -> None:
    now = datetime(2026, 11, 23, 10, tzinfo=UTC)
    outcome = Outcome(
        id="1", name="leak", event_type="failure", topic="alerts/email/leak", subject=subject, reason=reason,
        received_at=now, settled_at=now,
    )  # fmt: skip
    event = json.loads(state("outcome", json.loads(outcome.as_json())))
    assert event["event_type"] in COMPONENTS["outcome"]["evt_typ"]
    assert (event["id"], event["topic"], event["duration_s"]) == ("1", "alerts/email/leak", 0.0)
    assert (event["subject"], event["reason"]) == ((subject or "")[:200], (reason or "")[:1000])
    assert "recipients" not in event


# --- what the notifiers publish -----------------------------------------------------------------------------


def published(key: str, message: str) -> Alert:
    """Return the alert that Home Assistant publishes when ``message`` is sent to the entity."""
    component = COMPONENTS[key]
    text = render(component["cmd_tpl"], value=message)
    alert = decode(
        Message(topic=component["cmd_t"], payload=text.encode(), qos=1, retain=False, dup=False, packet_id=1,
                connection=1, received_at=datetime.now(UTC)),
        base="alerts", alert_id="1", payload_bytes=10_000, forbidden_responses=(),
    )  # fmt: skip
    assert isinstance(alert, Alert), alert
    return alert


@pytest.mark.parametrize(
    ("key", "to"),
    list(zip([one for one in COMPONENTS if one.startswith("notify_")], FULL.recipients, strict=False)),
)
def test_a_recipient_gets_the_message_as_it_is_whatever_the_name(key: str, to: str) -> None:
    message = 'It\'s "wet" {{ here }} \\ ü\n<b>'
    alert = published(key, message)
    assert (alert.message, alert.to) == (message, (to,))
    assert alert.title == "Message from Home Assistant"


def test_a_route_keeps_its_recipients_and_its_subject() -> None:
    alert = published("notify_route_water_leak", "Cellar")
    assert (alert.name, alert.to, alert.title, alert.message) == ("water_leak", None, None, "Cellar")
    assert published("notify_route_all_2", "x").title == "Message from Home Assistant"
