"""``send`` and ``preview`` with what people give them by mistake, and with output that nobody takes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from plugin.cli import main
from plugin.demo.mailserver import MailServer
from tests.journey.house import ALICE, BOB, mail_server

FAILED, WRONG_USE, PUT_OFF = 1, 2, 75
LIMIT_S = 60
FULL_DISK = Path("/dev/full")


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


def written(folder: Path, relay_port: int, more: str = "") -> Path:
    """Write a configuration without a broker: these commands need none."""
    path = folder / "hardwire.yaml"
    path.write_text(
        f"relays: [{{host: 127.0.0.1, port: {relay_port}, security: none}}]\n"
        'sender: "House <house@demo.test>"\n'
        f"recipients: {{alice: {ALICE}, bob: {BOB}, both: [alice, bob]}}\n"
        'routes: [{topic: "#", to: [alice]}]\n' + more
    )
    return path


@pytest.fixture
def config(mail: MailServer, tmp_path: Path) -> Path:
    return written(tmp_path, mail.port)


def hardwire(*arguments: str | Path, stdin: str | bytes | None = None) -> Result:
    result = CliRunner().invoke(main, [str(one) for one in arguments], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "plugin", *(str(one) for one in arguments)]


def text_of(content: bytes) -> str:
    part = message_from_bytes(content, policy=policy.default).get_body(("plain",))
    assert part is not None
    return str(part.get_content())


# --- send -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", [["--to", "alice,bob"], ["--to", "alice", "--to", " bob "], ["--to", "both"]])
def test_several_recipients(config: Path, mail: MailServer, to: list[str]) -> None:
    result = hardwire("send", "--config", config, *to, "--message", "m", "--json")
    assert result.exit_code == 0
    assert [one["address"] for one in json.loads(result.stdout)["recipients"]] == [ALICE, BOB]
    assert len(mail.mails) == 1


def test_octets_that_are_no_text_are_replaced(config: Path, mail: MailServer) -> None:
    result = hardwire("send", "--config", config, "--to", "alice", "--message", "-", "--json", stdin=b"a\xff\xfeb")
    assert result.exit_code == 0
    assert "a\ufffd\ufffdb" in text_of(mail.mails[0])


def test_arguments_that_are_no_text_are_no_fault(config: Path, mail: MailServer) -> None:
    arguments: list[str | bytes] = [*command("send", "--config", config, "--to", "alice")]
    arguments += ["--message", b"a\xff", "--title", b"\xfe"]
    done = subprocess.run(arguments, capture_output=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    assert len(mail.mails) == 1


def test_what_comes_in_is_bounded(mail: MailServer, tmp_path: Path) -> None:
    config = written(tmp_path, mail.port, "limits: {payload_bytes: 1000}\n")
    too_much: list[tuple[list[str], str | None]] = [
        (["--message", "-"], "x" * 1001),
        (["--message", "m", "--attach", "/dev/zero"], None),
    ]
    for more, stdin in too_much:
        result = hardwire("send", "--config", config, "--to", "alice", *more, "--json", stdin=stdin)
        assert result.exit_code == FAILED
        assert "larger than limits.payload_bytes (1000 octets)" in result.stderr
        assert result.stdout == ""
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(bytes(400))
    files = ["--attach", str(tmp_path / "a"), "--attach", str(tmp_path / "b")]
    for dry in ([], ["--dry-run"]):
        result = hardwire("send", "--config", config, "--to", "alice", "--message", "m", *files, *dry)
        assert result.exit_code == FAILED
        assert "limits.payload_bytes allows 1000" in result.stderr
    assert mail.mails == ()


@pytest.mark.parametrize("name", ["missing.jpg", "."])
def test_a_file_that_is_none(config: Path, mail: MailServer, tmp_path: Path, name: str) -> None:
    result = hardwire("send", "--config", config, "--to", "alice", "--message", "m", "--attach", tmp_path / name)
    assert result.exit_code == WRONG_USE
    assert "--attach" in result.stderr
    assert mail.mails == ()


def test_a_file_that_cannot_be_read_is_named(
    config: Path, mail: MailServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever runs the tests may be root, to whom nothing is forbidden; so the refusal is played."""
    picture = tmp_path / "camera.jpg"
    picture.write_bytes(b"x")
    opened = Path.open

    def refuse(self: Path, *arguments: object, **more: object) -> object:
        if self == picture:
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *arguments, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    result = hardwire("send", "--config", config, "--to", "alice", "--message", "m", "--attach", picture)
    assert result.exit_code == FAILED
    assert "camera.jpg" in result.stderr
    assert "Permission denied" in result.stderr
    assert mail.mails == ()


