"""The package for Home Assistant: its topics are the contract's, what it publishes is an alert."""

from __future__ import annotations

import ast
import json
import shlex
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from plugin.alert import Alert, EventType, Message, Outcome, RecipientOutcome
from plugin.payload import MAX_ID_CHARS, decode
from tests.deploy.home_assistant import (
    NOW,
    PACKAGES,
    States,
    Tagged,
    environment,
    lenient,
    load,
    render,
    sensor,
    templates,
    within,
)

PACKAGE = load(PACKAGES / "hardwire.yaml")
SCRIPT = PACKAGE["script"]["notify_email"]
PICTURES, SENDING = SCRIPT["sequence"][:2]
BOTH, AFTERWARDS = SENDING["repeat"]["sequence"]
WAIT, PUBLISH = (branch["sequence"] for branch in BOTH["parallel"])
AUTOMATIONS = {one["id"].removeprefix("hardwire_package_"): one for one in PACKAGE["automation"]}
TEMPLATES = {one["name"]: one for block in PACKAGE["template"] for one in block.get("binary_sensor", [])}
COUNTING = {one["name"]: one for block in PACKAGE["template"] for one in block.get("sensor", [])}
OUTCOME = "alerts/bridge/outcome"
AT = datetime(2026, 11, 23, 10, tzinfo=UTC)


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


def identity(**fields: Any) -> list[str]:
    """Return the variable ``alert_id`` of the script that is called with ``fields``, as Home Assistant has it."""
    made: list[str] = ast.literal_eval(lenient(SCRIPT["variables"]["alert_id"], **fields))
    return made


def published(**fields: Any) -> Alert:
    """Return the alert that the script publishes when it is called with ``fields``."""
    action = PUBLISH[0]
    assert action["action"] == "mqtt.publish"
    variables = fields | {"alert_id": identity(**fields), "attached": fields.get("attachments", [])}
    return understood(
        lenient(action["data"]["topic"], **variables),
        lenient(action["data"]["payload"], **variables),
    )


def test_file_names_are_slugs_as_home_assistant_demands() -> None:
    names = [path.stem for path in PACKAGES.iterdir()]
    assert sorted(names) == ["hardwire", "hardwire_dashboard"]
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


# The script


