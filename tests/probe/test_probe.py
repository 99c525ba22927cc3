"""``hardwire probe`` against servers: real ones with and without TLS, and such as do what they should not."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import AuthResult
from click.testing import CliRunner, Result

from plugin.cli import main
from plugin.probe.probing import probe
from plugin.probe.visit import Visit
from plugin.probe.way import BoundedStream, Patience, Way, look_up
from plugin.smtp import Settings, Stream
from plugin.smtp.settings import Security
from tests.smtp.tls_servers import (
    AUTHORITY,
    STRANGER,
    Behaviour,
    Dialogue,
    connect_by_host,
    server_context,
    serving,
)

REFUSED, WRONG_USE, NOT_NOW = 1, 2, 75
LIMIT_S = 60
LOGIN, PASSWORD = "house", "s3cret pass"
DOCUMENTED = Path(__file__).parents[2] / "docs" / "contract.md"


def hardwire(*arguments: str | Path, password: str | None = None, colour: bool = False) -> Result:
    environment = {"HARDWIRE_PROBE_PASSWORD": password, "NO_COLOR": None, "TERM": "xterm"}
    environment["FORCE_COLOR"] = "1" if colour else None
    result = CliRunner().invoke(main, ["probe", *map(str, arguments)], env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def found(*arguments: str | Path, password: str | None = None) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    result = hardwire(*arguments, "--json", password=password)
    told: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == told["exit_code"]
    return told


def steps(told: dict[str, Any], connection: int = 1) -> list[str]:
    return [one["step"] for one in told["steps"] if one["connection"] == connection]


# --- Real servers -----------------------------------------------------------------------------------------------


@contextmanager
def mail_server(security: Security) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    context = server_context()
    controller = Controller(
        Sink(),
        hostname="127.0.0.1",
        port=port,
        ssl_context=context if security == "tls" else None,
        tls_context=context if security == "starttls" else None,
        auth_require_tls=security == "starttls",
        authenticator=lambda _server, _session, _envelope, _mechanism, data: AuthResult(
            success=(data.login, data.password) == (LOGIN.encode(), PASSWORD.encode()), handled=False
        ),
        data_size_limit=10485760,
    )
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


@pytest.mark.parametrize("way", [[], ["--host"]], ids=["chip", "host"])
@pytest.mark.parametrize(
    ("security", "named", "expected"),
    [
        ("none", None, ["greeting", "EHLO", "QUIT"]),
        ("starttls", None, ["greeting", "EHLO", "STARTTLS", "TLS", "EHLO", "QUIT"]),
        ("tls", "tls", ["TLS", "greeting", "EHLO", "QUIT"]),
    ],
)
def test_a_server_where_all_is_well(
    way: list[str], security: Security, named: str | None, expected: list[str]
) -> None:
    options = [*way, "--ca-file", AUTHORITY, *(["--security", named] if named else [])]
    with mail_server(security) as port:
        told = found(f"localhost:{port}", *options)
        shown = hardwire(f"localhost:{port}", *options)
    assert told["exit_code"] == shown.exit_code == 0
    assert steps(told) == ["look-up", "connect", *expected]
    assert all(one["duration_s"] >= 0 and one["lines"] for one in told["steps"])
    assert (told["security"], told["greeting"], told["problems"]) == (security, "EHLO", [])
    assert told["plan"]["pace"] == "lockstep"
    assert told["plan"]["largest_bytes"] == 10485760
    assert told["relay"]["port"] == port
    assert ("--host" in told["way"]) == bool(way)
    if security == "none":
        assert told["certificate"] is None
    else:
        assert told["certificate"]["checked"]
        assert "localhost" in told["certificate"]["names"]
    assert "\x1b" not in shown.stdout
    assert not re.search("[ \t]$", shown.stdout, re.MULTILINE)
    for words in ("C: EHLO ", "10 MiB", "ok   a letter could follow", f"    port: {port}"):
        assert words in shown.stdout, words


def test_json_has_the_keys_that_the_contract_names() -> None:
    row = next(line for line in DOCUMENTED.read_text().splitlines() if line.startswith("| `probe` | an object"))
    named = set(re.findall(r"`([a-z_]+)`", row)) - {"probe", "relays"}
    with mail_server("none") as port:
        told = found(f"127.0.0.1:{port}")
    assert set(told) == named
    assert set(told["steps"][0]) == {"connection", "step", "duration_s", "lines"}
    assert set(told["extensions"][0]) == {"keyword", "parameters", "meaning"}


def test_a_terminal_gets_colours_and_broken_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    with mail_server("none") as port:
        shown = hardwire(f"127.0.0.1:{port}", colour=True).stdout
    assert "\x1b[36mS: " in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    lines = plain.partition("What the server offers")[2].splitlines()
    assert max(map(len, lines)) <= 60


@pytest.mark.parametrize(
    ("password", "code", "authenticated", "reply"),
    [(PASSWORD, 0, True, None), ("wr0ng-pass", REFUSED, False, "535")],
)
def test_a_login(password: str, code: int, authenticated: bool, reply: str | None) -> None:
    with mail_server("starttls") as port:
        where = [f"localhost:{port}", "--ca-file", AUTHORITY, "--username", LOGIN]
        told = found(*where, password=password)
        shown = hardwire(*where, password=password)
    assert (told["exit_code"], told["authenticated"]) == (code, authenticated)
    assert steps(told)[-2:] == ["AUTH", "QUIT"]
    assert (told["reply"] or "").startswith(reply or "")
    assert told["relay"]["password"] == "!secret smtp"
    assert password not in json.dumps(told) + shown.output
    assert "C: AUTH PLAIN ****" in shown.stdout


def test_the_password_is_asked_for_and_not_shown() -> None:
    with mail_server("starttls") as port:
        result = CliRunner().invoke(
            main,
            ["probe", f"localhost:{port}", "--ca-file", AUTHORITY, "--username", LOGIN],
            input=f"{PASSWORD}\n",
            env={"HARDWIRE_PROBE_PASSWORD": None},
        )
    assert result.exit_code == 0
    assert "logged in" in result.stdout
    assert PASSWORD not in result.output


def test_the_chip_of_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "adapter.py").write_text("from plugin.w5100.emulator import Emulator\nopen_bus = Emulator\n")
    path = tmp_path / "hardwire.yaml"
    path.write_text(
        'chip: {bus: "adapter:open_bus", network: {address: 127.0.0.5/8}}\n'
        "relays: [{host: 127.0.0.1, security: none}]\nsender: house@demo.test\n"
        'recipients: {alice: alice@demo.test}\nroutes: [{topic: "#", to: [alice]}]\n'
    )
    with mail_server("none") as port:
        told = found(f"127.0.0.1:{port}", "--config", path)
        named = found(f"localhost:{port}", "--config", path)
    assert (told["exit_code"], told["helo_name"]) == (0, "[127.0.0.5]")
    assert told["way"] == "the W5100 on adapter:open_bus as 127.0.0.5/8"
    assert named["exit_code"] == NOT_NOW
    assert "--host" in named["fault"]


# --- Servers that do what they should not -----------------------------------------------------------------------


def says(*lines: str) -> Behaviour:
    """Greet with ``lines``, then answer nothing but QUIT."""

    def behave(connection: socket.socket) -> None:
        with Dialogue(connection) as dialogue:
            dialogue.say(*lines)
            if dialogue.hear().upper().startswith(b"QUIT"):
                dialogue.say("221 Bye")

    return behave


def answers(replies: dict[str, list[str]], greeting: str = "220 relay.test") -> Behaviour:
    """Greet, and answer each command by its verb; what is not in there ends the connection."""

    def behave(connection: socket.socket) -> None:
        with Dialogue(connection) as dialogue:
            dialogue.say(greeting)
            while line := dialogue.hear():
                verb = line.split()[0].decode().upper()
                if verb not in replies:
                    return
                dialogue.say(*replies[verb])

    return behave


def holds(connection: socket.socket) -> None:
    """Say nothing until the other side has had enough."""
    while connection.recv(1000):
        pass


def in_tls(certificate: str) -> Behaviour:
    """Speak TLS from the start; whoever does not like the certificate may go."""

    def behave(connection: socket.socket) -> None:
        with suppress(ssl.SSLError, ConnectionError):
            answers({"EHLO": ["250 relay.test"], "QUIT": ["221 Bye"]})(
                server_context(certificate).wrap_socket(connection, server_side=True)
            )

    return behave


BYE = {"QUIT": ["221 Bye"]}
NO_EHLO = answers({"EHLO": ["502 no"], "HELO": ["250 relay.test"], **BYE})
HANGS_UP = answers({"HELO": ["250 relay.test"], **BYE})


@pytest.mark.parametrize(
    ("server", "code", "phase", "words"),
    [
        (says("HTTP/1.1 400 Bad Request"), REFUSED, "greeting", "no mail server"),
        (says("554 not you"), REFUSED, "greeting", "554 not you"),
        (says("421 4.7.0 too many"), NOT_NOW, "greeting", "try again later"),
        (lambda _connection: None, NOT_NOW, "greeting", "hangs up"),
        (answers({"EHLO": ["421 bye"]}), NOT_NOW, "hello", "try again later"),
        (answers({"EHLO": ["250-x", "250 STARTTLS"], "STARTTLS": ["454 no"], **BYE}), NOT_NOW, "tls", "later"),
        (answers({"EHLO": ["250-x", "250 STARTTLS"], "STARTTLS": ["501 no"], **BYE}), REFUSED, "tls", "501 no"),
    ],
)
def test_a_server_that_leaves_no_way(server: Behaviour, code: int, phase: str, words: str) -> None:
    with serving(server) as running:
        told = found(f"127.0.0.1:{running.port}")
    assert (told["exit_code"], told["phase"], told["relay"]) == (code, phase, None)
    assert words in told["problems"][0]


@pytest.mark.parametrize("way", [[], ["--host"]], ids=["chip", "host"])
def test_a_server_that_says_nothing(way: list[str]) -> None:
    with serving(holds, holds) as running:
        told = found(f"127.0.0.1:{running.port}", "--timeout", "1.5", *way)
    assert (told["exit_code"], told["phase"]) == (NOT_NOW, "greeting")
    assert steps(told, 2)[:2] == ["once more", "connect"]
    assert "--security tls" in told["problems"][0]


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    for way in ([], ["--host"]):
        told = found(f"127.0.0.1:{port}", *way)
        assert (told["exit_code"], told["phase"], told["plan"]) == (NOT_NOW, "connect", None)
        assert "check the port" in told["problems"][0]


@pytest.mark.parametrize(
    ("servers", "connections"), [([NO_EHLO, NO_EHLO], 2), ([HANGS_UP, HANGS_UP, HANGS_UP], 3)]
)
def test_a_server_without_ehlo(servers: list[Behaviour], connections: int) -> None:
    with serving(*servers) as running:
        told = found(f"127.0.0.1:{running.port}")
    assert (told["exit_code"], told["greeting"], told["security"]) == (0, "HELO", "none")
    assert told["relay"]["greeting"] == "helo"
    assert steps(told, connections)[-2:] == ["HELO", "QUIT"]


def test_no_password_goes_in_clear_text_unless_that_is_asked_for() -> None:
    heard: list[bytes] = []

    def server(connection: socket.socket) -> None:
        with Dialogue(connection) as dialogue:
            dialogue.say("220 relay.test")
            dialogue.take_letters(["AUTH PLAIN"])
            heard.extend(dialogue.heard)

    with serving(server, server) as running:
        where = [f"127.0.0.1:{running.port}", "--username", LOGIN]
        told = found(*where, password=PASSWORD)
        assert (told["exit_code"], told["phase"]) == (REFUSED, "auth")
        assert not [line for line in heard if line.startswith(b"AUTH")]
        assert found(*where, "--security", "none", password=PASSWORD)["authenticated"]
    assert [line for line in heard if line.startswith(b"AUTH")]


def test_a_server_that_repeats_the_password_finds_no_echo() -> None:
    server = answers({"EHLO": ["250-x", "250 AUTH PLAIN"], "AUTH": [f"535 not {PASSWORD}"], **BYE})
    with serving(server) as running:
        where = [f"127.0.0.1:{running.port}", "--security", "none", "--username", LOGIN]
        told = found(*where, password=PASSWORD)
    assert told["reply"] == "535 not ****"
    assert PASSWORD not in json.dumps(told)


@pytest.mark.parametrize(
    ("certificate", "authority", "words"),
    [
        ("elsewhere", AUTHORITY, "not for localhost"),
        ("expired", AUTHORITY, "has expired"),
        ("server", STRANGER, "comes from no authority"),
    ],
)
def test_a_certificate_that_is_wrong_is_shown(certificate: str, authority: str, words: str) -> None:
    with serving(in_tls(certificate), in_tls(certificate)) as running:
        where = f"localhost:{running.port}"
        told = found(where, "--security", "tls", "--ca-file", authority)
    assert (told["exit_code"], told["phase"], told["security"]) == (REFUSED, "tls", "tls")
    assert words in told["problems"][0]
    assert told["certificate"]["checked"] is False
    assert told["certificate"]["names"]
    assert told["greeting"] == "EHLO"
    assert "NOT CHECKED" not in " ".join(told["notes"])


def test_a_certificate_that_is_not_to_be_checked() -> None:
    with serving(in_tls("elsewhere")) as running:
        told = found(f"localhost:{running.port}", "--security", "tls", "--no-verify")
    assert told["exit_code"] == 0
    assert told["relay"]["verify"] is False
    assert "NOT CHECKED" in " ".join(told["notes"])


class Scripted:
    """A Stream of a server that says what it has to say, and then keeps silent; it does not wait for that."""

    def __init__(self, *says: bytes) -> None:
        self.heard = b""
        self.closed = False
        self.waits_s: list[float] = []
        self._says = list(says)

    def send_all(self, data: bytes, *, timeout_s: float) -> None:
        assert timeout_s > 0
        self.heard += data

    def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
        self.waits_s.append(timeout_s)
        if not self._says:
            raise TimeoutError
        data = self._says.pop(0)
        assert len(data) <= max_bytes
        return data

    def close(self, *, timeout_s: float = 1.0) -> None:
        self.closed = timeout_s > 0


def probed(*streams: Stream, security: Security | None = None) -> tuple[tuple[Visit, ...], list[tuple[str, str]]]:
    """Probe over ``streams``, one after another; return the visits, and each line with its step."""
    lines: list[tuple[str, str]] = []
    waiting = list(streams)
    visits = probe(
        Settings(host="127.0.0.1", helo_name="x.test", ca_file=AUTHORITY),
        2525,
        Way(described="", host_resolves=True, connect=lambda _host, _port, _timeout_s: waiting.pop(0)),
        security=security,
        timeout_s=30,
        clock=lambda: 5.0,
        observe=lambda step, line, _waited_s: lines.append((step, line)),
    )
    assert not waiting
    return visits, lines


def test_tls_from_the_start_is_found_out() -> None:
    silent = Scripted()
    with serving(in_tls("server")) as running:
        visits, lines = probed(silent, connect_by_host(running.port))
    assert [one.phase for one in visits] == ["greeting", None]
    assert visits[1].secured is not None
    assert (silent.heard, silent.closed) == (b"", True)
    assert silent.waits_s == pytest.approx([10])
    assert list(dict.fromkeys(step for step, _ in lines)) == [
        "connect",
        "greeting",
        "once more",
        "TLS",
        "EHLO",
        "QUIT",
    ]


def test_a_server_that_does_not_answer_ehlo() -> None:
    stream = Scripted(b"220 relay.test\r\n")
    ((visit,), lines) = probed(stream)
    assert (visit.phase, visit.fault and visit.fault.kind) == ("hello", "timeout")
    assert stream.heard == b"EHLO x.test\r\n"
    assert lines[-1][0] == "EHLO"
    assert lines[-1][1].startswith("= timeout")


def test_a_server_that_does_not_answer_quit_is_left_all_the_same() -> None:
    stream = Scripted(b"220 relay.test\r\n", b"250 relay.test\r\n")
    ((visit,), lines) = probed(stream, security="none")
    assert visit.phase is None
    assert stream.closed
    assert stream.waits_s[-1] == pytest.approx(5)
    assert lines[-2:] == [("QUIT", "C: QUIT"), ("QUIT", "= no answer to QUIT")]


# --- Time -------------------------------------------------------------------------------------------------------


def test_a_resolver_that_hangs_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()

    def hang(_name: str) -> tuple[()]:
        done.wait(LIMIT_S)
        return ()

    monkeypatch.setattr("plugin.probe.way.resolve_by_host", hang)
    try:
        with pytest.raises(TimeoutError, match=r"slow\.test is not resolved"):
            look_up("slow.test", timeout_s=0.05)
    finally:
        done.set()


def test_what_is_left_of_the_time_bounds_each_wait() -> None:
    now = [0.0]
    below = Scripted(b"x", b"x")
    stream = BoundedStream(below, Patience(10, lambda: now[0]))
    for now[0], timeout_s in ((0.0, 3.0), (8.0, 3.0)):
        stream.receive(1, timeout_s=timeout_s)
    assert below.waits_s == [3.0, 2.0]
    now[0] = 10.0
    with pytest.raises(TimeoutError, match="the 10 s of --timeout are over"):
        stream.receive(1, timeout_s=1)


def test_ctrl_c_ends_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        arguments = [sys.executable, "-m", "plugin", "probe", f"127.0.0.1:{server.getsockname()[1]}"]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            server.settimeout(LIMIT_S)
            connection, _ = server.accept()
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=LIMIT_S)
            connection.close()
    assert process.returncode == REFUSED
    assert b"Aborted!" in told
    assert b"Traceback" not in told


def test_what_is_wrong_with_the_use_is_told_before_anything_happens() -> None:
    for arguments, words in (
        (["mail.test"], "lacks the port"),
        (["[::1]:25"], "has no IPv6"),
        (["mail.test:25", "--ca-file", "/nowhere"], "--ca-file"),
        (["mail.test:25", "--timeout", "0"], "--timeout"),
        (["mail.test:25", "--username", "x" * 2000], "--username"),
    ):
        result = hardwire(*arguments, password=PASSWORD)
        assert result.exit_code == WRONG_USE
        assert words in result.stderr
        assert result.stdout == ""
