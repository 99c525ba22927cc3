"""Servers that say anything at all: the delivery ends in time, with a verdict; nothing leaks or leaps ahead."""

from __future__ import annotations

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from plugin.smtp.batch import MAX_TRANSCRIPT_LINES, MAX_TRIES
from plugin.smtp.client import Client, Delivery, Envelope, Settings
from plugin.smtp.errors import ProtocolError
from plugin.smtp.extensions import Extensions
from plugin.smtp.reply import Reply, ReplyParser
from plugin.smtp.settings import Auth, Greeting
from tests.smtp.scripted import Clock

CONTENTS = [b"Subject: %d\r\n\r\nRSET\r\n.QUIT\r\n" % number for number in range(3)]
COMMAND = re.compile(
    rb"(EHLO c|HELO c|AUTH PLAIN \S+|AUTH LOGIN|\*|[A-Za-z0-9+/]+=*"
    rb"|MAIL FROM:<a@b>( SIZE=\d+)?|RCPT TO:<[cd]@e>|DATA|BDAT \d+( LAST)?|RSET|QUIT)\r\n"
)
RIGHT = {b"MAIL": b"250 x\r\n", b"DATA": b"354 x\r\n", b"AUTH": b"235 x\r\n", b"QUIT": b"221 x\r\n"}

Piece = bytes | str | tuple[bytes]

CODES = st.sampled_from(
    [220, 221, 250, 251, 235, 334, 354, 421, 450, 452, 454, 500, 502, 503, 504, 524, 530, 535, 550, 554, 199]
)
TEXTS = st.sampled_from(
    [b"", b" OK", b" ", b"-more", b" AUTH LOGIN PLAIN", b" SIZE 5", b"-AUTH=PLAIN", b" \xff\x00", b" 5.5.1 no"]
)
LINES = st.builds(
    lambda code, text, end: b"%d%s%s" % (code, text, end), CODES, TEXTS, st.sampled_from([b"\r\n", b"\n", b""])
)
HELLOS = st.sampled_from(
    [
        b"250-x\r\n250 AUTH PLAIN LOGIN\r\n",
        b"250-x\r\n250-PIPELINING\r\n250 AUTH PLAIN\r\n",
        b"250-x\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 AUTH PLAIN\r\n",
    ]
)
SYNC = st.just(b"554 5.5.0 synchronization\r\n")
# "answer": the right reply to all that was sent. Octets alone are said instead of it; in a tuple they are the
# reply to the first of what was sent, before the right ones to the rest.
PIECES: st.SearchStrategy[Piece] = st.one_of(
    *[st.just("answer")] * 4,
    st.tuples(st.one_of(LINES, LINES, SYNC, SYNC)),
    LINES,
    st.binary(max_size=30),
    st.sampled_from(["end", "reset", "silence"]),
)
CONVERSATIONS = st.builds(
    lambda hello, opening, rest: [*([b"220 x\r\n", hello, "answer"][:opening]), *rest],
    HELLOS,
    st.sampled_from([0, 1, 2, 3, 3, 3, 3, 3]),
    st.lists(PIECES, max_size=25),
)


def letters() -> list[Envelope]:
    return [Envelope(sender="a@b", recipients=("c@e", "d@e"), content=one) for one in CONTENTS]


