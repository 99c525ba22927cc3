"""Servers that say anything at all: the delivery ends in time, with a verdict; nothing leaks or leaps ahead."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from plugin.smtp.batch import MAX_TRANSCRIPT_LINES
from plugin.smtp.client import Client, Delivery, Envelope, Settings
from plugin.smtp.reply import ReplyParser
from plugin.smtp.settings import Auth, Greeting
from tests.smtp.scripted import Clock

CONTENT = b"Subject: x\r\n\r\nRSET\r\n.QUIT\r\n"
COMMAND = re.compile(
    rb"(EHLO c|HELO c|AUTH PLAIN \S+|AUTH LOGIN|\*|[A-Za-z0-9+/]+=*"
    rb"|MAIL FROM:<a@b>( SIZE=\d+)?|RCPT TO:<[cd]@e>|DATA|RSET|QUIT)\r\n"
)
LETTERS = [Envelope(sender="a@b", recipients=("c@e", "d@e"), content=CONTENT)] * 2

CODES = st.sampled_from(
    [220, 221, 250, 251, 235, 334, 354, 421, 450, 452, 454, 500, 502, 504, 524, 535, 550, 554, 199]
)
TEXTS = st.sampled_from(
    [b"", b" OK", b" ", b"-more", b" AUTH LOGIN PLAIN", b" SIZE 5", b"-AUTH=PLAIN", b" \xff\x00"]
)
LINES = st.builds(
    lambda code, text, end: b"%d%s%s" % (code, text, end), CODES, TEXTS, st.sampled_from([b"\r\n", b"\n", b""])
)
# The course of a mail, so that the late phases are reached as often as the early ones.
COURSE = st.sampled_from(
    [b"220 x\r\n", b"250-x\r\n250 AUTH PLAIN LOGIN\r\n", b"235 x\r\n", b"250 x\r\n", b"354 x\r\n"]
)
PIECES = st.one_of(
    COURSE, COURSE, COURSE, LINES, st.binary(max_size=30), st.sampled_from(["end", "reset", "silence"])
)


class AnyPeer:
    """Says the next of ``pieces`` each time it is listened to; at the end silence."""

    def __init__(self, pieces: list[bytes | str], clock: Clock) -> None:
        self.sent: list[bytes] = []
        self.heard = b""
        self.closed = False
        self._pieces = pieces
        self._clock = clock

    def send_all(self, data: bytes, *, timeout_s: float) -> None:
        assert not self.closed
        assert timeout_s > 0
        if CONTENT[:20] in data:
            # Nothing of the content before a reply that says so, whatever else was said.
            parser, last = ReplyParser(), None
            parser.feed(self.heard)
            while (reply := parser.next_reply()) is not None:
                last = reply
            assert last is not None
            assert last.first == 3
            assert self.sent[-1] == b"DATA\r\n"
        else:
            assert COMMAND.fullmatch(data), data
        self.sent.append(data)

    def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
        assert not self.closed
        assert timeout_s > 0
        piece = self._pieces.pop(0) if self._pieces else "silence"
        if piece == "end":
            return b""
        if piece == "reset":
            raise ConnectionResetError("reset")
        if isinstance(piece, str) or not piece:
            self._clock.pass_s(timeout_s)
            raise TimeoutError
        self.heard += piece
        return piece

    def close(self, *, timeout_s: float = 1.0) -> None:
        self.closed = True


def check(delivery: Delivery) -> None:
    assert delivery.reply is not None or delivery.fault is not None
    assert len(delivery.recipients) == 2
    assert len(delivery.transcript) <= MAX_TRANSCRIPT_LINES + 1
    assert all(line.isprintable() for line in delivery.transcript)
    assert "AGEAc2VjcmV0" not in repr(delivery)
    assert "secret" not in repr(delivery)
    for one in delivery.recipients:
        assert one.reply is not None or one.fault is not None
        if one.accepted:
            assert delivery.phase == "content"
            assert delivery.reply is not None
            assert delivery.reply.first == 2
            assert not delivery.possible_duplicate
    if delivery.relay_refused:
        assert delivery.phase in ("connect", "greeting", "hello", "auth")
        assert not any(one.accepted for one in delivery.recipients)


@settings(max_examples=400, deadline=None)
@given(
    conversations=st.lists(st.lists(PIECES, max_size=25), min_size=1, max_size=3),
    greeting=st.sampled_from(["auto", "auto", "helo"]),
    auth=st.sampled_from(["none", "preferred", "required"]),
)
def test_any_server(conversations: list[list[bytes | str]], greeting: Greeting, auth: Auth) -> None:
    clock = Clock()
    peers: list[AnyPeer] = []

    def connect() -> AnyPeer:
        if len(peers) >= len(conversations):
            raise ConnectionRefusedError
        peers.append(AnyPeer(list(conversations[len(peers)]), clock))
        return peers[-1]

    relay = Settings(host="r", helo_name="c", greeting=greeting, auth=auth, username="a", password="secret")
    client = Client(connect, relay, clock=clock)
    deliveries = list(client.deliver(LETTERS))
    client.close()
    assert len(deliveries) == len(LETTERS)
    for delivery in deliveries:
        check(delivery)
        if auth == "required":
            # RFC 4954 §4, §14: what must be authenticated never goes out otherwise.
            assert delivery.authenticated or delivery.relay_refused
        if auth == "none":
            assert not delivery.authenticated
    assert clock.now - 1000 <= 2 * (relay.timeouts.letter_s + relay.timeouts.quit_s) + 10
    assert all(peer.closed for peer in peers)
    said = b"".join(data for peer in peers for data in peer.sent)
    assert auth != "none" or b"AUTH" not in said
    if auth == "required":
        for peer in peers:
            assert b"HELO c\r\n" not in peer.sent
            commands = [data[:4] for data in peer.sent]
            assert b"MAIL" not in commands or b"AUTH" in commands[: commands.index(b"MAIL")]


def test_an_endless_flood_is_cut_off() -> None:
    """A relay that never stops talking is held to one reply's limits, not to its own."""
    clock = Clock()

    class Flood(AnyPeer):
        received_bytes = 0

        def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
            self.received_bytes += max_bytes
            return (b"220-" + b"x" * 60 + b"\r\n") * (max_bytes // 66)

    flood = Flood([], clock)
    (delivery,) = Client(lambda: flood, Settings(host="r", helo_name="c"), clock=clock).deliver(LETTERS[:1])
    assert delivery.fault is not None
    assert delivery.fault.kind == "protocol"
    assert flood.received_bytes <= 16 * 4096
    assert flood.closed
