"""The package for Home Assistant: its topics are the contract's, what it publishes is an alert."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from plugin.alert import Alert, EventType, Message, Outcome, RecipientOutcome
from plugin.payload import decode
from tests.deploy.home_assistant import PACKAGES, Tagged, environment, lenient, load, render, sensor, templates

PACKAGE = load(PACKAGES / "hardwire.yaml")
SCRIPT = PACKAGE["script"]["notify_email"]
WAIT, PUBLISH = (branch["sequence"] for branch in SCRIPT["sequence"][0]["parallel"])
AUTOMATIONS = {one["id"]: one for one in PACKAGE["automation"]}
ENTITIES = [one for kind in PACKAGE["mqtt"].values() for one in kind]
STATUS_TOPICS = {
    "alerts/bridge/state",
    "alerts/bridge/health",
    "alerts/bridge/outcome",
    "alerts/success/#",
    "alerts/failure/#",
}
HEALTH = {
    "queue": {"waiting": 3, "oldest_waiting_s": 12.5},
    "relay": {"ok": False, "problem": "smtp.example.net:587 refuses us"},
    "chip": {"ok": True, "problem": None, "link": None},
    "mqtt": {"connected": True},
}
AT = datetime(2026, 11, 23, 10, tzinfo=UTC)


def find(value: Any, key: str) -> list[Any]:
    """Return every value that stands under ``key``, at any depth."""
    if isinstance(value, dict):
        return [one for name, one in value.items() if name == key] + [
            one for inner in value.values() for one in find(inner, key)
        ]
    return [one for inner in value for one in find(inner, key)] if isinstance(value, list) else []


def understood(topic: str, payload: str) -> Alert:
    """Return the alert that the bridge makes of a payload; anything else fails the test."""
    message = Message(
        topic=topic,
        payload=payload.encode(),
        qos=1,
        retain=False,
        dup=False,
        packet_id=1,
        connection=1,
        received_at=AT,
    )
    alert = decode(message, base="alerts", alert_id="none", payload_bytes=1_000_000, forbidden_responses=())
    assert isinstance(alert, Alert), alert
    assert alert.warnings == ()
    return alert


def published(**fields: Any) -> Alert:
    """Return the alert that the script publishes when it is called with ``fields``."""
    action = PUBLISH[0]
    assert action["action"] == "mqtt.publish"
    alert_id = lenient(SCRIPT["variables"]["alert_id"], **fields)
    variables = fields | {"alert_id": alert_id}
    return understood(
        lenient(action["data"]["topic"], **variables),
        lenient(action["data"]["payload"], **variables),
    )


def test_file_names_are_slugs_as_home_assistant_demands() -> None:
    names = [path.stem for path in PACKAGES.iterdir()]
    assert names == ["hardwire"]
    assert all(name.replace("_", "a").isalnum() and name.islower() for name in names)


@pytest.mark.parametrize(("where", "text"), list(templates(PACKAGE)), ids=lambda value: str(value)[:60])
def test_every_template_parses_and_knows_its_filters(where: str, text: str) -> None:
    # An unknown filter or test is an error here already, not only when the template is rendered.
    code = environment().compile(text, name=where, raw=True)
    assert "def root" in code


def test_the_package_holds_no_tag_that_a_user_would_have_to_fill() -> None:
    def tags(value: Any) -> list[Tagged]:
        if isinstance(value, dict):
            return [tag for one in value.values() for tag in tags(one)]
        if isinstance(value, list):
            return [tag for one in value for tag in tags(one)]
        return [value] if isinstance(value, Tagged) else []

    assert tags(PACKAGE) == []


def test_only_topics_of_the_contract() -> None:
    published_to = {
        one["data"]["topic"] for one in find(PACKAGE, "actions")[0] if one.get("action") == "mqtt.publish"
    }
    assert published_to == {"alerts/email/water_leak"}
    assert PUBLISH[0]["data"]["topic"].startswith("alerts/email/{{ ")
    read = {
        topic
        for key in ("state_topic", "json_attributes_topic", "topic")
        for topic in find(PACKAGE, key)
        if isinstance(topic, str) and not topic.startswith("alerts/email/")
    }
    assert read == STATUS_TOPICS


def test_alerts_leave_with_qos_1_and_are_never_retained() -> None:
    calls = [one for one in find(PACKAGE, "data") if isinstance(one, dict) and "payload" in one]
    assert len(calls) == 2
    assert all(data["qos"] == 1 and data["retain"] is False for data in calls)


def test_all_that_is_read_is_read_with_qos_1() -> None:
    triggers = [
        one for one in find(PACKAGE, "triggers")[1] + WAIT[0]["wait_for_trigger"] if one["trigger"] == "mqtt"
    ]
    assert len(triggers) == 3
    assert all(one["qos"] == 1 for one in triggers + ENTITIES)


def test_nothing_that_home_assistant_2026_2_does_not_know() -> None:
    text = (PACKAGES / "hardwire.yaml").read_text()
    for newer in ("message_expiry_interval", "event.received", "visible_by_default", "smtp."):
        assert newer not in text


# The script


def test_the_script_has_the_fields_people_expect() -> None:
    assert list(SCRIPT["fields"]) == [
        "title", "message", "to", "severity", "state", "thread", "data", "attachments", "topic", "id", "timeout",
    ]  # fmt: skip
    assert SCRIPT["fields"]["message"]["required"] is True
    assert all(one["description"] and one["selector"] for one in SCRIPT["fields"].values())
    assert SCRIPT["mode"] == "parallel"


def test_a_call_with_a_message_alone_leaves_the_rest_to_the_route() -> None:
    alert = published(message="The sensor is wet.")
    assert alert.message == "The sensor is wet."
    assert (alert.title, alert.to, alert.severity, alert.thread, alert.attachments) == (None, None, None, None, ())
    assert alert.state == "firing"
    assert alert.name == "home_assistant"
    assert alert.id.startswith("ha-1795428000.123456-")


def test_a_call_with_everything_arrives_as_it_was_given() -> None:
    alert = published(
        title='Über "x"',
        message="line 1\nline 2 'quoted' \\ {{ 1 }}",
        to=["family", "bob@example.net"],
        severity="warning",
        state="resolved",
        thread="kitchen",
        data={"humidity": 97.5, "window": None},
        attachments=[{"path": "/media/door.jpg"}],
        topic="water_leak/kitchen",
        id="leak-1",
    )
    assert (alert.id, alert.state, alert.severity, alert.thread) == ("leak-1", "resolved", "warning", "kitchen")
    assert alert.title == 'Über "x"'
    assert alert.message == "line 1\nline 2 'quoted' \\ {{ 1 }}"
    assert alert.to == ("family", "bob@example.net")
    assert alert.data == {"humidity": 97.5, "window": None}
    assert alert.attachments[0].path == "/media/door.jpg"
    assert alert.name == "water_leak/kitchen"


def test_numbers_that_templates_made_are_texts_again() -> None:
    alert = published(title=42, message=21.5, id=5, to="alice")
    assert (alert.title, alert.message, alert.id, alert.to) == ("42", "21.5", "5", ("alice",))


@pytest.mark.parametrize("empty", ["", None])
def test_a_field_left_empty_in_the_editor_counts_as_not_given(empty: object) -> None:
    alert = published(
        message="x", title=empty, to=empty, severity=empty, state=empty, thread=empty, topic=empty, id=empty
    )
    assert (alert.title, alert.to, alert.severity, alert.thread) == (None, None, None, None)
    assert (alert.state, alert.name) == ("firing", "home_assistant")
    assert alert.id.startswith("ha-")


def test_two_calls_in_the_same_microsecond_have_ids_of_their_own() -> None:
    ids = {lenient(SCRIPT["variables"]["alert_id"]) for _ in range(50)}
    assert len(ids) > 45


def test_the_wait_stands_before_the_publication_and_on_filters_that_are_subscribed_already() -> None:
    triggers = WAIT[0]["wait_for_trigger"]
    waited = [one["topic"] for one in triggers]
    assert waited == ["alerts/success/#", "alerts/failure/#"]
    # Home Assistant needs up to a second for a filter that is new to it: these must be in use all the time.
    standing = {one["state_topic"] for one in ENTITIES} | {
        one["topic"] for one in AUTOMATIONS["hardwire_package_failure"]["triggers"]
    }
    assert set(waited) <= standing
    assert WAIT[0]["continue_on_timeout"] is True


@pytest.mark.parametrize(
    ("payload", "taken"),
    [
        ('{"id": "a-1", "event_type": "success"}', True),
        ('{"id": "a-2", "event_type": "success"}', False),
        ("{}", False),
        ("null", False),
        ("5", False),
        ("not json", False),
    ],
)
def test_the_wait_takes_the_outcome_of_its_own_alert_only(payload: str, taken: bool) -> None:
    try:
        variables = {"value_json": json.loads(payload), "value": payload}
    except ValueError:
        variables = {"value": payload}  # so does Home Assistant: value_json is not there
    for trigger in WAIT[0]["wait_for_trigger"]:
        wanted = render(trigger["payload"], alert_id="a-1")
        assert (lenient(trigger["value_template"], **variables) == wanted) is taken


def outcome(
    event_type: EventType, reason: str | None = None, recipients: tuple[RecipientOutcome, ...] = ()
) -> dict[str, Any]:
    return Outcome(
        id="a-1",
        name="x",
        event_type=event_type,
        topic="alerts/email/x",
        reason=reason,
        recipients=recipients,
        received_at=AT,
    ).as_dict()


@pytest.mark.parametrize(
    ("given", "state", "reason"),
    [
        (outcome("success"), "success", "None"),
        (outcome("failure", reason="No such user."), "failure", "No such user."),
        (None, "timeout", "No outcome within 5 s; the alert is still on its way."),
    ],
)
def test_the_script_returns_state_and_reason(given: dict[str, Any] | None, state: str, reason: str) -> None:
    result = SCRIPT["sequence"][1]["variables"]["result"]
    assert set(result) == {"state", "id", "reason", "outcome"}
    assert render(result["state"], outcome=given) == state
    assert render(result["reason"], outcome=given, timeout=5) == reason
    assert SCRIPT["sequence"][-1]["response_variable"] == "result"


def test_every_wait_has_a_deadline() -> None:
    timeout = WAIT[0]["timeout"]["seconds"]
    assert lenient(timeout) == "60.0"
    assert lenient(timeout, timeout=2) == "2.0"


# The automations


def leak(trigger_id: str, sensors: list[Any]) -> Alert:
    automation = AUTOMATIONS["hardwire_package_water_leak"]
    state = sensor("Water leak", "on", None)
    trigger = {"id": trigger_id, "to_state": state, "from_state": state}
    variables = automation["actions"][0]["variables"]
    began = render(variables["began"], trigger=trigger)
    names = environment().compile_expression(variables["sensors"].strip().removeprefix("{{").removesuffix("}}"))(
        states={"binary_sensor": sensors}
    )
    data = automation["actions"][1]["data"]
    return understood(data["topic"], render(data["payload"], trigger=trigger, began=began, sensors=names))


def test_a_water_leak_names_the_wet_sensors() -> None:
    alert = leak(
        "firing",
        [
            sensor("Kitchen", "on", "moisture"),
            sensor("Cellar", "off", "moisture"),
            sensor("Door", "on", "door"),
            sensor("Other", "on", None),
        ],
    )
    assert alert.title == "Water leak: Kitchen"
    assert (alert.state, alert.severity, alert.name) == ("firing", "critical", "water_leak")
    assert alert.data == {"sensors": ["Kitchen"], "since": "2026-11-23T10:00:00+00:00"}


def test_a_water_leak_and_its_end_are_one_alert_in_two_states() -> None:
    firing, resolved = leak("firing", []), leak("resolved", [])
    assert firing.id == resolved.id == "water_leak-2026-11-23T10:00:00+00:00"
    assert (firing.state, resolved.state) == ("firing", "resolved")
    assert firing.title == "Water leak: a sensor"


def test_the_leak_sensor_watches_moisture_and_nothing_else() -> None:
    (watching,) = PACKAGE["template"][0]["binary_sensor"]
    wet, door = sensor("a", "on", "moisture"), sensor("b", "on", "door")
    assert render(watching["state"], states={"binary_sensor": [wet, door]}) == "True"
    assert render(watching["state"], states={"binary_sensor": [door, sensor("c", "off", "moisture")]}) == "False"
    # The automation listens to the entity that the sensor's name makes.
    assert {one["entity_id"] for one in AUTOMATIONS["hardwire_package_water_leak"]["triggers"]} == {
        "binary_sensor." + watching["name"].lower().replace(" ", "_")
    }


def failure_notice(given: dict[str, Any]) -> str:
    actions = AUTOMATIONS["hardwire_package_failure"]["actions"]
    return lenient(actions[1]["data"]["message"], outcome=given, reason=given["reason"])


def test_a_failure_is_shown_with_its_reason_and_who_will_not_get_it() -> None:
    text = failure_notice(
        outcome(
            "failure",
            reason="1 of 2 recipients refused.",
            recipients=(
                RecipientOutcome(
                    address="bob@example.net",
                    state="refused",
                    phase="rcpt",
                    code=550,
                    enhanced="5.1.1",
                    text="No user",
                ),
                RecipientOutcome(address="alice@example.net", state="accepted", phase="content", code=250),
            ),
        )
    )
    assert text.startswith("1 of 2 recipients refused.\n\n")
    assert "- bob@example.net: refused (rcpt): 550 5.1.1 No user" in text
    assert "alice" not in text


def test_a_mail_servers_words_cannot_draw_pictures_in_home_assistant() -> None:
    recipient = RecipientOutcome(
        address="b@example.net", state="refused", phase="rcpt", code=550, text="![x](http://127.0.0.1/x.png) <b>"
    )
    text = failure_notice(outcome("failure", reason="[click](x)", recipients=(recipient,)))
    assert "![" not in text
    assert "](" not in text.replace("\\](", "")
    assert "\\<b\\>" in text


def test_a_failure_never_mails_and_ignores_what_is_no_outcome() -> None:
    automation = AUTOMATIONS["hardwire_package_failure"]
    assert [one["action"] for one in automation["actions"] if "action" in one] == [
        "persistent_notification.create",
        "logbook.log",
    ]
    condition = automation["conditions"][0]["value_template"]
    assert lenient(condition, trigger={"payload_json": {"id": "x"}}) == "True"
    assert lenient(condition, trigger={"payload_json": [1]}) == "False"
    assert lenient(condition, trigger={"payload": "not json"}) == "False"


# The entities


def test_entities_have_unique_ids_and_one_device() -> None:
    ids = [one["unique_id"] for one in ENTITIES]
    assert len(set(ids)) == len(ids)
    assert {json.dumps(one["device"]) for one in ENTITIES} == {json.dumps(ENTITIES[0]["device"])}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Relay", "ON"), ("Chip", "OFF"), ("Waiting alerts", "3"), ("Oldest waiting alert", "12.5")],
)
def test_entities_read_the_health_of_the_contract(name: str, expected: str) -> None:
    (entity,) = (one for one in ENTITIES if one["name"] == name)
    assert render(entity["value_template"], value_json=HEALTH) == expected
    assert entity["availability"] == [{"topic": "alerts/bridge/state"}]


def test_an_empty_queue_has_no_oldest_alert() -> None:
    (entity,) = (one for one in ENTITIES if one["name"] == "Oldest waiting alert")
    empty = HEALTH | {"queue": {"waiting": 0, "oldest_waiting_s": None}}
    # "None" is Home Assistant's word for an unknown value of an MQTT sensor.
    assert render(entity["value_template"], value_json=empty) == "None"


def test_the_problem_stands_in_the_attributes() -> None:
    (entity,) = (one for one in ENTITIES if one["name"] == "Relay")
    text = render(entity["json_attributes_template"], value_json=HEALTH)
    assert json.loads(text) == {"problem": "smtp.example.net:587 refuses us"}


def test_the_connection_shows_the_last_will() -> None:
    (entity,) = (one for one in ENTITIES if one["name"] == "Connection")
    assert (entity["payload_on"], entity["payload_off"]) == ("online", "offline")
    assert "availability" not in entity


def test_the_event_entity_knows_every_event_type() -> None:
    (entity,) = PACKAGE["mqtt"]["event"]
    assert entity["event_types"] == ["success", "failure", "deferred"]
    assert entity["state_topic"] == "alerts/bridge/outcome"
