"""What ``hardwire demo`` does beside the show: other people's files, an early end, alerts by hand, no reader."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from click.testing import CliRunner
from paho.mqtt.enums import CallbackAPIVersion

from plugin.cli import main
from plugin.demo.broker import mosquitto_binary
from plugin.demo.show import _outcome, _told

LIMIT_S = 60
COMMAND = [sys.executable, "-m", "plugin", "demo", "--output"]


def demo(output: Path, *options: str) -> tuple[int, str]:
    """Run the demo where it fails before it begins; return the exit code and what it says."""
    result = CliRunner().invoke(main, ["demo", "--output", str(output), *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.stdout == ""
    return result.exit_code, result.stderr


@contextmanager
def running(output: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*COMMAND, str(output), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(process: subprocess.Popen[str], pattern: str) -> list[str]:
    """Read what is shown up to the first line with ``pattern``."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return lines
    raise AssertionError(f"{pattern} was not shown:\n{''.join(lines)}")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# --- where it writes --------------------------------------------------------------------------------------------


def test_a_configuration_that_is_not_from_a_demo_is_never_touched(tmp_path: Path) -> None:
    mine = {"hardwire.yaml": "mqtt: {}\n", "1-garage_door.eml": "mine", "outbox.db": "mine"}
    for name, text in mine.items():
        (tmp_path / name).write_text(text)
    code, said = demo(tmp_path)
    assert code == 1
    assert "hardwire.yaml is not from a demo and stays: name another --output" in said
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == mine


@pytest.mark.parametrize("inside", ["file/below", "/proc/hardwire-demo"])
def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, inside: str) -> None:
    (tmp_path / "file").write_text("")
    code, said = demo(tmp_path / inside)
    assert code == 1
    assert re.fullmatch(r"hardwire: \S+ cannot be written \([A-Z][a-z ]+\): name another --output\n", said)


def test_a_former_show_is_removed_and_nothing_else(tmp_path: Path) -> None:
    former = ["hardwire.yaml", "7-garage_door.eml", "9-by-hand.eml", "9-by-hand.html"]
    kept = ["1-garage_door.eml.bak", "letter.eml", "2-somebody.html"]
    for name in (*former, *kept):
        (tmp_path / name).write_text(
            "# Written by `hardwire demo` for the broker and the mail server that it had started.\n"
        )
    assert (
        subprocess.run([*COMMAND, str(tmp_path)], capture_output=True, timeout=LIMIT_S, check=False).returncode
        == 0
    )
    shown = {
        f"{stem}.{kind}" for stem in ("1-garage_door", "2-front_door", "3-water_leak") for kind in ("eml", "html")
    }
    assert {path.name for path in tmp_path.iterdir()} == {"hardwire.yaml", *shown, *kept}
    assert (tmp_path / "hardwire.yaml").stat().st_mode & 0o777 == 0o600  # it holds a password


# --- what is missing --------------------------------------------------------------------------------------------


def test_without_its_extra_it_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['aiosmtpd'] = None; from plugin.cli import main; main(prog_name='hardwire')"
    done = subprocess.run(
        [sys.executable, "-c", code, "demo", "--output", str(tmp_path)],
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        "hardwire: the demo needs what the extra brings (aiosmtpd is missing): pip install 'hardwire[demo]'\n"
    )


def test_without_any_broker_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugin.demo.broker.mosquitto_binary", lambda: None)
    monkeypatch.setitem(sys.modules, "iotcore", None)
    for options in ([], ["--broker", "embedded"], ["--broker", "mosquitto"]):
        code, said = demo(tmp_path, *options)
        assert code == 1
        assert "there is no mosquitto on this machine" in said
        assert "pip install 'hardwire[demo]'" in said


# --- how it ends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_an_early_end_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path) as process:
        ports = [int(one) for one in re.findall(r"127\.0\.0\.1:(\d+)", "".join(until(process, "bridge ")))]
        assert len(ports) == 2
        until(process, "C: EHLO")
        process.send_signal(number)
        process.send_signal(number)  # an impatient one does no harm
        said, told = process.communicate(timeout=LIMIT_S)
    # Where the show was over before the signal came, it ended by itself; the pipe holds it that long.
    assert process.returncode == (0 if "4 outcomes" in said else 1)
    assert "Traceback" not in told
    assert not any(listens(port) for port in ports)


def test_stay_ends_well_with_ctrl_c(tmp_path: Path) -> None:
    with running(tmp_path, "--stay") as process:
        until(process, "mosquitto_sub")
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, told) == (0, "")


