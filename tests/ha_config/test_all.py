"""What holds for all that ha_config has: topics of the contract, entities that there are, nothing too new."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from plugin.discovery import Description, payload_of
from tests.deploy.home_assistant import ROOT, Tagged, environment, load, templates

HA_CONFIG: Final = ROOT / "ha_config"
FILES: Final = sorted(path.relative_to(HA_CONFIG).as_posix() for path in HA_CONFIG.rglob("*.yaml"))
BLUEPRINTS: Final = [name for name in FILES if name.startswith("blueprints/")]
CONTRACT: Final = (ROOT / "docs" / "contract.md").read_text()
README: Final = (HA_CONFIG / "README.md").read_text()
# Helpers that a user may make; templates have a value of their own for where they are not.
OPTIONAL: Final = {
    "input_number.hardwire_door_minutes",
    "input_number.hardwire_low_battery",
    "input_number.hardwire_offline_minutes",
}
BUILT_IN: Final = {
    "heading",
    "tile",
    "markdown",
    "history-graph",
    "statistics-graph",
    "logbook",
    "grid",
    "sections",
}


def mappings(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every mapping at any depth."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from mappings(inner)


def tags(value: Any) -> Iterator[Tagged]:
    """Yield every argument of a tag at any depth."""
    if isinstance(value, Tagged):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from tags(inner)


def text(name: str) -> str:
    return (HA_CONFIG / name).read_text()


def test_everything_is_here() -> None:
    assert FILES == [
        "blueprints/automation/hardwire/alert_on_binary_sensor.yaml",
        "blueprints/automation/hardwire/camera_snapshot.yaml",
        "blueprints/automation/hardwire/failed_mail_to_phone.yaml",
        "dashboards/hardwire.yaml",
        "packages/hardwire.yaml",
        "packages/hardwire_dashboard.yaml",
    ]


@pytest.mark.parametrize("name", FILES)
def test_every_template_parses_and_knows_its_filters(name: str) -> None:
    # An unknown filter or test is an error here already, not only when the template is rendered.
    for where, template in templates(load(HA_CONFIG / name)):
        assert environment().compile(template, name=where, raw=True)


@pytest.mark.parametrize("name", FILES)
def test_what_is_published_is_an_alert_with_qos_1_and_never_retained(name: str) -> None:
    for one in mappings(load(HA_CONFIG / name)):
        if one.get("action") == "mqtt.publish":
            assert one["data"]["topic"].startswith("alerts/email/")
            assert (one["data"]["qos"], one["data"]["retain"]) == (1, False)


@pytest.mark.parametrize("name", FILES)
def test_what_is_read_is_in_the_contract_and_read_with_qos_1(name: str) -> None:
    for one in mappings(load(HA_CONFIG / name)):
        if one.get("trigger") == "mqtt":
            assert (one["topic"], one["qos"]) == ("alerts/bridge/outcome", 1)
    for topic in re.findall(r"alerts/(?:bridge|success|failure|deferred)[/\w#]*", text(name)):
        assert f"| `{topic}` |" in CONTRACT


@pytest.mark.parametrize("name", FILES)
def test_every_entity_of_hardwire_is_announced_or_in_the_package(name: str) -> None:
    description = Description(base="alerts", prefix="homeassistant", version="0", expiry_s=1)
    announced = {one["def_ent_id"] for one in payload_of(description)["cmps"].values()}
    package = load(HA_CONFIG / "packages" / "hardwire.yaml")
    own = {f"input_text.{one}" for one in package["input_text"]}
    own |= {f"shell_command.{one}" for one in package["shell_command"]} | {"sensor.hardwire_outcomes"}
    named = set(
        re.findall(
            r"\b(?:[a-z]+_)?(?:sensor|button|switch|event|notify|text|number|command)\.hardwire_[a-z_]+",
            text(name),
        )
    )
    # In the dashboard's template the name of a problem is put together.
    assert named - {"binary_sensor.hardwire_"} <= announced | own | OPTIONAL


@pytest.mark.parametrize("name", FILES)
def test_nothing_that_home_assistant_2026_2_does_not_know(name: str) -> None:
    for newer in ("message_expiry_interval", "event.received", "visible_by_default", "smtp."):
        assert newer not in text(name)


# Blueprints


def inputs(blueprint: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every input by its name, those in sections as well."""
    for name, one in blueprint["blueprint"]["input"].items():
        if "input" in one:
            assert {"name", "icon"} <= set(one), name
            yield from one["input"].items()
        else:
            yield name, one


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_a_blueprint_says_what_it_is_and_needs(name: str) -> None:
    head = load(HA_CONFIG / name)["blueprint"]
    assert (head["domain"], head["author"]) == ("automation", "Hardwire")
    assert head["homeassistant"] == {"min_version": "2026.2.0"}
    assert head["name"] in README
    assert "Needs" in head["description"]
    assert any("input" in one for one in head["input"].values())


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_every_input_has_a_selector_and_is_used_and_every_one_used_is_there(name: str) -> None:
    blueprint = load(HA_CONFIG / name)
    known = dict(inputs(blueprint))
    assert all(one["name"] and one["selector"] for one in known.values())
    assert {str(one) for one in tags(blueprint)} == set(known)
    assert {one.tag for one in tags(blueprint)} == {"!input"}


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_inputs_outside_of_what_is_asked_first_have_a_default(name: str) -> None:
    sections = [one["input"] for one in load(HA_CONFIG / name)["blueprint"]["input"].values() if "input" in one]
    assert all("default" in one for section in sections for one in section.values())


# The dashboard, and what the README says


def test_the_dashboard_has_built_in_cards_alone() -> None:
    dashboard = load(HA_CONFIG / "dashboards" / "hardwire.yaml")
    types = {one["type"] for one in mappings(dashboard) if "type" in one}
    assert types == BUILT_IN
    (entry,) = load(HA_CONFIG / "packages" / "hardwire_dashboard.yaml")["lovelace"]["dashboards"].values()
    assert (HA_CONFIG / entry["filename"]).is_file()
    assert entry["mode"] == "yaml"


def test_the_readme_explains_every_piece() -> None:
    package = load(HA_CONFIG / "packages" / "hardwire.yaml")
    for automation in package["automation"]:
        assert f"*{automation['alias']}*" in README
    for field in package["script"]["notify_email"]["fields"]:
        assert f"`{field}`" in README
    for name in (
        *OPTIONAL,
        *(f"input_text.{one}" for one in package["input_text"]),
        *(Path(one).name for one in FILES),
    ):
        assert f"`{name}`" in README or f"`packages/{name}`" in README or f"`dashboards/{name}`" in README, name