def test_an_unknown_template_is_refused_before_anything_is_sent(config: Path, mail: MailServer) -> None:
    for more in ([], ["--dry-run"]):
        result = hardwire("send", "--config", config, "--to", "alice", "--message", "m", "--template", "no", *more)
        assert result.exit_code == FAILED
        assert 'no template "no"; there are: alert' in result.stderr
    assert mail.mails == ()


def test_put_off_promises_no_attempt_that_nobody_makes(config: Path, mail: MailServer) -> None:
    mail.close()
    result = hardwire("send", "--config", config, "--to", "alice", "--message", "m")
    assert result.exit_code == PUT_OFF
    outcome = json.loads(result.stdout)
    assert (outcome["event_type"], outcome["next_attempt_at"]) == ("deferred", None)
    assert "refused" in result.stderr


def test_a_dry_run_as_json(config: Path, mail: MailServer, tmp_path: Path) -> None:
    (tmp_path / "f.txt").write_text("attached")
    result = hardwire(
        "send", "--config", config, "--to", "both", "--title", "T", "--message", "m",
        "--attach", tmp_path / "f.txt", "--dry-run", "--json",
    )  # fmt: skip
    draft = json.loads(result.stdout)
    assert set(draft) == {"sender", "recipients", "subject", "message_id", "mail", "notes"}
    assert (draft["sender"], draft["recipients"], draft["subject"]) == ("house@demo.test", [ALICE, BOB], "T")
    letter = message_from_bytes(draft["mail"].encode(), policy=policy.default)
    assert letter["Message-ID"] == draft["message_id"]
    assert "f.txt" in draft["mail"]
    assert mail.mails == ()


def test_a_dry_run_prints_the_mail_octet_for_octet_and_its_notes_apart(mail: MailServer, tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "mine.txt.j2").write_text("{{ nothing_of_that_name }}")
    config = written(tmp_path, mail.port, "templates_dir: templates\n")
    arguments = ("send", "--config", config, "--to", "alice", "--message", "m", "--template", "mine", "--dry-run")
    done = subprocess.run(command(*arguments), capture_output=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0
    assert done.stdout.endswith(b"\r\n")
    assert b"\n" not in done.stdout.replace(b"\r\n", b"")
    assert done.stderr.startswith(b"note: template mine.txt.j2, line 1: 'nothing_of_that_name' is undefined")


def test_a_folder_away_a_relative_configuration_means_the_same(
    config: Path, mail: MailServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "mine.subject.j2").write_text("Mine")
    written(tmp_path, mail.port, "templates_dir: templates\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    result = hardwire(
        "send", "--config", "../hardwire.yaml", "--to", "alice", "--message", "m", "--template", "mine", "--json"
    )
    assert json.loads(result.stdout)["subject"] == "Mine"


def test_the_mail_goes_although_nobody_reads_the_dialogue(config: Path, mail: MailServer) -> None:
    """The reader of standard error has left before the first line: that is no fault of the network."""
    arguments = command("send", "--config", config, "--to", "alice", "--message", "m")
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdout=pipe, stderr=pipe, env=buffered) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.close()
        process.stderr = None
        said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0
    assert json.loads(said)["event_type"] == "success"
    assert len(mail.mails) == 1