@pytest.mark.parametrize("options", [[], ["--stay"]])
def test_a_reader_that_leaves_ends_it_without_a_traceback(tmp_path: Path, options: list[str]) -> None:
    with running(tmp_path, *options) as process:
        until(process, "C: EHLO")
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        told = process.stderr.read()
        assert process.wait(LIMIT_S) == 1
    assert told == ""


def test_a_narrow_window_breaks_no_line_of_its_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, str(tmp_path)],
        capture_output=True, text=True, timeout=LIMIT_S, check=False, env={"COLUMNS": "30", "TERM": "dumb"},
    )  # fmt: skip
    assert done.returncode == 0
    assert re.search(r"^   broker   \w+, MQTT 5, 127\.0\.0\.1:\d+$", done.stdout, re.MULTILINE)
    assert f"   bridge   {tmp_path}/hardwire.yaml\n" in done.stdout


# --- alerts by hand ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["embedded", *(["mosquitto"] if mosquitto_binary() else [])])
def test_what_is_published_by_hand_is_shown_also_when_it_fails(tmp_path: Path, kind: str) -> None:
    alerts: dict[str, bytes] = {
        "good": b"From my hand",
        "stranger": b'{"to": "stranger", "message": "x"}',
        "some": b'{"to": ["alice", "stranger"], "title": "Some get it"}',
        "malformed": b'{"severity": "nope"}',
    }
    with running(tmp_path, "--stay", "--broker", kind) as process:
        (line,) = re.findall(r"mosquitto_sub -h (\S+) -p (\d+)", until(process, "mosquitto_sub")[-1])
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        client.connect(line[0], int(line[1]))
        client.loop_start()
        client.publish("alerts/success/x", b"no outcome at all", qos=1).wait_for_publish(LIMIT_S)
        client.publish("alerts/success/x", b'{"recipients": 5}', qos=1).wait_for_publish(LIMIT_S)
        shown: dict[str, str] = {}
        for name, payload in alerts.items():
            client.publish(f"alerts/email/{name}", payload, qos=1).wait_for_publish(LIMIT_S)
            shown[name] = "".join(until(process, rf"outcome  alerts/\w+/{name} "))
        client.disconnect()
        client.loop_stop()
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, told) == (0, "")
    assert "saved as" in shown["good"]
    assert "alerts/success/good  alice@demo.test accepted 250 2.0.0" in shown["good"]
    assert "alerts/failure/stranger  stranger@demo.test refused 550 5.1.1" in shown["stranger"]
    assert "saved as" not in shown["stranger"]
    assert "alice@demo.test accepted 250 2.0.0; stranger@demo.test refused 550 5.1.1" in shown["some"]
    assert "alerts/failure/malformed  severity must be 'info', 'warning' or 'critical'." in shown["malformed"]
    saved = {path.name: path.read_bytes() for path in tmp_path.glob("*-by-hand.eml")}
    subjects = {name: message_from_bytes(mail, policy=policy.default)["Subject"] for name, mail in saved.items()}
    assert subjects == {"4-by-hand.eml": "Good", "5-by-hand.eml": "Some get it"}
    assert b"From my hand" in saved["4-by-hand.eml"]


FATE: dict[str, Any] = {"address": "a@b", "state": "accepted", "code": 250, "enhanced": None}
OUTCOME: dict[str, Any] = {
    "event_type": "success",
    "reason": None,
    "recipients": [FATE],
    "greeting": "EHLO",
    "authenticated": True,
    "duration_s": 0.5,
}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "a@b accepted 250  (EHLO, authenticated, 0.5 s)"),
        ({"authenticated": False, "greeting": "HELO"}, "a@b accepted 250  (HELO, not authenticated, 0.5 s)"),
        ({"greeting": None, "recipients": [], "reason": "no route matches"}, "no route matches  (0.5 s)"),
        ({"greeting": None, "reason": "nobody listens", "duration_s": None}, "nobody listens"),
    ],
)
def test_an_outcome_as_one_line(changes: dict[str, Any], line: str) -> None:
    told = _outcome(json.dumps({**OUTCOME, **changes}).encode())
    assert told is not None
    assert _told(told) == line


@pytest.mark.parametrize("payload", [b"", b"\xff", b"5", b"{}", b'{"recipients": []}', b"[" * 100_000])
def test_what_is_no_outcome(payload: bytes) -> None:
    assert _outcome(payload) is None
    assert _outcome(json.dumps({**OUTCOME, "recipients": [5]}).encode()) is None