def test_the_script_has_the_fields_people_expect() -> None:
    assert list(SCRIPT["fields"]) == [
        "title", "message", "to", "cc", "severity", "state", "thread", "data", "attachments", "cameras",
        "pictures", "pictures_folder", "topic", "id", "timeout",
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
        cc="carol@example.net",
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
    assert alert.cc == ("carol@example.net",)
    assert alert.data == {"humidity": 97.5, "window": None}
    assert alert.attachments[0].path == "/media/door.jpg"
    assert alert.name == "water_leak/kitchen"


def test_numbers_that_templates_made_are_texts_again() -> None:
    alert = published(title=42, message=21.5, id=5, to="alice")
    assert (alert.title, alert.message, alert.id, alert.to) == ("42", "21.5", "5", ("alice",))
    assert published(message="x", id="1.10").id == "1.10"


def test_an_id_that_is_too_long_for_the_bridge_is_told_from_others() -> None:
    long = "x" * (MAX_ID_CHARS + 1)
    ids = [published(message="x", id=one).id for one in (long, f"{long}y", long[1:])]
    assert len(set(ids)) == 3
    assert ids[2] == long[1:]
    assert published(message="x", id=long).id == ids[0]


@pytest.mark.parametrize("empty", ["", None])
def test_a_field_left_empty_in_the_editor_counts_as_not_given(empty: object) -> None:
    alert = published(
        message="x", title=empty, to=empty, severity=empty, state=empty, thread=empty, topic=empty, id=empty
    )
    assert (alert.title, alert.to, alert.severity, alert.thread) == (None, None, None, None)
    assert (alert.state, alert.name) == ("firing", "home_assistant")
    assert alert.id.startswith("ha-")


def test_two_calls_in_the_same_microsecond_have_ids_of_their_own() -> None:
    ids = {identity()[0] for _ in range(50)}
    assert len(ids) > 45


def test_the_wait_stands_before_the_publication_and_on_a_topic_that_is_subscribed_already() -> None:
    (trigger,) = WAIT[0]["wait_for_trigger"]
    # Home Assistant needs up to a second for a topic that is new to it: this one must be in use all the time.
    standing = [AUTOMATIONS["failure"]["triggers"][0], PACKAGE["template"][-1]["triggers"][0], trigger]
    assert [(one["topic"], one["qos"]) for one in standing] == [(OUTCOME, 1)] * 3
    assert WAIT[0]["continue_on_timeout"] is True
    assert list(BOTH["parallel"][0]["sequence"]) == WAIT


@pytest.mark.parametrize(
    ("payload", "taken"),
    [
        ('{"id": "a-1", "event_type": "success"}', True),
        ('{"id": "a-1", "event_type": "failure"}', True),
        ('{"id": "a-1", "event_type": "deferred"}', False),
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
        wanted = render(trigger["payload"], alert_id=["a-1"])
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
        (outcome("success"), "success", None),
        (outcome("failure", reason="No such user."), "failure", "No such user."),
        (None, "timeout", "No outcome within 5 s; the alert is still on its way."),
    ],
)
def test_the_script_returns_state_and_reason(given: dict[str, Any] | None, state: str, reason: str | None) -> None:
    made = SCRIPT["sequence"][-2]["variables"]["result"]
    result = ast.literal_eval(render(made, outcome=given, wait_s=5, alert_id=["1.10"]))
    assert result == {"state": state, "id": "1.10", "reason": reason, "outcome": given}
    assert SCRIPT["sequence"][-1]["response_variable"] == "result"


@pytest.mark.parametrize(
    ("given", "seconds"), [(None, 60), ("", 60), (2, 2), ("2.5", 2), ("soon", 60), (-5, 1), (0.1, 1)]
)
def test_every_wait_has_a_deadline(given: object, seconds: int) -> None:
    waited = lenient(SCRIPT["variables"]["wait_s"], timeout=given)
    assert waited == str(seconds)
    assert lenient(WAIT[0]["timeout"]["seconds"], wait_s=waited) == waited


# Attachments and pictures


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (None, []),
        ([{"path": "/media/door.jpg"}], [{"path": "/media/door.jpg"}]),
        ({"path": "/media/door.jpg"}, [{"path": "/media/door.jpg"}]),
    ],
)
def test_one_attachment_need_not_be_a_list(given: object, taken: list[dict[str, str]]) -> None:
    assert ast.literal_eval(lenient(SCRIPT["variables"]["attached"], attachments=given)) == taken


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (None, []),
        ("camera.porch", ["camera.porch"]),
        ("camera.porch, camera.yard", ["camera.porch", "camera.yard"]),
        (["camera.porch", "camera.yard"], ["camera.porch", "camera.yard"]),
    ],
)
def test_cameras_are_a_list_or_names_with_commas(given: object, taken: list[str]) -> None:
    assert ast.literal_eval(lenient(PICTURES["repeat"]["for_each"], cameras=given)) == taken


FILE = "hardwire-porch-1.jpg"
DATA = {"filename": FILE, "content_type": "image/jpeg", "data": "/9j/4A=="}
PATH = {"path": f"/media/hardwire/{FILE}"}
YARD = PATH | {"camera": "camera.yard"}
LARGE = f"/media/hardwire/{FILE}\n"  # what is printed in place of it


def attached(before: list[dict[str, str]], stdout: str | None, **fields: Any) -> tuple[list[dict[str, str]], str]:
    """Return what the script attaches for one camera more, and which cameras gave no picture.

    ``stdout``: what the shell command has found; None where it failed.
    """
    variables = PICTURES["repeat"]["sequence"][-1]["variables"]
    picture = None if stdout is None else {"stdout": stdout, "returncode": 0}
    found = lenient(variables["found"], picture=picture)
    path = lenient(variables["path"], file=FILE, **fields)
    text = lenient(variables["attached"], attached=before, found=found, file=FILE, path=path)
    made: list[dict[str, str]] = ast.literal_eval(text)  # as Home Assistant does
    repeat = {"item": "camera.porch"}
    return made, lenient(variables["without_picture"], without_picture=[], found=found, repeat=repeat)


