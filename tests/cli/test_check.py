"""``check`` where something is wrong: each fault is found, told with its remedy, and never ends the check."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from plugin.cli import main
from tests.brokers import AnyBroker, kinds, launch
from tests.journey.house import LOGIN, Automation, base_of, configuration, mail_server

FAILED, WRONG_CONFIGURATION = 1, 78


def check(config: Path, *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the exit code and the findings by the first word of what they are about."""
    result = CliRunner().invoke(main, ["check", "--config", str(config), "--json", *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.stderr == ""  # the findings tell it all
    findings = json.loads(result.stdout)
    for one in findings:
        assert set(one) == {"what", "ok", "text"}
        assert one["text"]
    assert result.exit_code in (WRONG_CONFIGURATION, 0 if all(one["ok"] for one in findings) else FAILED)
    return result.exit_code, {one["what"].split()[0]: one for one in findings}


@contextmanager
def speaking(greeting: bytes) -> Iterator[int]:
    """Serve ``greeting`` to whoever connects, and close; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(greeting)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)


@pytest.mark.parametrize("text", ["mqtt: {port: 0}\nrelays: 5\n", "a: [", "", "\x00", "- 1"])
def test_faults_of_the_configuration_are_json_too(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hardwire.yaml"
    path.write_text(text)
    code, findings = check(path)
    assert code == WRONG_CONFIGURATION
    assert findings
    assert all(not one["ok"] and str(path) in one["what"] for one in findings.values())


def test_no_configuration_is_json_too(tmp_path: Path) -> None:
    code, findings = check(tmp_path / "none.yaml")
    assert code == WRONG_CONFIGURATION
    assert [one["text"] for one in findings.values()] == ["there is no such file"]


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    code, findings = check(tmp_path)
    assert code == WRONG_CONFIGURATION
    assert str(tmp_path) in next(iter(findings))


def test_a_wrong_password_for_the_broker(tmp_path: Path) -> None:
    broker = launch(kinds()[0], users={"hardwire": "right"})
    try:
        with mail_server() as mail:
            mqtt = f'{{host: {broker.host}, port: {broker.port}, username: hardwire, password: "%s"}}'
            code, findings = check(configuration(tmp_path, broker, mail.port, mqtt=mqtt % "hidden-one"))
            assert code == FAILED
            assert findings["broker"]["ok"] is False
            assert "mqtt.password" in findings["broker"]["text"] or "mqtt.username" in findings["broker"]["text"]
            assert "hidden-one" not in json.dumps(findings)
            assert findings["relay"]["ok"] is True  # what comes after it is looked at all the same
            code, findings = check(configuration(tmp_path, broker, mail.port, mqtt=mqtt % "right"))
            assert (code, findings["broker"]["ok"]) == (0, True)
    finally:
        broker.close()


def test_certificates_that_cannot_be_used(any_broker: AnyBroker, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with mail_server() as mail:
        config = configuration(
            tmp_path, any_broker, mail.port, mqtt="{host: 127.0.0.1, port: 8883, tls: {ca_file: ca.pem}}"
        )
        code, findings = check(config)
    assert code == FAILED
    assert "mqtt.tls.ca_file" in findings["broker"]["text"]
    run = [sys.executable, "-m", "plugin", "run", "--config", str(config)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == WRONG_CONFIGURATION
    assert done.stderr.splitlines()[-1].startswith(f"{config}: mqtt.tls.ca_file ")


def test_a_wrong_password_for_the_relay_with_its_remedy(any_broker: AnyBroker, tmp_path: Path) -> None:
    with mail_server() as mail:
        relay = (
            f"[{{host: 127.0.0.1, port: {mail.port}, security: none, username: {LOGIN}, password: hidden-one}}]"
        )
        code, findings = check(configuration(tmp_path, any_broker, mail.port, relays=relay))
    assert code == FAILED
    assert findings["relay"]["text"].startswith("auth: 535")
    assert "check relays[].username" in findings["relay"]["text"]
    assert "hidden-one" not in json.dumps(findings)


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (b"554 no service for you\r\n", "greeting: 554"),
        (b"HTTP/1.1 400 Bad Request\r\n", "greeting:"),
        (b"", "greeting:"),
    ],
)
def test_a_relay_that_refuses(any_broker: AnyBroker, tmp_path: Path, greeting: bytes, words: str) -> None:
    with speaking(greeting) as port:
        code, findings = check(configuration(tmp_path, any_broker, port))
    assert code == FAILED
    assert findings["relay"]["text"].startswith(words)
    assert "is this the port of a mail server" in findings["relay"]["text"]


def test_relays_are_looked_at_one_by_one(any_broker: AnyBroker, tmp_path: Path) -> None:
    with mail_server() as gone:
        closed_port = gone.port
    with mail_server() as mail:
        relays = ", ".join(
            f"{{host: 127.0.0.1, port: {port}, security: none}}" for port in (closed_port, mail.port)
        )
        config = configuration(tmp_path, any_broker, 0, relays=f"[{relays}]")
        result = CliRunner().invoke(main, ["check", "--config", str(config)])
        assert mail.mails == ()
    assert result.exit_code == FAILED
    assert f"FAIL relay 127.0.0.1:{closed_port}: connect: " in result.stdout
    assert f"ok   relay 127.0.0.1:{mail.port}: EHLO, not authenticated" in result.stdout
    assert "1 route, 2 relays" in result.stdout


@pytest.mark.parametrize(
    ("bus", "words"),
    [
        ("no_such_module_at_all:bus", "No module named"),
        ("adapter_of_the_tests:missing", "missing"),
        ("adapter_of_the_tests:Silent", "MISO is stuck at 0"),
        ("adapter_of_the_tests:Odd", "boom"),
        ("adapter_of_the_tests:nothing", "no exchange"),
    ],
)
def test_a_bus_that_fails(any_broker: AnyBroker, tmp_path: Path, bus: str, words: str) -> None:
    (tmp_path / "adapter_of_the_tests.py").write_text(
        "class Silent:\n    def exchange(self, frames): return bytes(len(frames))\n"
        "class Odd:\n    def exchange(self, frames): raise KeyError('boom')\n"
        "def nothing(): return 5\n"
    )
    # A module is imported once in a process: the one of another test's folder must not be met again.
    module = f"adapter_{tmp_path.name}"
    (tmp_path / "adapter_of_the_tests.py").rename(tmp_path / f"{module}.py")
    with mail_server() as mail:
        config = configuration(
            tmp_path, any_broker, mail.port, chip=f'{{bus: "{bus.replace("adapter_of_the_tests", module)}"}}'
        )
        code, findings = check(config)
    assert code == FAILED
    assert findings["chip"]["ok"] is False
    assert words in findings["chip"]["text"]
    assert findings["broker"]["ok"] is True


def _no_folder(folder: Path) -> str:
    return str(folder / "missing" / "x.db")


def _a_folder(folder: Path) -> str:
    return str(folder)


def _another_file(folder: Path) -> str:
    (folder / "photo.jpg").write_bytes(b"\xff\xd8\xff" + bytes(100))
    return "photo.jpg"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (_no_folder, "is no folder: make it"),
        (_a_folder, "is no file: give another"),
        (_another_file, "is no outbox: move it away"),
    ],
)
def test_an_outbox_that_cannot_be(
    any_broker: AnyBroker, tmp_path: Path, place: Callable[[Path], str], words: str
) -> None:
    config = configuration(tmp_path, any_broker, 25, outbox=f"{{path: {place(tmp_path)}}}")
    before = sorted(tmp_path.rglob("*"))
    code, findings = check(config, "--offline")
    assert code == FAILED
    assert words in findings["outbox"]["text"]
    assert set(findings) == {"configuration", "templates", "outbox"}  # nothing was reached for
    assert sorted(tmp_path.rglob("*")) == before


def test_an_outbox_that_may_not_be_written(
    any_broker: AnyBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever runs the tests may be root, to whom nothing is forbidden; so the system's answer is played."""
    config = configuration(tmp_path, any_broker, 25)
    access = os.access
    monkeypatch.setattr("plugin.inspect.os.access", lambda path, mode: path != tmp_path and access(path, mode))
    code, findings = check(config, "--offline")
    assert code == FAILED
    assert "cannot be written: give it to the user that runs Hardwire" in findings["outbox"]["text"]


def test_an_outbox_at_work_is_left_alone(any_broker: AnyBroker, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "outbox.db") as database:
        database.execute("CREATE TABLE t (x)")
        database.execute("BEGIN EXCLUSIVE")
        assert check(configuration(tmp_path, any_broker, 25), "--offline")[0] == 0
    database.close()


def test_a_running_bridge_keeps_its_session_and_its_state(any_broker: AnyBroker, tmp_path: Path) -> None:
    """The check is another client: the retained ``online`` stays, and no alert is taken or announced."""
    automation = Automation(any_broker, base_of(tmp_path))
    try:
        with mail_server() as mail:
            assert check(configuration(tmp_path, any_broker, mail.port))[0] == 0
        automation.publish("one", b"text")
        assert automation.outcomes.empty()
        assert automation.retained == {}
    finally:
        automation.close()