class AnyPeer:
    """Says the next of ``pieces`` each time it is listened to, at the end silence; reads along what it is sent."""

    def __init__(self, pieces: list[Piece], clock: Clock, *, eager: bool = False) -> None:
        self._eager = eager
        self.commands: list[bytes] = []
        self.closed = False
        self.contents: list[bytes] = []
        self._pieces = pieces
        self._clock = clock
        self._sent = b""
        self._parser = ReplyParser()
        self._replies: list[Reply] = []
        self._unread = b""

    def _hear(self) -> None:
        """Take note of the replies so far, as any client would read them."""
        try:
            while (reply := self._parser.next_reply()) is not None:
                self._replies.append(reply)
        except ProtocolError:
            self._parser = ReplyParser()

    @property
    def _offered(self) -> Extensions:
        """What the reply to the last EHLO has offered; of replies and commands the nth belong together."""
        answers = zip([b"greeting", *self.commands], self._replies, strict=False)
        hellos = [reply for command, reply in answers if command.startswith((b"EHLO", b"HELO"))]
        told = hellos[-1].lines[1:] if hellos and hellos[-1].first == 2 else ()
        return Extensions.parse(told)

    def send_all(self, data: bytes, *, timeout_s: float) -> None:
        assert not self.closed
        assert timeout_s > 0
        assert data
        self._hear()
        self._sent += data
        first = True
        while self._sent:
            last = self.commands[-1] if self.commands else b""
            # Content only behind a reply to DATA that says so, whatever else was said; else it is no command.
            if last == b"DATA\r\n" and [one.first for one in self._replies[len(self.commands) :]] == [3]:
                content, dot, self._sent = self._sent.partition(b"\r\n.\r\n" if self._sent[0] != 46 else b".\r\n")
                assert dot
                assert not content or content.replace(b"\r\n..", b"\r\n.") + b"\r\n" in CONTENTS
                self.commands.append(b"<content>")
                self.contents.append(content.replace(b"\r\n..", b"\r\n.") + b"\r\n")
            else:
                self._sent = self._sent[self._command(first=first) :]
            first = False

    def _command(self, *, first: bool) -> int:
        found = COMMAND.match(self._sent)
        assert found, self._sent
        riding = len(self._replies) <= len(self.commands)
        offers = self._offered.offers
        assert not riding or offers("PIPELINING"), (self.commands, self._sent)
        assert first or offers("PIPELINING")
        if riding:
            assert not found[0].startswith((b"EHLO", b"HELO", b"AUTH", b"*"))
            assert self.commands[-1] != b"DATA\r\n"
            unanswered = self.commands[len(self._replies) - 1 :]
            assert self._eager or not any(one.startswith(b"AUTH") for one in unanswered)
        self.commands.append(found[0])
        if not found[0].startswith(b"BDAT"):
            return found.end()
        assert offers("CHUNKING")
        end = found.end() + int(found[0].split()[1])
        assert self._sent[found.end() : end] in CONTENTS
        self.contents.append(self._sent[found.end() : end])
        return end

    def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
        assert not self.closed
        if timeout_s == 0:
            raise TimeoutError
        piece = self._pieces.pop(0) if self._pieces else "silence"
        if piece == "answer" or isinstance(piece, tuple):
            unanswered = self.commands[max(0, len(self._replies) - 1) :]
            right = [RIGHT.get(command[:4], b"250 x\r\n") for command in unanswered]
            piece = b"".join([piece[0], *right[1:]] if isinstance(piece, tuple) else right)
        if piece == "end":
            return b""
        if piece == "reset":
            raise ConnectionResetError("reset")
        if isinstance(piece, str) or not piece:
            self._clock.pass_s(timeout_s)
            raise TimeoutError
        self._parser.feed(piece)
        self._hear()
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
    if delivery.relay_refused:
        assert delivery.phase in ("connect", "greeting", "hello", "auth")
        assert not any(one.accepted for one in delivery.recipients)


def turned_away(delivery: Delivery) -> bool:
    return any(re.match("S: (421|5..[ -])", line) for line in delivery.transcript)


@settings(max_examples=600, deadline=None)
@example(
    conversations=[
        [b"220 x\r\n", b"250-x\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 AUTH PLAIN\r\n", "answer", b"421\n"],
        [b"220 x\r\n", b"250-x\r\n250-PIPELINING\r\n250 AUTH PLAIN\r\n", "answer", "answer"],
    ],
    greeting="auto",
    auth="none",
    eager=False,
)
@given(
    conversations=st.lists(CONVERSATIONS, min_size=1, max_size=4),
    greeting=st.sampled_from(["auto", "auto", "helo"]),
    auth=st.sampled_from(["none", "preferred", "required"]),
    eager=st.booleans(),
)
def test_any_server(conversations: list[list[Piece]], greeting: Greeting, auth: Auth, eager: bool) -> None:
    clock = Clock()
    peers: list[AnyPeer] = []

    def connect() -> AnyPeer:
        if len(peers) >= len(conversations):
            raise ConnectionRefusedError
        peers.append(AnyPeer(list(conversations[len(peers)]), clock, eager=eager))
        return peers[-1]

    relay = Settings(
        host="r", helo_name="c", greeting=greeting, auth=auth, username="a", password="secret", eager=eager
    )
    client = Client(connect, relay, clock=clock)
    sent = letters()
    deliveries = list(client.deliver(sent))
    client.close()
    assert sorted(id(one.envelope) for one in deliveries) == sorted(map(id, sent))
    for delivery in deliveries:
        check(delivery)
        if auth == "required":
            # RFC 4954 §4, §14: what must be authenticated never goes out otherwise.
            assert delivery.authenticated or delivery.relay_refused or eager
        if auth == "none":
            assert not delivery.authenticated
    dismissed = any(line.startswith("S: 421") for one in deliveries for line in one.transcript)
    for delivery in deliveries:
        copies = sum(peer.contents.count(delivery.envelope.content) for peer in peers)
        assert copies <= MAX_TRIES + 1
        # What left more than once may be there twice, unless the relay has said why it has not taken it: to this
        # letter, or in a 421 to one before it.
        assert copies <= 1 or delivery.possible_duplicate or turned_away(delivery) or dismissed
        assert not delivery.recipients[0].accepted or copies
    assert clock.now - 1000 <= len(sent) * (relay.timeouts.letter_s + relay.timeouts.quit_s) + 10
    assert all(peer.closed for peer in peers)
    said = [command for peer in peers for command in peer.commands]
    assert auth != "none" or not any(command.startswith(b"AUTH") for command in said)
    if auth == "required":
        for peer in peers:
            assert b"HELO c\r\n" not in peer.commands
            commands = [command[:4] for command in peer.commands]
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
    (delivery,) = Client(lambda: flood, Settings(host="r", helo_name="c"), clock=clock).deliver(letters()[:1])
    assert delivery.fault is not None
    assert delivery.fault.kind == "protocol"
    assert flood.received_bytes <= 16 * 4096
    assert flood.closed