@pytest.mark.parametrize(
    ("stdout", "fields", "made"),
    [
        ("/9j/4A==", {}, [DATA]),
        (LARGE, {}, [PATH]),
        (LARGE, {"pictures_folder": "/mnt/ha"}, [{"path": f"/mnt/ha/{FILE}"}]),
        ("", {}, []),
        (None, {}, []),
    ],
)
def test_a_small_picture_goes_within_the_alert_and_others_as_files(
    stdout: str | None, fields: dict[str, str], made: list[dict[str, str]]
) -> None:
    assert attached([], stdout, **fields) == (made, "[]" if made else "['camera.porch']")


def test_the_mail_says_which_camera_gave_no_picture() -> None:
    assert published(message="Ding", without_picture=["camera.a", "camera.b"]).message == (
        "Ding\n\nNo picture of camera.a, camera.b."
    )


@pytest.mark.parametrize(
    ("index", "by_path", "told", "again"),
    [
        (1, [YARD], outcome("failure", reason="attachments[1].path: it is outside"), True),
        (2, [YARD], outcome("failure", reason="attachments[1].path: it is outside"), False),
        (1, [], outcome("failure", reason="attachments[0].path: it is outside"), False),
        (1, [YARD], outcome("failure", reason="550 no such user"), False),
        (1, [YARD], outcome("success"), False),
        (1, [YARD], None, False),
    ],
)
def test_pictures_that_the_bridge_may_not_read_do_not_cost_the_mail(
    index: int, by_path: list[dict[str, str]], told: dict[str, Any] | None, again: bool
) -> None:
    variables, repeat = AFTERWARDS["variables"], {"index": index}
    answer = lenient(variables["again"], repeat=repeat, by_path=by_path, outcome=told)
    assert answer == str(again)
    kept: dict[str, Any] = {"attached": [DATA, PATH], "by_path": by_path, "without_picture": [], "again": again}
    assert ast.literal_eval(lenient(variables["attached"], **kept)) == ([DATA] if again else [DATA, PATH])
    assert ast.literal_eval(lenient(variables["without_picture"], **kept)) == (["camera.yard"] if again else [])
    assert lenient(SENDING["repeat"]["until"], again=again) == str(not again)


def test_a_picture_that_goes_as_a_file_is_known_by_its_path() -> None:
    variables, repeat = PICTURES["repeat"]["sequence"][-1]["variables"], {"item": "camera.yard"}
    known = {"path": PATH["path"], "by_path": [], "repeat": repeat}
    assert ast.literal_eval(lenient(variables["by_path"], attached=[DATA, PATH], **known)) == [YARD]
    assert lenient(variables["by_path"], attached=[DATA], **known) == "[]"


def test_each_camera_begins_without_the_picture_of_the_one_before() -> None:
    assert PICTURES["repeat"]["sequence"][0]["variables"]["picture"] is None


def test_home_assistant_renders_at_most_256_kib() -> None:
    one, _ = attached([], "A" * 200_000)
    assert "data" in one[0]
    two, _ = attached(one, "A" * 200_000)
    assert two == [*one, PATH]
    assert len(json.dumps(two)) < 256 * 1024


def test_a_camera_that_fails_stops_nothing() -> None:
    assert [one["continue_on_error"] for one in PICTURES["repeat"]["sequence"] if "action" in one] == [True, True]


@pytest.mark.parametrize(("how", "kib"), [(None, 150), ("auto", 150), ("path", 0)])
def test_what_a_shell_command_is_given_reaches_no_shell(how: str | None, kib: int) -> None:
    # Home Assistant runs a command without a shell exactly if a template has changed it.
    command = PACKAGE["shell_command"]["hardwire_small_picture"]
    asked = PICTURES["repeat"]["sequence"][2]["data"]
    rendered = render(command, name=render(asked["name"], file=FILE), kib=lenient(asked["kib"], pictures=how))
    assert shlex.split(rendered) == [
        *("find", "/media", "-maxdepth", "2", "-path", f"/media/hardwire/{FILE}"),
        *("(", "-size", f"-{kib}k", "-exec", "base64", "-w", "0", "{}", ";", "-o", "-print", ")"),
    ]


