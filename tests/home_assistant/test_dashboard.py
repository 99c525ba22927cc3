"""The dashboard of ha_config: Home Assistant has it, and each entity that it shows is there."""

from __future__ import annotations

import re
from typing import Any

from tests.home_assistant.client import until
from tests.home_assistant.household import Household


def entities(value: Any) -> set[str]:
    """Return every entity id that cards name."""
    if isinstance(value, dict):
        return {one for inner in value.values() for one in entities(inner)}
    if isinstance(value, list):
        return {one for inner in value for one in entities(inner)}
    return {value} if isinstance(value, str) and re.fullmatch(r"[a-z_]+\.hardwire_\w+", value) else set()


def markdown(value: Any) -> list[str]:
    """Return the content of every markdown card."""
    if isinstance(value, dict):
        own = [value["content"]] if value.get("type") == "markdown" else []
        return own + [one for inner in value.values() for one in markdown(inner)]
    return [one for inner in value for one in markdown(inner)] if isinstance(value, list) else []


def test_it_is_in_the_side_bar_and_all_that_it_shows_is_there(house: Household) -> None:
    assert "hardwire-mail" in {one["url_path"] for one in house.home.command("lovelace/dashboards/list")}
    shown = house.home.command("lovelace/config", url_path="hardwire-mail")
    named = entities(shown)
    assert {"sensor.hardwire_waiting", "button.hardwire_retry_failed", "switch.hardwire_pause"} <= named
    assert named <= set(house.home.states())


def test_outcomes_are_shown_and_a_mail_servers_words_draw_no_picture(house: Household) -> None:
    words = "![x](http://127.0.0.1/x.png) <b> *"
    house.automation.publish("shown", {"id": "shown-1", "title": words, "message": "x", "to": "stranger"})
    shown = house.home.command("lovelace/config", url_path="hardwire-mail")
    (outcomes,) = (one for one in markdown(shown) if "hardwire_outcomes" in one)

    def rendered() -> str | None:
        content = house.home.render(outcomes)
        return content if "127.0.0.1/x.png" in content else None

    content = until(rendered, "the outcome on the dashboard")
    assert "![" not in content
    assert "\\<b\\>" in content
    assert "stranger@" in content


def test_a_problem_is_told_in_its_own_words(house: Household) -> None:
    shown = house.home.command("lovelace/config", url_path="hardwire-mail")
    (problems,) = (one for one in markdown(shown) if "_problem" in one)
    assert house.home.render(problems).strip() == ""
