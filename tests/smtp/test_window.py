"""Several letters on the way: windows, large letters, addresses that only some relays take, what is kept."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from plugin.smtp.client import Client, Envelope, Settings
from plugin.smtp.envelope import data_octets
from plugin.smtp.pace import CHUNK_BYTES, REPLY_BYTES
from tests.smtp.scripted import CONTENT, Clock, ScriptedRelay, said

SETTINGS = Settings(host="relay.test", helo_name="client.test")
LETTER = Envelope(sender="a@client.test", recipients=("b@relay.test",), content=CONTENT)


class Server:
    """A Stream with a server behind it that takes all it is sent; counts the answers that nobody has read."""

    def __init__(self, offers: str, *, window_bytes: int | None = None) -> None:
        self.offers = offers.split()
        self.commands: list[str] = []
        self.contents: list[bytes] = []
        self.most_unanswered = 0
        self.writes = 0
        self.odd: dict[str, str] = {}
        self._sent = b""
        self._answers = [b"220 hi\r\n"]
        self._in_data = False
        if window_bytes is not None:
            self.window_bytes = window_bytes

    def send_all(self, data: bytes, *, timeout_s: float) -> None:
        assert timeout_s > 0
        self.writes += 1
        self._sent += data
        while self._take():
            pass
        self.most_unanswered = max(self.most_unanswered, len(self._answers))

    def _take(self) -> bool:
        line, end, rest = self._sent.partition(b"\r\n")
        if self._in_data:
            content, dot, after = (b"\r\n" + self._sent).partition(b"\r\n.\r\n")
            if dot:
                self._in_data, self._sent = False, after
                self.contents.append(content[2:] + b"\r\n")
                self._answers.append(b"250 taken\r\n")
            return bool(dot)
        if not end:
            return False
        command = line.decode()
        if found := re.fullmatch(r"BDAT (\d+)( LAST)?", command):
            size = int(found[1])
            if len(rest) < size:
                return False
            self.contents.append(rest[:size])
            rest = rest[size:]
        self._sent = rest
        self.commands.append(command)
        self._answers.append(self._answer(command))
        return True

    def _answer(self, command: str) -> bytes:
        for begin, answer in self.odd.items():
            if command.startswith(begin):
                return f"{answer}\r\n".encode()
        if command.startswith("EHLO"):
            return "".join(f"250-{one}\r\n" for one in ["hi", *self.offers]).encode() + b"250 HELP\r\n"
        if command == "DATA":
            self._in_data = True
            return b"354 go\r\n"
        return b"250 ok\r\n"

    def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
        if not self._answers:
            assert timeout_s == 0, "waits for an answer that nobody owes"
            raise TimeoutError
        return self._answers.pop(0)

    def close(self, *, timeout_s: float = 1.0) -> None:
        """Nothing is kept."""


def deliver(server: Server, letters: list[Envelope], **settings: object) -> list[str]:
    client = Client(lambda: server, replace(SETTINGS, **settings), clock=Clock())  # type: ignore[arg-type]
    told = []
    for delivery in client.deliver(letters):
        words = delivery.reply.code if delivery.reply else delivery.fault and delivery.fault.kind
        told.append(f"{delivery.phase} {words}")
    client.close()
    return told


@pytest.mark.parametrize("window_bytes", [None, 2048, 512, 256, 1])
def test_so_many_replies_as_fit_the_window(window_bytes: int | None) -> None:
    server = Server("PIPELINING CHUNKING", window_bytes=window_bytes)
    assert deliver(server, [LETTER] * 40) == ["content 250"] * 40
    assert server.contents == [CONTENT] * 40
    assert 1 <= server.most_unanswered <= max(1, (window_bytes or 2048) // REPLY_BYTES)


def test_a_wide_window_is_used_and_bounded() -> None:
    server = Server("PIPELINING CHUNKING", window_bytes=1 << 20)
    assert deliver(server, [LETTER] * 200) == ["content 250"] * 200
    assert server.most_unanswered == 32 * 4


def test_many_recipients_go_in_windows_too() -> None:
    server = Server("PIPELINING CHUNKING", window_bytes=512)
    recipients = tuple(f"{number}@relay.test" for number in range(100))
    assert deliver(server, [replace(LETTER, recipients=recipients)]) == ["content 250"]
    assert server.most_unanswered <= 512 // REPLY_BYTES
    assert [one for one in server.commands if one.startswith("RCPT")] == [f"RCPT TO:<{one}>" for one in recipients]


def test_a_large_letter_goes_in_chunks() -> None:
    content = b"".join(b"line %06d\r\n" % number for number in range(20_000)) + b"no line end"
    server = Server("PIPELINING CHUNKING")
    assert deliver(server, [replace(LETTER, content=content), LETTER]) == ["content 250"] * 2
    assert b"".join(server.contents[:-1]) == content + b"\r\n"
    chunks = [one for one in server.commands if one.startswith("BDAT")]
    assert chunks[:-2] == [f"BDAT {CHUNK_BYTES}"] * (len(content) // CHUNK_BYTES)
    assert chunks[-1] == f"BDAT {len(CONTENT)} LAST"


def test_a_chunk_that_is_refused_is_the_last_of_its_letter() -> None:
    """RFC 3030 §2: RSET must follow; the next letter begins with it anyway."""
    content = b"x" * 70 + b"\r\n"
    server = Server("PIPELINING CHUNKING")
    server.odd = {"BDAT 65536": "552 5.3.4 Chunk exceeds message size limit"}
    large = replace(LETTER, content=content * 20_000)
    assert deliver(server, [large, LETTER]) == ["content 552", "content 250"]
    sent_bytes = sum(len(one) for one in server.contents)
    assert sent_bytes < len(large.content) // 2
    assert not any(one.endswith("LAST") and one != f"BDAT {len(CONTENT)} LAST" for one in server.commands)
    after = server.commands[server.commands.index("BDAT 65536") :]
    assert after.index("RSET") < after.index("MAIL FROM:<a@client.test>")


@pytest.mark.parametrize("offers", ["PIPELINING CHUNKING", "PIPELINING", ""])
def test_dots_and_empty_letters_in_every_pace(offers: str) -> None:
    server = Server(offers)
    dots = replace(LETTER, content=b".\r\n..\r\n.x\r\n")
    empty = replace(LETTER, content=b"")
    assert deliver(server, [dots, empty, LETTER][: 2 if offers else 1]) == ["content 250"] * (2 if offers else 1)
    wanted = dots.content if "CHUNKING" in offers else data_octets(dots.content).removesuffix(b".\r\n")
    assert server.contents[0] == wanted


class TestInternationalAddresses:
    RECIPIENTS = ("jürgen@relay.test", "b@relay.test")

    @pytest.mark.parametrize("offers", ["SMTPUTF8 8BITMIME", "SMTPUTF8 PIPELINING CHUNKING"])
    def test_where_smtputf8_is_offered(self, offers: str) -> None:
        server = Server(offers)
        assert deliver(server, [replace(LETTER, recipients=self.RECIPIENTS), LETTER]) == ["content 250"] * 2
        mails = [one for one in server.commands if one.startswith("MAIL")]
        assert mails == ["MAIL FROM:<a@client.test> SMTPUTF8", "MAIL FROM:<a@client.test>"]
        assert "RCPT TO:<jürgen@relay.test>" in server.commands

    def test_elsewhere_that_recipient_is_refused_and_the_others_are_not(self) -> None:
        server = Server("PIPELINING CHUNKING")
        client = Client(lambda: server, SETTINGS, clock=Clock())
        (delivery,) = client.deliver([replace(LETTER, recipients=self.RECIPIENTS)])
        jurgen, bob = delivery.recipients
        assert bob.accepted
        assert not jurgen.accepted
        assert jurgen.fault is not None
        assert jurgen.fault.permanent
        assert "SMTPUTF8" in jurgen.fault.text
        assert "MAIL FROM:<a@client.test>" in server.commands
        assert not any("jürgen" in one for one in server.commands)

    def test_where_nobody_else_is_left_nothing_is_said(self) -> None:
        server = Server("PIPELINING CHUNKING")
        letters = [replace(LETTER, recipients=self.RECIPIENTS[:1]), LETTER]
        assert deliver(server, letters) == ["rcpt smtputf8", "content 250"]
        assert server.commands.count("MAIL FROM:<a@client.test>") == 1


def test_a_letter_has_its_name_in_notifications() -> None:
    server = Server("DSN")
    letter = replace(LETTER, envid="one+two=3@client.test", recipients=("b+c@relay.test", "jürgen@relay.test"))
    deliver(server, [letter], dsn=("FAILURE",))
    assert "MAIL FROM:<a@client.test> RET=HDRS ENVID=one+2Btwo+3D3@client.test" in server.commands
    assert "RCPT TO:<b+c@relay.test> NOTIFY=FAILURE ORCPT=rfc822;b+2Bc@relay.test" in server.commands


def test_size_is_held_against_each_letter_and_harms_no_other() -> None:
    server = Server("PIPELINING CHUNKING")
    server.offers.append("SIZE 100")
    large = replace(LETTER, content=b"x\r\n" * 50)
    assert sorted(deliver(server, [LETTER, large, LETTER])) == ["content 250", "content 250", "mail size"]


class TestKept:
    HELLO = said("S: 220 relay.test", "C: EHLO client.test", "S: 250 relay.test")
    MAIL = said(
        *("C: MAIL FROM:<a@client.test>", "S: 250 OK", "C: RCPT TO:<b@relay.test>", "S: 250 OK"),
        *("C: DATA", "S: 354 go", "C: <content>", "S: 250 OK"),
    )
    QUIT = said("C: QUIT")

    @pytest.mark.parametrize("end", [said("S: 421 4.4.2 timeout exceeded"), said("hangup"), said("reset")])
    def test_what_came_unasked_is_read_before_the_next_letter(self, end: list) -> None:  # type: ignore[type-arg]
        relay = ScriptedRelay([*self.HELLO, *self.MAIL, *end], [*self.HELLO, *self.MAIL, *self.QUIT])
        client = Client(relay.connect, SETTINGS, clock=relay.clock)
        assert [one.recipients[0].accepted for one in client.deliver([LETTER])] == [True]
        (second,) = client.deliver([LETTER])
        assert second.recipients[0].accepted
        assert not second.possible_duplicate
        assert second.transcript[0] == "= connected to relay.test"
        client.close()
        relay.assert_played()

    def test_for_so_long_as_the_settings_say(self) -> None:
        relay = ScriptedRelay([*self.HELLO, *self.MAIL, *self.QUIT])
        client = Client(relay.connect, replace(SETTINGS, idle_s=20), clock=relay.clock)
        assert client.tend() is None
        list(client.deliver([LETTER]))
        relay.clock.pass_s(5)
        assert client.tend() == 15
        relay.clock.pass_s(15)
        assert client.tend() is None
        relay.assert_played()


class Token:
    def __init__(self, *tokens: str | OSError) -> None:
        self.tokens = list(tokens)
        self.forgotten = 0

    def get(self) -> str:
        token = self.tokens.pop(0)
        if isinstance(token, OSError):
            raise token
        return token

    def forget(self) -> None:
        self.forgotten += 1


def test_a_token_is_asked_for_with_each_connection_and_dropped_when_it_is_refused() -> None:
    hello = said("S: 220 hi", "C: EHLO client.test", "S: 250-hi", "S: 250 AUTH XOAUTH2")
    old = said("C: AUTH XOAUTH2 dXNlcj1hbGljZQFhdXRoPUJlYXJlciBvbGQBAQ==", "S: 535 5.7.8 expired", "C: QUIT")
    new = said("C: AUTH XOAUTH2 dXNlcj1hbGljZQFhdXRoPUJlYXJlciBuZXcBAQ==", "S: 235 ok")
    relay = ScriptedRelay([*hello, *old], [*hello, *new, *TestKept.MAIL, *TestKept.QUIT])
    token = Token("old", "new", OSError("the token file is gone"))
    settings = replace(SETTINGS, auth="required", username="alice", token=token)
    client = Client(relay.connect, settings, clock=relay.clock)
    verdicts = []
    for _ in range(3):
        (delivery,) = client.deliver([LETTER])
        client.close()
        verdicts.append((delivery.phase, str(delivery.fault or delivery.reply), token.forgotten))
    assert verdicts == [
        ("auth", "535 5.7.8 expired", 1),
        ("content", "250 OK", 1),
        ("auth", "the token file is gone", 1),
    ]
    relay.assert_played()


def test_greeting_asks_for_the_login_even_where_it_would_ride_with_a_letter() -> None:
    steps = said("S: 220 hi", "C: EHLO client.test", "S: 250-hi", "S: 250-PIPELINING", "S: 250 AUTH PLAIN")
    steps += said("C: AUTH PLAIN AGFsaWNlAHNlY3JldA==", "S: 535 no", "C: QUIT")
    relay = ScriptedRelay(steps)
    settings = replace(SETTINGS, auth="required", username="alice", password="secret", eager=True)
    greeted = Client(relay.connect, settings, clock=relay.clock).greet()
    assert greeted.phase == "auth"
    assert greeted.extensions is not None
    assert greeted.extensions.offers("PIPELINING")
    relay.assert_played()
