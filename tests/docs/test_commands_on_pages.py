"""Whatever a page says to type exists: commands, their options, make targets, files, headings."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from plugin.cli import main

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        ROOT / "deploy/README.md",
        ROOT / "deploy/home-assistant-app/DOCS.md",
        ROOT / "ha_config/README.md",
    )
)
assert isinstance(main, click.Group)
COMMANDS = main.commands


def text(page: str) -> str:
    return (ROOT / page).read_text()


def typed(page: str) -> list[str]:
    """Return each ``hardwire COMMAND …`` in backticks, or on a line of a block that begins with it."""
    inline = re.findall(r"`(hardwire [^`]+)`", text(page))
    blocks = "".join(re.findall(r"```(?:console|sh|shell|bash)\n(.*?)```", text(page), re.DOTALL))
    return inline + re.findall(r"(?:^|\$ |&& )(hardwire .*)$", blocks, re.MULTILINE)


def test_there_are_pages_with_commands() -> None:
    assert {"README.md", "docs/contract.md", "docs/templates.md", "docs/configuration.md"} <= set(PAGES)
    assert len([line for page in PAGES for line in typed(page)]) >= 10


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_to_type_exists(page: str) -> None:
    for line in typed(page):
        words = line.split("#")[0].split()
        if words[1].startswith("-"):
            assert words[1] in ("--version", "--help"), line
            continue
        assert words[1] in COMMANDS, f"{page}: {line}"
        command = COMMANDS[words[1]]
        if isinstance(command, click.Group) and len(words) > 2:
            assert words[2] in command.commands, f"{page}: {line}"
            command = command.commands[words[2]]
        known = {option for one in command.params for option in one.opts} | {"--help"}
        assert set(re.findall(r"(?<![\w-])--[a-z-]+", line)) <= known, f"{page}: {line}"


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    assert set(re.findall(r"(?:`|\$ )make ([a-z]+)", text(page))) <= targets


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        if "://" in target or target.startswith("mailto:"):
            continue
        file, _, heading = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.exists(), f"{page}: {target}"
        if heading:
            titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in anchors, f"{page}: {target}"
