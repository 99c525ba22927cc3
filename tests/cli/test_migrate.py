"""`migrate-notify-smtp` as a user meets it: what it writes and prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from plugin.cli import main

NOTIFY = """
notify:
- platform: smtp
  name: mail
  server: smtp.example.net
  sender: house@example.net
  recipient: alice@example.net
  username: house
  password: !secret smtp
  timeout: 5
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "configuration.yaml").write_text(NOTIFY)
    (tmp_path / "secrets.yaml").write_text("smtp: pa55word\n")
    return tmp_path


def migrate(home: Path, *options: str) -> Result:
    arguments = ["migrate-notify-smtp", str(home / "configuration.yaml"), "--output", str(home / "out"), *options]
    result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "pa55word" not in result.output
    return result


def test_it_writes_two_files_for_their_owner_and_shows_what_to_change(home: Path) -> None:
    result = migrate(home)
    assert result.exit_code == 0, result.output
    files = {one.name: one for one in (home / "out").iterdir()}
    assert set(files) == {"hardwire.yaml", "secrets.yaml"}
    assert {one.stat().st_mode & 0o777 for one in files.values()} == {0o600}
    assert "pa55word" not in files["hardwire.yaml"].read_text()
    rows = [line.split("    ") for line in result.stdout.splitlines()]
    assert ["- action: notify.mail", "- action: mqtt.publish"] in [
        [one.strip() for one in row if one] for row in rows
    ]
    assert "timeout: not carried over" in result.stderr
    assert f"hardwire check --config {files['hardwire.yaml']}" in result.stdout


def test_as_json(home: Path) -> None:
    result = migrate(home, "--json")
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    assert printed["files"] == [str(home / "out" / name) for name in ("hardwire.yaml", "secrets.yaml")]
    assert [one["key"] for one in printed["notes"]] == ["timeout"]
    assert [one["notifier"] for one in printed["actions"]] == ["mail"]
    assert printed["findings"] == []


def test_it_overwrites_nothing(home: Path) -> None:
    (home / "out").mkdir()
    (home / "out" / "secrets.yaml").write_text("mine: 1")
    result = migrate(home)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(
        f"hardwire: {home / 'out' / 'secrets.yaml'}: is there already"
    )
    assert [(one.name, one.read_text()) for one in (home / "out").iterdir()] == [("secrets.yaml", "mine: 1")]


def test_without_a_notifier_nothing_is_written(home: Path) -> None:
    (home / "configuration.yaml").write_text("notify: !include gone.yaml")
    result = migrate(home)
    assert result.exit_code == 1
    assert "gone.yaml: there is no such file" in result.stderr
    assert "there is no `notify:` block with `platform: smtp`" in result.stderr
    assert not (home / "out").exists()


def test_what_is_missing_is_found_by_the_loader(home: Path) -> None:
    (home / "secrets.yaml").unlink()
    result = migrate(home)
    assert result.exit_code == 78
    assert "write its value into the new secrets.yaml" in result.stderr
    assert "has no smtp_mail; add a line `smtp_mail: …` to it" in result.stderr
    as_json = json.loads(CliRunner().invoke(main, [
        "migrate-notify-smtp", str(home / "configuration.yaml"), "--output", str(home / "two"), "--json",
    ]).stdout)  # fmt: skip
    assert "smtp_mail" in as_json["findings"][0]["text"]


def test_wrong_use() -> None:
    result = CliRunner().invoke(main, ["migrate-notify-smtp", "/nowhere/configuration.yaml"])
    assert result.exit_code == 2
