"""docs/contract.md: what it shows as JSON, and every option, is exactly what the code has."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import click
import pytest

from plugin.alert import EventType, Outcome, Phase, RecipientOutcome, RecipientState
from plugin.bridge.arrival import outcome_topics
from plugin.cli import main
from plugin.config import load
from plugin.discovery import Description, NamedRoute, payload_of
from plugin.mqtt import Settings
from plugin.outbox.totals import totals_of
from plugin.service import Service
from plugin.service.desk import response
from plugin.service.requests import KEYS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "contract.md").read_text()
assert isinstance(main, click.Group)
COMMANDS: dict[str, click.Command] = {
    " ".join(filter(None, (name, below))): command
    for name, group in main.commands.items()
    for below, command in (group.commands.items() if isinstance(group, click.Group) else [("", group)])
}


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def shape(value: Any) -> Any:
    """Return the keys of ``value``, nested, without what stands under them."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else None


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A service that is never started: how it tells of itself needs neither broker nor relay."""
    path = tmp_path_factory.mktemp("service") / "hardwire.yaml"
    path.write_text(
        "relays: [{host: 127.0.0.1, port: 25, security: none}]\nsender: a@example.net\nrecipients: {a: a@b.net}\n"
        'routes: [{topic: "#", to: [a]}]\n'
    )
    made = Service(load(path))
    made.stop()
    return made


def test_health_is_as_it_is_shown(service: Service) -> None:
    (shown,) = re.findall(r"\*\*Health\.\*\* `(.*?)`\.", section("Topics"), re.DOTALL)
    assert shape(json.loads(shown)) == shape(service.health())


def test_the_answer_to_a_request_is_as_it_is_shown() -> None:
    (shown,) = re.findall(r"comes on `[^`]*`:\n`({.*?})`", section("Requests"))
    assert shape(json.loads(shown)) == shape(response(None, {}, None))


def test_every_verb_and_key_of_requests_is_told_and_no_other() -> None:
    rows = [line.split("|") for line in section("Requests").splitlines() if line.startswith("| `")]
    told = {row[1].strip(" `"): set(re.findall(r"`(\w+)`:", row[2])) for row in rows}
    assert told == {verb: set(keys) for verb, keys in KEYS.items()}


def test_info_is_as_it_is_told(service: Service) -> None:
    row = next(line for line in section("Topics").splitlines() if line.startswith("| `alerts/bridge/info`"))
    assert set(re.findall(r"`(\w+)`", row.split("|")[4])) == set(service.info())


def test_the_outcomes_of_info_are_as_they_are_shown() -> None:
    (shown,) = re.findall(r"\*\*Info\.\*\* .*? is there: `(.*?)`\. ", section("Topics"), re.DOTALL)
    assert shape(json.loads(shown)) == shape(totals_of(None))


def test_every_entity_is_told_and_no_other() -> None:
    described = Description(
        base="alerts",
        prefix="homeassistant",
        version="1",
        expiry_s=1,
        recipients=("<recipient>",),
        routes=(NamedRoute(topic_filter="<filter>", name="x"),),
    )
    made = {one["def_ent_id"] for one in payload_of(described)["cmps"].values()}
    rows = [line.split("|")[1] for line in section("Home Assistant").splitlines() if line.startswith("| `")]
    assert {one for row in rows for one in re.findall(r"`([^`]+)`", row.replace("<", "").replace(">", ""))} == made


def test_every_attribute_of_the_event_is_told_and_no_other() -> None:
    described = Description(base="alerts", prefix="homeassistant", version="1", expiry_s=1)
    template = payload_of(described)["cmps"]["outcome"]["val_tpl"]
    row = next(line for line in section("Home Assistant").splitlines() if line.startswith("| `event."))
    told = set(re.findall(r"`(\w+)`", row.split("|")[2])) - set(get_args(EventType))
    assert told == set(re.findall(r"'(\w+)':", template)) - {"event_type"}


def test_the_outcome_is_as_it_is_shown() -> None:
    (shown,) = re.findall(r"```json\n(.*?)```", section("The outcome"), re.DOTALL)
    now = datetime.now(UTC)
    fate = RecipientOutcome(address="a", state="accepted", phase="content")
    outcome = Outcome(id="", name="", event_type="success", topic="", recipients=(fate,), received_at=now)
    assert shape(json.loads(shown)) == shape(outcome.as_dict())


def listed(begin: str) -> set[str]:
    """Return what stands in backticks in the sentence of "The outcome" that begins so."""
    (sentence,) = re.findall(rf"{begin}: (.*?)\.\s", section("The outcome"), re.DOTALL)
    return set(re.findall(r"`([^`]+)`", sentence))


def test_states_and_phases_are_all_and_no_others() -> None:
    assert listed("Recipient states") == set(get_args(RecipientState))
    assert listed("Phases") == set(get_args(Phase))


def test_event_types_are_all_and_no_others() -> None:
    row = next(line for line in section("The outcome").splitlines() if line.startswith("| `event_type`"))
    assert set(re.findall(r"`(\w+)`", row.split("|")[2])) == set(get_args(EventType))


def test_every_topic_that_the_code_makes_is_told_and_no_other() -> None:
    settings = Settings(host="h")
    made = {f"{settings.alert_topic}/<name>", settings.state_topic}
    made |= {topic for kind in get_args(EventType) for topic in outcome_topics("alerts", kind, "<name>")}
    told_by_service = re.findall(r'self\._tell\("(\w+)"', (ROOT / "plugin" / "service/service.py").read_text())
    made |= {f"alerts/bridge/{what}" for what in told_by_service}
    made |= {str(settings.requests).replace("+", "<verb>"), "alerts/bridge/response/<verb>"}
    announced = Description(base="alerts", prefix="homeassistant", version="1", expiry_s=1)
    made |= {announced.topic, announced.birth_topic}
    rows = [line.split("|")[1].strip(" `") for line in section("Topics").splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted(made)
    assert outcome_topics("alerts", "failure", "")[0] == "alerts/failure"
    assert "is on `alerts/failure`" in section("Topics")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_and_every_choice_is_told_and_no_other(name: str) -> None:
    row = next(line for line in section("Commands").splitlines() if line.startswith(f"| `hardwire {name} "))
    synopsis = row.split("|")[1]
    options = {one.opts[0]: one for one in COMMANDS[name].params if isinstance(one, click.Option)}
    assert set(re.findall(r"--[a-z-]+", synopsis)) == set(options)
    for option in options.values():
        required = f"[{option.opts[0]}" not in synopsis
        configured = option.opts == ["--config"] and name not in ("preview", "probe")
        assert required == (option.required or configured), option.opts
    if name in ("demo", "preview"):
        choices = {
            word for one in options.values() if isinstance(one.type, click.Choice) for word in one.type.choices
        }
        assert choices <= set(re.findall(r"`([^`]+)`", row))


def test_every_command_that_prints_json_says_what() -> None:
    have = {name for name, one in COMMANDS.items() if any("--json" in option.opts for option in one.params)}
    table = section("Commands").split("| command | JSON |")[1].split("\n\n")[0]
    cells = re.findall(r"^\| (`[^|]+`) \|", table, re.MULTILINE)
    assert {name for cell in cells for name in re.findall(r"`([\w -]+)`", cell)} == have


def test_the_exit_codes_are_those_of_the_code() -> None:
    from plugin import cli

    table = section("Commands").split("| exit code | means |")[1].split("\n\n")[0]
    named = {value for key, value in vars(cli).items() if key.startswith("EXIT_")}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == {0, 2, *named}


def test_the_version_option_is_told() -> None:
    assert {option for one in main.params for option in one.opts} == {"--version"}
    assert "`--version`" in section("Commands")
