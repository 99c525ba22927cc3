"""docs/contract.md against the code, in both directions."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import click
import pytest

from plugin.alert import EventType, Outcome, Phase, Priority, RecipientState, Severity
from plugin.cli import main
from plugin.payload import _Attachment, _Payload

ROOT = Path(__file__).parents[2]
PAGE = re.sub(r"```.*?```", "", (ROOT / "docs" / "contract.md").read_text(), flags=re.DOTALL)


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_cells(text: str) -> set[str]:
    """Return what stands in backticks in the first column of the tables of ``text``."""
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row)}


def backticks(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def test_every_key_of_the_payload_is_explained_and_no_other() -> None:
    keys = set(_Payload.model_fields) | {"subject"}
    assert first_cells(section("The alert's payload")) == keys


def test_every_key_of_an_attachment_is_explained() -> None:
    text = section("The alert's payload")
    for key in _Attachment.model_fields:
        assert re.search(rf"[`{{ ]{key}[`}}, ]", text), key


def test_the_choices_of_the_payload_are_named() -> None:
    words = backticks(section("The alert's payload"))
    assert {*get_args(Severity), *get_args(Priority), "firing", "resolved"} <= words


def test_every_field_of_the_outcome_is_explained_and_no_other() -> None:
    outcome = Outcome(id="x", name="x", event_type="success", topic="t", received_at=datetime.now(UTC))
    assert first_cells(section("The outcome")) == set(outcome.as_dict())


def test_states_and_phases_are_named() -> None:
    words = backticks(section("The outcome"))
    assert {*get_args(RecipientState), *get_args(Phase), *get_args(EventType)} <= words


def test_the_topics_are_those_that_the_code_speaks_of() -> None:
    told = first_cells(section("Topics"))
    sources = "".join(
        (ROOT / "plugin" / name).read_text()
        for name in ("service/service.py", "mqtt/settings.py", "bridge/arrival.py", "payload.py")
    )
    assert told == {f"alerts/{one}/<name>" for one in ("email", *get_args(EventType))} | {
        f"alerts/bridge/{one}"
        for one in ("outcome", "state", "info", "health", "request/<verb>", "response/<verb>")
    } | {"homeassistant/device/hardwire_alerts/config", "homeassistant/status"}
    for piece in ("/bridge/state", "/bridge/outcome", "bridge/{what}", '"health"', '"info"', "/email", "/request"):
        assert piece in sources, piece


def test_the_keys_of_health_and_info_are_named() -> None:
    text = section("Topics")
    for key in ("queue", "relay", "chip", "mqtt", "waiting", "oldest_waiting_s", "problem", "link", "connected"):
        assert f'"{key}"' in text
    for key in ("version", "started_at", "chip", "relays", "routes", "counters"):
        assert f"`{key}`" in text


def test_the_commands_are_told() -> None:
    told = {word.split()[1] for word in backticks(section("Commands")) if word.startswith("hardwire ")}
    assert isinstance(main, click.Group)
    assert told == set(main.commands)


@pytest.mark.parametrize("name", ["run", "demo", "check", "send", "preview"])
def test_every_option_that_is_told_exists(name: str) -> None:
    assert isinstance(main, click.Group)
    row = next(line for line in section("Commands").splitlines() if line.startswith(f"| `hardwire {name}"))
    known = {option for parameter in main.commands[name].params for option in parameter.opts}
    assert set(re.findall(r"--[a-z-]+", row)) <= known


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "docs/contract.md",
        "docs/configuration.md",
        "docs/templates.md",
        "docs/architecture.md",
        "deploy/README.md",
        "ha_config/README.md",
    ],
)
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), f"{page}: {target}"


def test_the_readme_names_every_make_target_it_uses() -> None:
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\$ make ([a-z]+)", (ROOT / "README.md").read_text())) <= targets