# The automations


@pytest.mark.parametrize(
    ("state", "last_changed_s", "told", "runs"),
    [
        ("on", 0, "", True),
        ("on", 0, "x", False),  # told already, whatever has restarted since
        ("off", 3600, "", False),
        ("off", 3600, "x", True),
        ("off", 5, "x", False),  # sensors that are away for a moment
        ("unavailable", 3600, "x", False),
        ("unavailable", 3600, "", False),
    ],
)
@pytest.mark.parametrize(
    ("name", "entity", "memory"),
    [
        ("water_leak", "water_leak", "hardwire_water_leak"),
        ("door_open_too_long", "door_open_too_long", "hardwire_door_open"),
    ],
)
def test_an_alarm_is_told_once_and_so_is_its_end(
    name: str, entity: str, memory: str, state: str, last_changed_s: int, told: str, runs: bool
) -> None:
    automation = AUTOMATIONS[name]
    watched = sensor("x", state, None, last_changed=NOW - timedelta(seconds=last_changed_s))
    states = States(
        **{f"binary_sensor__{entity}": watched, f"input_text__{memory}": sensor("m", told or "unknown", None)}
    )
    variables = {
        key: ast.literal_eval(text) if (text := render(template, **within(states))) in ("True", "False") else text
        for key, template in automation["variables"].items()
    }
    assert render(automation["conditions"][0]["value_template"], **variables) == str(runs)
    # What comes in while one is at work is looked at again within five minutes.
    assert automation["mode"] == "single"
    assert {"trigger": "time_pattern", "minutes": "/5"} in automation["triggers"]


def leak(told: str, *names: str) -> Alert:
    actions = AUTOMATIONS["water_leak"]["actions"]
    alert_id = render(actions[0]["variables"]["alert_id"], told=told)
    states = States(binary_sensor__water_leak=sensor("Water leak", "on", None, sensors=list(names)))
    data = actions[1]["data"]
    return understood(data["topic"], render(data["payload"], told=told, alert_id=alert_id, **within(states)))


def test_a_water_leak_names_the_wet_sensors() -> None:
    alert = leak("", "Kitchen", "Cellar")
    assert alert.title == "Water leak: Kitchen, Cellar"
    assert (alert.state, alert.severity, alert.name) == ("firing", "critical", "water_leak")
    assert alert.data == {"sensors": ["Kitchen", "Cellar"]}


def test_a_water_leak_and_its_end_are_one_alert_in_two_states() -> None:
    firing = leak("")
    resolved = leak(firing.id)
    assert firing.id == resolved.id == "water_leak-2026-11-23T10:00:00.123456+00:00"
    assert (firing.state, resolved.state) == ("firing", "resolved")
    assert firing.title == "Water leak: a sensor"


COUNTS = {"Water leak": "Wet sensors", "Door open too long": "Doors open too long"}


def watching(name: str, *sensors: Any) -> str:
    states = States(**{f"binary_sensor__s{number}": one for number, one in enumerate(sensors)})
    counting = COUNTING[COUNTS[name]]
    ((attribute, template),) = counting["attributes"].items()
    found = ast.literal_eval(render(template, **within(states)))
    assert render(counting["state"], **within(states)) == str(len(found))

    def state_attr(entity_id: str, wanted: str) -> list[str]:
        assert (entity_id, wanted) == (f"sensor.{COUNTS[name].lower().replace(' ', '_')}", attribute)
        return list(found)

    return render(TEMPLATES[name]["state"], state_attr=state_attr)


def test_no_template_watches_the_domain_that_it_is_in() -> None:
    assert not [name for name, one in TEMPLATES.items() if "states.binary_sensor" in str(one)]
    assert not [name for name, one in COUNTING.items() if "states.sensor" in str(one)]


