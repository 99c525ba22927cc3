"""Where tokens come from: what is taken, what is refused, and that no error shows one."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from plugin.token import MAX_OUTPUT_BYTES, MAX_TOKEN_CHARS, TokenCommand, TokenError, TokenFile, TokenSource

LONG = "ya29." + "x" * 60


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def shell(script: str, *, timeout_s: float = 60.0, lifetime_s: float = 0.0) -> TokenCommand:
    return TokenCommand(("/bin/sh", "-c", script), timeout_s=timeout_s, lifetime_s=lifetime_s)


def counting(folder: Path, *, lifetime_s: float, clock: Clock) -> TokenCommand:
    """Return a command that prints t1, t2 … as it is run."""
    script = 'echo >> "$0"; echo t$(wc -l < "$0")'
    argv = ("/bin/sh", "-c", script, str(folder / "runs"))
    return TokenCommand(argv, timeout_s=60.0, lifetime_s=lifetime_s, clock=clock)


def from_file(folder: Path, content: bytes) -> TokenSource:
    (folder / "token").write_bytes(content)
    return TokenFile(folder / "token")


def from_command(folder: Path, content: bytes) -> TokenSource:
    (folder / "printed").write_bytes(content)
    return TokenCommand(("cat", str(folder / "printed")), timeout_s=60.0, lifetime_s=0.0)


Source = Callable[[Path, bytes], TokenSource]
both = pytest.mark.parametrize("source", [from_file, from_command])


@both
@pytest.mark.parametrize(
    ("content", "token"),
    [
        (b"abc", "abc"),
        (b"  ya29.A-b_c~d+e/f=\r\nexpires: soon\n", "ya29.A-b_c~d+e/f="),
        (b"x" * MAX_TOKEN_CHARS + b"\n", "x" * MAX_TOKEN_CHARS),
    ],
)
def test_the_first_line_is_the_token(tmp_path: Path, source: Source, content: bytes, token: str) -> None:
    assert source(tmp_path, content).get() == token


@both
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty first line"),
        (b"\nabc\n", "empty first line"),
        (b'{"access_token":"SECRET"}', "JSON"),
        (b"Bearer SECRET", "the token alone"),
        ("SECRETé".encode(), "ASCII"),
        (b"SECRET\x01auth", "the token alone"),
        (b"SECRET" * 2000, str(MAX_TOKEN_CHARS)),
    ],
)
def test_what_is_no_token(tmp_path: Path, source: Source, content: bytes, why: str) -> None:
    with pytest.raises(TokenError, match=why) as caught:
        source(tmp_path, content).get()
    told = str(caught.value).replace(str(tmp_path), "")
    assert "SECRET" not in told
    assert told.startswith(("the token file /token ", "the token command cat "))


def test_a_file_is_read_anew(tmp_path: Path) -> None:
    source = from_file(tmp_path, b"one")
    assert source.get() == "one"
    (tmp_path / "token").write_text("two")
    assert source.get() == "two"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("nowhere", "No such file"), (".", "no regular file"), ("pipe", "no regular file")):
        with pytest.raises(TokenError, match=why) as caught:
            TokenFile(tmp_path / name).get()
        assert str(tmp_path / name) in str(caught.value)


def test_a_command_is_asked_again_when_its_token_has_lived(tmp_path: Path) -> None:
    clock = Clock()
    command = counting(tmp_path, lifetime_s=60.0, clock=clock)
    got = []
    for passed_s in (0.0, 59.0, 1.0, 30.0):
        clock.now_s += passed_s
        got.append(command.get())
    assert got == ["t1", "t1", "t2", "t2"]


def test_a_token_that_was_refused_is_forgotten(tmp_path: Path) -> None:
    command = counting(tmp_path, lifetime_s=60.0, clock=Clock())
    assert [command.get(), command.get()] == ["t1", "t1"]
    command.forget()
    assert [command.get(), command.get()] == ["t2", "t2"]


def test_without_a_lifetime_each_asks(tmp_path: Path) -> None:
    command = counting(tmp_path, lifetime_s=0.0, clock=Clock())
    assert [command.get(), command.get()] == ["t1", "t2"]


def test_lanes_that_come_meanwhile_share_one_run(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    asked = threading.Semaphore(0)

    def clock() -> float:
        now_s = time.monotonic()
        asked.release()
        return now_s

    script = f'echo run >> "{tmp_path}/runs"; cat "{tmp_path}/go"'
    command = TokenCommand(("/bin/sh", "-c", script), timeout_s=60.0, lifetime_s=0.0, clock=clock)
    with ThreadPoolExecutor(3) as lanes:
        tokens = [lanes.submit(command.get) for _ in range(3)]
        for _ in range(4):  # three lanes have asked, and one of them waits for the command
            asked.acquire()
        (tmp_path / "go").write_text("shared\n")
        assert [one.result() for one in tokens] == ["shared"] * 3
    assert (tmp_path / "runs").read_text() == "run\n"


def test_who_waits_for_another_waits_within_the_time_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    command = shell(f'echo; exec cat "{tmp_path}/go"', timeout_s=0.2)
    with ThreadPoolExecutor(2) as lanes:
        for lane in [lanes.submit(command.get) for _ in range(2)]:
            with pytest.raises(TokenError, match=r"within 0\.2 s; .*token_timeout"):
                lane.result()


def test_a_time_out_kills_all_that_was_started(tmp_path: Path) -> None:
    started = tmp_path / "started"

    def clock() -> float:
        return 1000.0 if started.exists() and started.read_text().endswith("\n") else 0.0

    script = f'sleep 600 & echo $! $$ > "{started}"; echo ready >&2; wait'
    command = TokenCommand(("/bin/sh", "-c", script), timeout_s=90.0, lifetime_s=0.0, clock=clock)
    with pytest.raises(TokenError, match="no token within 90 s"):
        command.get()
    child, leader = map(int, started.read_text().split())
    with pytest.raises(ProcessLookupError):
        os.kill(leader, 0)
    until = time.monotonic() + 60.0  # the child is the init process's to bury
    while _is_alive(child):
        assert time.monotonic() < until
        time.sleep(0.01)


def _is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo SECRET; exit 3", "ended with status 3; run it by hand"),
        ("kill -9 $$", f"was ended by signal {signal.SIGKILL.value}"),
        ("echo first >&2; printf 'no \\033[31mrefresh\\tgrant\\n\\n' >&2; exit 1", ": no [31mrefresh grant; run"),
        (f"echo token {LONG} expired >&2; exit 1", r": token **** expired; run"),
        ("exec >&-; head -c 60000 /dev/zero >&2; echo >&2; echo last >&2; exit 1", ": last; run"),
        ("head -c 100000 /dev/zero; sleep 600", f"prints more than {MAX_OUTPUT_BYTES} octets"),
    ],
)
def test_commands_that_fail(script: str, why: str) -> None:
    with pytest.raises(TokenError) as caught:
        shell(script).get()
    told = str(caught.value)
    assert told.startswith("the token command /bin/sh ")
    assert why in told
    assert "SECRET" not in told
    assert told.isprintable()


def test_standard_input_is_not_the_commands() -> None:
    readable, writable = os.pipe()
    ours = os.dup(0)
    try:
        os.dup2(readable, 0)
        os.write(writable, b"typed\n")
        with pytest.raises(TokenError, match="empty first line"):
            shell("head -n 1").get()
    finally:
        os.dup2(ours, 0)
        for descriptor in (readable, writable, ours):
            os.close(descriptor)


def test_a_failure_is_not_kept(tmp_path: Path) -> None:
    command = shell(f'cat "{tmp_path}/token"', lifetime_s=60.0)
    with pytest.raises(TokenError, match="No such file"):
        command.get()
    (tmp_path / "token").write_text("abc")
    assert command.get() == "abc"


def test_a_program_that_leaves_another_behind_is_not_waited_for() -> None:
    script = "sleep 600 > /dev/null 2>&1 < /dev/null & echo $!"
    child = shell(script).get()
    assert _is_alive(int(child)), "an agent that a command has started may stay"
    os.kill(int(child), signal.SIGKILL)


@pytest.mark.parametrize("program", ["/nowhere/get-token", "get-token-that-is-nowhere", "/etc/passwd", "/"])
def test_programs_that_cannot_be_run(program: str) -> None:
    command = TokenCommand((program, "SECRET"), timeout_s=60.0, lifetime_s=0.0)
    with pytest.raises(
        TokenError, match=rf"^the token command {program} cannot be run: .*; write the path"
    ) as caught:
        command.get()
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("argv", [(), ("",), ("a\0b",), ("a", "b\0")])
def test_what_no_system_could_run(argv: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="program"):
        TokenCommand(argv, timeout_s=1.0, lifetime_s=0.0)


def test_arguments_are_passed_as_they_are() -> None:
    argv = (sys.executable, "-c", "import sys; print('+'.join(sys.argv[1:]))", "$HOME", "*;")
    assert TokenCommand(argv, timeout_s=60.0, lifetime_s=0.0).get() == "$HOME+*;"
