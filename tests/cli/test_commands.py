"""The commands as a user meets them: what they print, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from plugin.cli import main
from plugin.demo.mailserver import MailServer
from tests.brokers import AnyBroker
from tests.journey.house import ALICE, LOGIN, configuration, mail_server

FAILED, WRONG_USE, PUT_OFF, WRONG_CONFIGURATION = 1, 2, 75, 78


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


def hardwire(*arguments: str | Path, stdin: str | bytes | None = None) -> Result:
    result = CliRunner().invoke(main, [str(one) for one in arguments], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def config(any_broker: AnyBroker, mail: MailServer, tmp_path: Path) -> Path:
    return configuration(tmp_path, any_broker, mail.port)


def test_every_command_has_help_with_an_example() -> None:
    assert isinstance(main, click.Group)
    for name in main.commands:
        shown = hardwire(name, "--help")
        assert shown.exit_code == 0
        assert f"Example: hardwire {name}" in shown.output


def test_wrong_use() -> None:
    assert hardwire("send").exit_code == WRONG_USE
    assert hardwire("nonsense").exit_code == WRONG_USE


@pytest.mark.parametrize(
    "command",
    [["run"], ["check"], ["probe", "x:25"], ["send", "--to", "a", "--message", "m"], ["preview", "alert"]],
)
def test_a_broken_configuration_names_every_fault_with_its_line(tmp_path: Path, command: list[str]) -> None:
    path = tmp_path / "hardwire.yaml"
    path.write_text(
        "mqtt: {port: 99999}\nsender: nobody\nrelays: [{host: x, security: ssl}]\nroutes: []\nwhat: 1\n"
    )
    result = hardwire(*command, "--config", path)
    assert result.exit_code == WRONG_CONFIGURATION
    for place in (":1: mqtt.port", ":2: sender", ":3: relays[0].security", ":5: what"):
        assert f"{path}{place}" in result.output, place


@pytest.mark.parametrize(
    "command", [["run"], ["check"], ["probe", "x:25"], ["send", "--to", "a", "--message", "m"]]
)
def test_no_configuration_at_all(tmp_path: Path, command: list[str]) -> None:
    result = hardwire(*command, "--config", tmp_path / "none.yaml")
    assert result.exit_code == WRONG_CONFIGURATION
    assert "none.yaml" in result.output


def test_check_finds_all_well(config: Path) -> None:
    result = hardwire("check", "--config", config)
    assert result.exit_code == 0, result.output
    for what in ("templates", "outbox", "broker", "chip", "relay"):
        assert f"ok   {what}" in result.output
    assert len(json.loads(hardwire("check", "--config", config, "--json").stdout)) >= 6


def test_check_tells_what_cannot_be_reached(any_broker: AnyBroker, tmp_path: Path) -> None:
    with mail_server() as gone:
        port = gone.port
    config = configuration(
        tmp_path,
        any_broker,
        port,
        mqtt=f"{{host: 127.0.0.1, port: {port}}}",
        relays=f"[{{host: 127.0.0.1, port: {port}, security: none}}]",
    )
    result = hardwire("check", "--config", config, "--json")
    assert result.exit_code == FAILED
    findings = {one["what"].split()[0]: one for one in json.loads(result.stdout)}
    assert findings["broker"]["ok"] is False
    assert findings["relay"]["ok"] is False
    assert "refused" in findings["relay"]["text"]
    assert hardwire("check", "--config", config, "--offline").exit_code == 0


def test_check_finds_a_template_that_cannot_work(any_broker: AnyBroker, mail: MailServer, tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "mine.txt.j2").write_text("{% if %}")
    config = configuration(tmp_path, any_broker, mail.port, templates_dir="templates")
    result = hardwire("check", "--config", config, "--offline")
    assert result.exit_code == FAILED
    assert "FAIL template" in result.output
    assert "mine.txt.j2" in result.output


def test_send_prints_the_outcome_alone(config: Path, mail: MailServer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("attached")
    result = hardwire(
        "send", "--config", config, "--to", "alice", "--title", "T", "--message", "-",
        "--attach", tmp_path / "a.txt", "--json", stdin="from stdin\n",
    )  # fmt: skip
    assert result.exit_code == 0
    outcome = json.loads(result.stdout)
    assert outcome["event_type"] == "success"
    assert outcome["recipients"][0]["address"] == ALICE
    (content,) = mail.mails
    assert b"from stdin" in content
    assert b"a.txt" in content


def test_send_shows_the_dialogue_on_stderr(config: Path) -> None:
    result = hardwire("send", "--config", config, "--to", ALICE, "--message", "m")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["event_type"] == "success"
    assert "C: EHLO" in result.stderr


def test_send_to_one_whom_the_server_refuses(config: Path) -> None:
    result = hardwire("send", "--config", config, "--to", "nobody", "--message", "m", "--json")
    assert result.exit_code == FAILED
    assert json.loads(result.stdout)["recipients"][0]["code"] == 550


def test_send_while_the_relay_is_away_is_put_off(config: Path, mail: MailServer) -> None:
    mail.close()
    result = hardwire("send", "--config", config, "--to", "alice", "--message", "m", "--json")
    assert result.exit_code == PUT_OFF
    assert json.loads(result.stdout)["event_type"] == "deferred"


@pytest.mark.parametrize("to", ["unknown-name", "no address@", "a@b@c"])
def test_send_to_what_is_no_recipient(config: Path, mail: MailServer, to: str) -> None:
    for more in ([], ["--dry-run"]):
        result = hardwire("send", "--config", config, "--to", to, "--message", "m", *more)
        assert result.exit_code == FAILED
        assert to in result.output
    assert mail.mails == ()


def test_a_dry_run_prints_the_mail_and_sends_none(config: Path, mail: MailServer) -> None:
    result = hardwire("send", "--config", config, "--to", "alice", "--title", "Dry", "--message", "m", "--dry-run")
    assert result.exit_code == 0
    assert "Subject: Dry" in result.stdout
    assert mail.mails == ()


def test_a_wrong_password_is_shown_nowhere(any_broker: AnyBroker, mail: MailServer, tmp_path: Path) -> None:
    relay = f"[{{host: 127.0.0.1, port: {mail.port}, security: none, username: {LOGIN}, password: hidden-one}}]"
    config = configuration(tmp_path, any_broker, mail.port, relays=relay)
    for command in (["check"], ["send", "--to", "alice", "--message", "m"]):
        result = hardwire(*command, "--config", config)
        assert "535" in result.output
        assert "hidden-one" not in result.output


def test_preview_needs_no_configuration(tmp_path: Path) -> None:
    none = tmp_path / "none.yaml"
    result = hardwire("preview", "alert", "--config", none)
    assert result.exit_code == 0
    assert "Water in the cellar" in result.stdout
    html = hardwire("preview", "alert", "--config", none, "--part", "html").stdout
    assert html.lstrip().startswith("<!")
    parts = json.loads(hardwire("preview", "alert", "--config", none, "--json").stdout)
    assert set(parts) == {"subject", "text", "html", "mail", "notes"}


def test_preview_of_a_payload(tmp_path: Path) -> None:
    payload = tmp_path / "p.json"
    payload.write_text('{"title": "Mine", "message": "m"}')
    result = hardwire("preview", "alert", "--config", tmp_path / "none", "--payload", payload, "--part", "subject")
    assert result.stdout == "Mine\n"
    payload.write_text('{"data": 5}')
    result = hardwire("preview", "alert", "--config", tmp_path / "none", "--payload", payload)
    assert result.exit_code == FAILED
    assert "data must be an object" in result.output


def test_preview_of_a_template_that_fails(any_broker: AnyBroker, mail: MailServer, tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "mine.txt.j2").write_text("{{ moisture_of_nobody }}")
    config = configuration(tmp_path, any_broker, mail.port, templates_dir="templates")
    result = hardwire("preview", "mine", "--config", config)
    assert result.exit_code == FAILED
    assert "moisture_of_nobody" in result.output
    assert "there are: alert, mine" in hardwire("preview", "other", "--config", config).output