def test_the_leak_sensor_watches_moisture_and_nothing_else() -> None:
    wet, door, dry = sensor("a", "on", "moisture"), sensor("b", "on", "door"), sensor("c", "off", "moisture")
    assert watching("Water leak", wet, door, sensor("d", "on", None)) == "True"
    assert watching("Water leak", door, dry) == "False"


@pytest.mark.parametrize(("device_class", "minutes", "expected"), [
    ("door", 11, "True"), ("door", 9, "False"), ("garage_door", 11, "True"), ("window", 11, "False"),
])  # fmt: skip
def test_doors_that_are_open_for_ten_minutes_count(device_class: str, minutes: int, expected: str) -> None:
    opened = NOW - timedelta(minutes=minutes)
    assert watching("Door open too long", sensor("a", "on", device_class, last_changed=opened)) == expected
    assert watching("Door open too long", sensor("a", "off", device_class, last_changed=opened)) == "False"


def failure_notice(given: dict[str, Any]) -> str:
    actions = AUTOMATIONS["failure"]["actions"]
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


def test_a_failure_never_mails_and_ignores_what_is_no_failure() -> None:
    automation = AUTOMATIONS["failure"]
    assert [one["action"] for one in automation["actions"] if "action" in one] == [
        "persistent_notification.create",
        "logbook.log",
    ]
    (trigger,) = automation["triggers"]
    assert lenient(trigger["value_template"], value_json={"event_type": "failure"}) == trigger["payload"]
    assert lenient(trigger["value_template"], value_json={"event_type": "success"}) != trigger["payload"]
    assert lenient(trigger["value_template"]) != trigger["payload"]  # not JSON: value_json is not there


@pytest.mark.parametrize(
    ("told", "taken_back"),
    [
        ({"event_type": "success", "attempts": 2}, True),
        ({"event_type": "success", "attempts": 1}, False),
        ({"event_type": "deferred", "attempts": 2}, False),
        ({"event_type": "success", "attempts": "many"}, False),
        ([], False),
        (None, False),
    ],
)
def test_what_was_delivered_after_all_is_taken_back(told: Any, taken_back: bool) -> None:
    automation = AUTOMATIONS["delivered"]
    (trigger,), (action,) = automation["triggers"], automation["actions"]
    given = {} if told is None else {"value_json": told}
    assert (lenient(trigger["value_template"], **given) == trigger["payload"]) is taken_back
    shown, failed = AUTOMATIONS["failure"]["actions"][1]["data"]["notification_id"], {"id": "a-1"}
    assert render(action["data"]["notification_id"], trigger={"payload_json": failed}) == render(
        shown, outcome=failed, trigger={"topic": OUTCOME}
    )


@pytest.mark.parametrize(
    ("by_path", "told", "taken_back"),
    [
        ([YARD], outcome("success"), True),
        ([YARD], outcome("failure", reason="550 no such user"), False),
        ([YARD], None, False),
        ([], outcome("success"), False),
    ],
)
def test_a_first_try_with_pictures_is_taken_back_once_the_mail_went(
    by_path: list[dict[str, str]], told: dict[str, Any] | None, taken_back: bool
) -> None:
    step = SCRIPT["sequence"][2]
    assert render(step["if"], by_path=by_path, outcome=told) == str(taken_back)
    assert render(step["then"][0]["data"]["notification_id"], alert_id=["1.10"]) == "hardwire_1.10"


def test_the_outcomes_kept_are_ten_and_each_alert_is_there_once() -> None:
    (kept,) = PACKAGE["template"][-1]["sensor"]
    before = [{"id": f"a-{number}", "event_type": "success"} for number in range(10)]
    text = lenient(
        kept["attributes"]["outcomes"],
        trigger={"payload_json": outcome("failure", reason="No such user.") | {"id": "a-3", "subject": None}},
        this={"attributes": {"outcomes": before}},
    )
    made = ast.literal_eval(text)
    assert [one["id"] for one in made] == ["a-3", "a-0", "a-1", "a-2", *(f"a-{number}" for number in range(4, 10))]
    assert (made[0]["event_type"], made[0]["subject"]) == ("failure", "alerts/email/x")
    assert made[0]["reason"] == "No such user."