def test_ctrl_c_while_the_server_keeps_silent(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        config = written(tmp_path, server.getsockname()[1])
        arguments = command("send", "--config", config, "--to", "alice", "--message", "m")
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            server.settimeout(LIMIT_S)
            connection, _ = server.accept()
            process.send_signal(signal.SIGINT)
            said, told = process.communicate(timeout=LIMIT_S)
            connection.close()
    assert process.returncode == FAILED
    assert said == b""
    assert b"Aborted!" in told
    assert b"Traceback" not in told


def timeless(text: str) -> str:
    """Return ``text`` without what differs from one preview to the next: the time, and the alert's identity."""
    return re.sub(r"[0-9-]{10} [0-9:]{8}|[0-9a-f]{32}", "", text)


# --- preview ----------------------------------------------------------------------------------------------------


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder without a configuration."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("nowhere")
def test_a_configuration_that_was_named_and_is_not_there_is_told() -> None:
    result = hardwire("preview", "alert", "--config", "typo.yaml", "--part", "subject")
    assert (result.exit_code, result.stdout) == (0, "Water in the cellar\n")
    assert "there is no typo.yaml" in result.stderr
    assert hardwire("preview", "alert", "--part", "subject").stderr == ""


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(
    ("payload", "subject", "text"),
    [
        (b'{"title": "T", ', "Water leak", '{"title": "T",'),
        (b"plain \xff", "Water leak", "plain \ufffd"),
        ('{"title": "Tür ☃"}'.encode(), "Tür ☃", "Tür ☃"),
        (b"", "Water leak", "Water leak"),
    ],
    ids=["malformed JSON is text", "octets", "beyond ASCII", "empty"],
)
def test_payloads_of_all_kinds(payload: bytes, subject: str, text: str) -> None:
    assert (
        hardwire("preview", "alert", "--payload", "-", "--part", "subject", stdin=payload).stdout == f"{subject}\n"
    )
    assert text in hardwire("preview", "alert", "--payload", "-", "--part", "text", stdin=payload).stdout


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(
    ("payload", "words"),
    [(b"[1]", "JSON array"), (b'{"severity": "nope"}', "severity must be"), (b"x" * 10_485_761, "larger than")],
)
def test_payloads_that_would_be_refused(payload: bytes, words: str) -> None:
    result = hardwire("preview", "alert", "--payload", "-", "--json", stdin=payload)
    assert result.exit_code == FAILED
    assert words in result.stderr
    assert result.stdout == ""


@pytest.mark.usefixtures("nowhere")
def test_every_part() -> None:
    whole = hardwire("preview", "alert").stdout
    parts = json.loads(hardwire("preview", "alert", "--json").stdout)
    assert [line for line in whole.splitlines() if line.startswith("--- ")] == [
        "--- subject",
        "--- text",
        "--- html",
    ]
    for name in ("subject", "text", "html"):
        shown = hardwire("preview", "alert", "--part", name).stdout
        assert timeless(shown) == timeless(f"{parts[name]}\n")
    assert hardwire("preview", "alert", "--part", "mail").stdout_bytes.startswith(b"Date: ")


@pytest.mark.usefixtures("nowhere")
def test_what_was_left_out_is_noted() -> None:
    payload = '{"attachments": [{"path": "/etc/hostname"}]}'
    result = hardwire("preview", "alert", "--payload", "-", "--json", stdin=payload)
    assert result.exit_code == 0
    (note,) = json.loads(result.stdout)["notes"]
    assert "attachments.allowed_dirs" in note
    assert result.stderr == f"note: {note}\n"


def test_a_reader_that_leaves_is_no_reason_for_a_traceback(tmp_path: Path) -> None:
    arguments = command("preview", "alert", "--part", "html")
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # as `head` does, long before anything is printed
        told = process.stderr.read()
        assert process.wait(LIMIT_S) == FAILED
    assert told == b""


def test_a_full_disk_is_told_in_a_sentence(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    with FULL_DISK.open("wb") as full:
        done = subprocess.run(
            command("preview", "alert"),
            stdout=full, stderr=subprocess.PIPE, cwd=tmp_path, env=environment, timeout=LIMIT_S, check=False,
        )  # fmt: skip
    assert done.returncode == FAILED
    assert done.stderr == b"hardwire: No space left on device\n"
