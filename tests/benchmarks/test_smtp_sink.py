"""The benchmark's server is strict: what a real one would refuse must not bring a figure."""

from __future__ import annotations

import base64
import hashlib
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from benchmarks.child import Child
from benchmarks.smtp_servers import CERTIFICATES

WAIT_S = 10.0
LOGIN = base64.b64encode(b"\0house\0word").decode()
EHLO, HELO, DATA, QUIT = "EHLO x\r\n", "HELO x\r\n", "DATA\r\n", "QUIT\r\n"
LETTER = "MAIL FROM:<a@b.example> SIZE=5\r\nRCPT TO:<c@d.example>\r\n"
CHUNK = "BDAT 5 LAST\r\none\r\n"
CONTENT = "one\r\n.\r\n"
ONE = hashlib.sha256(b"one\r\n").hexdigest()


class Sink:
    def __init__(self, child: Child) -> None:
        self.child = child
        self.ports = child.ask(
            start={"certificate": str(CERTIFICATES / "server.pem"), "username": "house", "password": "word"}
        )

    def talk(self, mood: str, writes: list[str]) -> list[str]:
        """Say each of ``writes`` after the reply to the one before; return the codes of all replies."""
        codes: list[str] = []
        with (
            socket.create_connection(("127.0.0.1", self.ports[mood]["clear"]), WAIT_S) as connection,
            connection.makefile("r", encoding="ascii", newline="\r\n") as replies,
        ):
            for write in ["", *writes]:
                connection.sendall(write.encode())
                while (line := replies.readline())[3:4] == "-":
                    pass
                codes.append(line[:3])
            with suppress(ConnectionResetError):  # it was closed with something unread
                codes += [line[:3] for line in replies if line[3:4] != "-"]
        return codes

    def taken(self, mood: str) -> list[str]:
        digests: list[str] = self.child.ask(take=mood)["digests"]
        return digests


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    with Child("benchmarks.smtp_sink") as child:
        yield Sink(child)


@pytest.mark.parametrize(
    ("mood", "writes", "codes"),
    [
        ("chunking", [EHLO + LETTER], ["554"]),
        ("chunking", [HELO, LETTER], ["250", "554"]),
        ("chunking", [EHLO, LETTER + DATA + CONTENT], ["250", "250", "250", "554"]),
        ("chunking", [EHLO, "AUTH PLAIN\r\n" + LOGIN + "\r\n"], ["250", "554"]),
        ("pipelining", [EHLO, LETTER + DATA + CONTENT], ["250", "250", "250", "554"]),
        ("pipelining", [EHLO, CHUNK], ["250", "503"]),
        ("lockstep", [EHLO, LETTER], ["250", "554"]),
        ("lockstep", [EHLO, CHUNK], ["250", "503"]),
        ("lockstep", [EHLO, f"AUTH PLAIN {LOGIN}\r\n{LETTER}"], ["250", "554"]),
        (
            "lockstep",
            [EHLO, *LETTER.splitlines(keepends=True), DATA, CONTENT + QUIT],
            ["250"] * 3 + ["354", "554"],
        ),
    ],
)
def test_what_may_not_come_ends_the_connection(sink: Sink, mood: str, writes: list[str], codes: list[str]) -> None:
    assert sink.talk(mood, writes) == ["220", *codes]
    assert sink.taken(mood) == []


@pytest.mark.parametrize(
    ("mood", "writes", "mails"),
    [
        ("chunking", [EHLO, f"AUTH PLAIN {LOGIN}\r\n{LETTER}{CHUNK}RSET\r\n{LETTER}{CHUNK}{QUIT}"], 2),
        ("pipelining", [EHLO, LETTER + DATA, "", "", CONTENT + LETTER + DATA, "", "", "", CONTENT + QUIT], 2),
        ("lockstep", [EHLO, *LETTER.splitlines(keepends=True), DATA, CONTENT, QUIT], 1),
    ],
)
def test_what_the_mood_allows_is_taken(sink: Sink, mood: str, writes: list[str], mails: int) -> None:
    assert set(sink.talk(mood, writes)) <= {"220", "250", "235", "354", "221"}
    assert sink.taken(mood) == [ONE] * mails


def test_dots_are_taken_off(sink: Sink) -> None:
    sink.talk("lockstep", [EHLO, *LETTER.splitlines(keepends=True), DATA, "..a\r\n..\r\n.\r\n", QUIT])
    assert sink.taken("lockstep") == [hashlib.sha256(b".a\r\n.\r\n").hexdigest()]


def test_a_wrong_password_is_refused(sink: Sink) -> None:
    wrong = base64.b64encode(b"\0house\0other").decode()
    assert sink.talk("lockstep", [EHLO, f"AUTH PLAIN {wrong}\r\n", QUIT]) == ["220", "250", "535", "221"]
