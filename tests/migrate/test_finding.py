"""Notifiers are found wherever Home Assistant would find them, and nothing that is odd is fatal."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from plugin.config import Kept
from plugin.migrate import Found, find
from plugin.migrate.finding import MAX_FILES

BLOCK = "{platform: smtp, name: %s, sender: a@example.net, recipient: b@example.net}"


def found(folder: Path, **files: str) -> Found:
    """Return what is found; a file's name has __ for / and no ending."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    return find(folder / "configuration.yaml", {"PASS": "from outside"})


def names(result: Found) -> list[str]:
    return [one.keys["name"] for one in result.notifiers]


@pytest.mark.parametrize(
    ("configuration", "files"),
    [
        (f"notify: [{BLOCK % 'x'}]", {}),
        (f"notify: {BLOCK % 'x'}", {}),
        (f"notify mail:\n- {BLOCK % 'x'}", {}),
        ("notify: !include n.yaml", {"n": f"- {BLOCK % 'x'}"}),
        ("notify: !include n.yaml", {"n": "!include sub/m.yaml", "sub__m": f"- {BLOCK % 'x'}"}),
        ("notify:\n- !include n.yaml", {"n": BLOCK % "x"}),
        ("notify: !include_dir_list d", {"d__one": BLOCK % "x"}),
        ("notify: !include_dir_merge_list d", {"d__deep__one": f"- {BLOCK % 'x'}", "d__.not": f"- {BLOCK % 'y'}"}),
        ("homeassistant: {packages: !include_dir_named p}", {"p__one": f"notify: [{BLOCK % 'x'}]"}),
        ("homeassistant: {packages: !include_dir_merge_named p}", {"p__a": f"one: {{notify: [{BLOCK % 'x'}]}}"}),
        ("homeassistant: !include h.yaml", {"h": f"packages: {{one: {{notify: [{BLOCK % 'x'}]}}}}"}),
        ("homeassistant: {packages: {one: !include p.yaml}}", {"p": f"notify: !odd\nnotify 2: [{BLOCK % 'x'}]"}),
    ],
)  # fmt: skip
def test_where_notifiers_are_found(tmp_path: Path, configuration: str, files: dict[str, str]) -> None:
    result = found(tmp_path, configuration=configuration, **files)
    assert names(result) == ["x"]
    assert result.notes == ()


def test_others_are_left_alone_and_unknown_tags_are_not_fatal(tmp_path: Path) -> None:
    configuration = f"""
        notifyer: [{BLOCK % "no"}]
        notify: [{{platform: file}}, text, 5, !odd {{platform: smtp}}, {BLOCK % "mail"}]
        automation: !include automations.yaml
        light: !input {{a: !lambda [b]}}
        """
    result = found(tmp_path, configuration=configuration)
    assert names(result) == ["mail"]
    assert result.notifiers[0].place == f"{tmp_path / 'configuration.yaml'}:3"
    assert result.notes == ()  # what cannot lead to a notifier is not opened


def test_secrets_are_looked_up_as_home_assistant_does_it(tmp_path: Path) -> None:
    result = found(
        tmp_path,
        configuration="notify: !include sub/n.yaml",
        secrets="one: top\ntwo: 12345",
        sub__secrets="one: near",
        sub__n="""
            - {platform: smtp, username: !secret one, password: !secret two}
            - {platform: smtp, username: !env_var PASS, password: !env_var NONE by default}
            """,
    )
    first, second = (one.keys for one in result.notifiers)
    assert first == {"username": Kept(name="one", text="near"), "password": Kept(name="two", text="12345")}
    assert second == {
        "username": Kept(name="PASS", text="from outside"),
        "password": Kept(name="NONE", text="by default"),
    }


def test_what_cannot_be_read_is_noted_with_its_place(tmp_path: Path) -> None:
    configuration = """
        notify:
        - {platform: smtp, password: !secret none, sender: !vault x, recipient: !env_var NONE}
        - !include gone.yaml
        - !include broken.yaml
        """
    result = found(tmp_path, configuration=configuration, broken="a: [")
    place = f"{tmp_path / 'configuration.yaml'}:3"
    assert [(one.place, one.key) for one in result.notes] == [
        (place, "password"),
        (place, "sender"),
        (place, "recipient"),
        (str(tmp_path / "gone.yaml"), ""),
        (f"{tmp_path / 'broken.yaml'}:1", ""),
    ]
    assert set(result.notifiers[0].keys.values()) == {None}


def test_a_file_that_includes_itself_comes_to_an_end(tmp_path: Path) -> None:
    result = found(tmp_path, configuration="notify: !include n.yaml", n="!include n.yaml")
    assert result.notifiers == ()
    assert f"more than {MAX_FILES} files" in result.notes[0].text


def test_the_folders_that_pictures_may_come_from(tmp_path: Path) -> None:
    configuration = "homeassistant: {allowlist_external_dirs: [/media, !secret www]}"
    result = found(tmp_path, configuration=configuration, secrets="www: /config/www")
    assert result.allowed_dirs == ("/media", "/config/www")


@pytest.mark.parametrize("text", ["", "- a", "[", "5"])
def test_what_is_no_configuration(tmp_path: Path, text: str) -> None:
    result = found(tmp_path, configuration=text)
    assert (result.notifiers, len(result.notes)) == ((), 1)
