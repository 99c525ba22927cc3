"""The driver: blocks, last words, kept connections, several letters, the transcript."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from plugin.smtp.batch import MAX_TRANSCRIPT_CHARS, MAX_TRANSCRIPT_LINES
from plugin.smtp.client import Client, Delivery, Envelope, Settings
from plugin.smtp.envelope import data_octets
from plugin.smtp.session import BLOCK_BYTES
from plugin.smtp.stream import Stream
from tests.smtp.scripted import CONTENT, Clock, Peer, ScriptedRelay, Step, said

SETTINGS = Settings(host="relay.test", helo_name="client.test")
LETTER = Envelope(sender="a@client.test", recipients=("b@relay.test",), content=CONTENT)

HELLO = said("S: 220 relay.test", "C: EHLO client.test", "S: 250 relay.test")
ENVELOPE = said("C: MAIL FROM:<a@client.test>", "S: 250 OK", "C: RCPT TO:<b@relay.test>", "S: 250 OK")
MAIL = [*ENVELOPE, *said("C: DATA", "S: 354 go", "C: <content>", "S: 250 OK")]
QUIT = said("C: QUIT", "S: 221 Bye")


def client_of(relay: ScriptedRelay, settings: Settings = SETTINGS) -> Client:
    return Client(relay.connect, settings, clock=relay.clock)


def verdicts(deliveries: Iterator[Delivery]) -> list[str]:
    return [f"{one.phase} {one.reply.code if one.reply else one.fault and one.fault.kind}" for one in deliveries]


def test_results_come_one_by_one_and_the_connection_is_kept() -> None:
    relay = ScriptedRelay([*HELLO, *MAIL, *MAIL, *MAIL, *QUIT])
    client = client_of(relay)
    results = client.deliver([LETTER, LETTER])
    next(results)
    assert len(relay.streams[0].steps) == 2 * len(MAIL) + len(QUIT)
    next(results)
    assert not relay.streams[0].closed
    assert verdicts(client.deliver([LETTER])) == ["content 250"]
    client.close()
    client.close()
    relay.assert_played()


@pytest.mark.parametrize(
    ("address", "literal"),
    [
        ("192.168.1.77", "[192.168.1.77]"),
        ("fe80::1", "[IPv6:fe80::1]"),
        (None, "[127.0.0.1]"),
    ],
)
def test_without_a_name_we_are_the_address_of_our_end(address: str | None, literal: str) -> None:
    hello = said("S: 220 relay.test", f"C: EHLO {literal}", "S: 250 relay.test")
    relay = ScriptedRelay([*hello, *MAIL, *QUIT])

    def connect() -> Stream:
        stream = relay.connect()
        if address is not None:
            stream.local_address = ip_address(address)  # type: ignore[attr-defined]  # a Stream may have it
        return stream

    client = Client(connect, Settings(host="relay.test"), clock=relay.clock)
    assert verdicts(client.deliver([LETTER])) == ["content 250"]
    client.close()
    relay.assert_played()


def test_envelopes_are_drawn_as_they_are_needed() -> None:
    relay = ScriptedRelay([*HELLO, *MAIL, *MAIL, *QUIT])
    drawn = []

    def envelopes() -> Iterator[Envelope]:
        for number in range(2):
            drawn.append(number)
            yield LETTER

    client = client_of(relay)
    results = client.deliver(envelopes())
    next(results)
    assert drawn == [0]
    assert len(list(results)) == 1
    client.close()
    relay.assert_played()


def test_an_unasked_421_between_two_letters() -> None:
    """Read together with the last reply: the connection is over before the next letter."""
    said_with_it = Step("S", b"250 OK\r\n421 4.4.2 Error: timeout exceeded\r\n")
    relay = ScriptedRelay([*HELLO, *MAIL[:-1], said_with_it], [*HELLO, *MAIL, *QUIT])
    client = client_of(relay)
    assert verdicts(client.deliver([LETTER, LETTER])) == ["content 250", "content 250"]
    client.close()
    relay.assert_played()


def test_an_unasked_421_that_was_not_read_yet() -> None:
    """It meets the next MAIL, and must not be taken for the answer to it."""
    clock, peers = Clock(), []

    def connect() -> Peer:
        def answer(sent: bytes) -> bytes:
            last = sent.rsplit(b"\r\n", 2)[-2] if sent else b""
            if sent.count(b"MAIL") == 2:
                return b"421 4.4.2 Error: timeout exceeded\r\n"
            return {b"": b"220 hi\r\n", b"DATA": b"354 go\r\n"}.get(last, b"250 OK\r\n")

        peers.append(Peer(clock, answer))
        return peers[-1]

    client = Client(connect, SETTINGS, clock=clock)
    assert verdicts(client.deliver([LETTER] * 3)) == ["content 250"] * 3
    client.close()
    assert [peer.sent.count(data_octets(CONTENT)) for peer in peers] == [1, 1, 1]
    assert all(peer.closed for peer in peers)


def test_a_reply_too_many_is_a_protocol_error() -> None:
    relay = ScriptedRelay([*HELLO, ENVELOPE[0], Step("S", b"250 OK\r\n250 OK\r\n")])
    client = client_of(relay)
    (delivery,) = client.deliver([LETTER])
    assert (delivery.phase, delivery.fault and delivery.fault.kind) == ("rcpt", "protocol")
    client.close()
    relay.assert_played()


def test_a_reply_behind_the_last_word_harms_no_letter() -> None:
    relay = ScriptedRelay([*HELLO, *MAIL[:-1], Step("S", b"250 OK\r\n250 OK\r\n")], [*HELLO, *MAIL, *QUIT])
    client = client_of(relay)
    assert verdicts(client.deliver([LETTER, LETTER])) == ["content 250", "content 250"]
    client.close()
    relay.assert_played()


@pytest.mark.parametrize("behind", [b"421 bye\r\n", b"junk\r\n", b"250 OK\r\n"])
def test_more_than_a_greeting(behind: bytes) -> None:
    relay = ScriptedRelay([Step("S", b"220 hi\r\n" + behind)])
    (delivery,) = client_of(relay).deliver([LETTER])
    assert delivery.relay_refused
    assert delivery.phase == "hello"
    relay.assert_played()


def test_content_goes_out_in_blocks_each_with_its_time() -> None:
    clock = Clock()
    content = (b"." * 70 + b"\r\n") * 3000

    def answer(sent: bytes) -> bytes:
        if sent.endswith(b"\r\n.\r\n"):
            return b"250 OK\r\n"
        last = sent.rsplit(b"\r\n", 2)[-2] if sent else b""
        return {b"": b"220 hi\r\n", b"DATA": b"354 go\r\n"}.get(last, b"250 OK\r\n")

    peer = Peer(clock, answer)
    client = Client(lambda: peer, SETTINGS, clock=clock)
    (delivery,) = client.deliver([Envelope(sender="", recipients=("b@relay.test",), content=content)])
    assert delivery.phase == "content"
    assert delivery.recipients[0].accepted
    assert peer.sent.endswith(b"DATA\r\n" + data_octets(content))
    blocks = peer.writes[4:]
    assert len(blocks) == -(-len(data_octets(content)) // BLOCK_BYTES)
    assert all(size == BLOCK_BYTES for size, _ in blocks[:-1])
    assert all(timeout_s == SETTINGS.timeouts.block_s for _, timeout_s in blocks)
    client.close()


@pytest.mark.parametrize(
    ("last_words", "verdict"),
    [
        (b"552 5.3.4 Too big\r\n", "content 552"),
        (b"421 4.3.2 Shutting down\r\n", "content 421"),
        (b"250 OK\r\n", "content protocol"),
        (b"", "content lost"),
        (ConnectionResetError("gone"), "content lost"),
        (TimeoutError(), "content lost"),
    ],
)
def test_last_words_of_a_relay_that_takes_no_more(last_words: bytes | OSError, verdict: str) -> None:
    clock = Clock()

    def answer(sent: bytes) -> bytes | OSError:
        if b"DATA\r\n" not in sent:
            return b"250 OK\r\n" if sent else b"220 hi\r\n"
        return b"354 go\r\n" if sent.endswith(b"DATA\r\n") else last_words

    peer = Peer(clock, answer, takes_bytes=BLOCK_BYTES + 1000)
    letter = Envelope(sender="", recipients=("b@relay.test",), content=b"x\r\n" * BLOCK_BYTES)
    results = Client(lambda: peer, SETTINGS, clock=clock).deliver([letter])
    (delivery,) = results
    assert verdicts(iter([delivery])) == [verdict]
    assert not delivery.possible_duplicate  # the final dot had not been handed over
    assert peer.closed
    assert b"QUIT" not in peer.sent  # it would have been read as content


def test_a_send_that_fails_although_the_relay_has_answered_is_not_tried_for_ever() -> None:
    """A chip may send EHLO and never say so: each connection then ends behind the answer, before any letter."""
    clock = Clock()
    peers: list[Peer] = []

    class NeverSent(Peer):
        def send_all(self, data: bytes, *, timeout_s: float) -> None:
            super().send_all(data, timeout_s=timeout_s)
            raise TimeoutError("SEND without SEND_OK")

    def connect() -> Peer:
        peers.append(NeverSent(clock, lambda sent: b"250 OK\r\n" if sent else b"220 hi\r\n"))
        return peers[-1]

    (delivery,) = Client(connect, SETTINGS, clock=clock).deliver([LETTER])
    assert delivery.fault is not None
    assert delivery.fault.kind == "timeout"
    assert not delivery.possible_duplicate
    assert len(peers) == 1
    assert all(peer.closed for peer in peers)


@pytest.mark.parametrize(
    ("last_words", "verdict"),
    [(b"421 4.3.2 Busy\r\n", "mail 421"), (b"554 no\r\n", "mail protocol"), (b"rubbish\r\n", "mail protocol")],
)
def test_a_relay_that_ends_it_behind_its_answer_to_ehlo_is_not_asked_for_ever(
    last_words: bytes, verdict: str
) -> None:
    clock = Clock()
    peers: list[Peer] = []

    def connect() -> Peer:
        peers.append(Peer(clock, lambda sent: b"250 OK\r\n" + last_words if sent else b"220 hi\r\n"))
        return peers[-1]

    results = list(Client(connect, SETTINGS, clock=clock).deliver([LETTER, LETTER]))
    assert verdicts(iter(results)) == [verdict, verdict]
    assert len(peers) == 1
    assert peers[0].closed


def test_a_dot_that_may_have_gone_out_may_have_arrived() -> None:
    clock = Clock()

    def answer(sent: bytes) -> bytes | OSError:
        if sent.endswith(b"DATA\r\n"):
            return b"354 go\r\n" if peer.writes[-1][0] == 6 else TimeoutError()
        return b"250 OK\r\n" if sent else b"220 hi\r\n"

    peer = Peer(
        clock, answer, takes_bytes=len("EHLO client.test\r\nMAIL FROM:<>\r\nRCPT TO:<b@relay.test>\r\nDATA\r\n")
    )
    letter = Envelope(sender="", recipients=("b@relay.test",), content=CONTENT)
    (delivery,) = Client(lambda: peer, SETTINGS, clock=clock).deliver([letter])
    assert (delivery.phase, delivery.possible_duplicate) == ("content", True)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "refused"),
        (TimeoutError("timed out"), "timeout"),
        (OSError(113, "No route to host"), "unreachable"),
        (ConnectionResetError(), "unreachable"),
    ],
)
def test_a_relay_that_cannot_be_reached_is_tried_once_for_all_letters(error: OSError, kind: str) -> None:
    tries = []

    def connect() -> Peer:
        tries.append(1)
        raise error

    deliveries = list(Client(connect, SETTINGS).deliver([LETTER] * 3))
    assert len(tries) == 1
    for delivery in deliveries:
        assert delivery.relay_refused
        assert delivery.fault is not None
        assert (delivery.phase, delivery.fault.kind, delivery.greeting) == ("connect", kind, None)
        assert delivery.recipients[0].fault is delivery.fault


def test_an_exception_of_no_stream_leaves_nothing_half_sent() -> None:
    """A bug elsewhere, or Ctrl-C: the letter that was under way must not be mixed up with the next."""
    seen = []

    def observe(line: str) -> None:
        seen.append(line)
        if line == "C: DATA" and seen.count(line) == 1:
            raise KeyboardInterrupt

    relay = ScriptedRelay([*HELLO, *MAIL], [*HELLO, *MAIL, *QUIT])
    client = Client(relay.connect, SETTINGS, clock=relay.clock, observe=observe)
    with pytest.raises(KeyboardInterrupt):
        list(client.deliver([LETTER]))
    assert relay.streams[0].closed
    relay.streams[0].steps.clear()
    other = Envelope(sender="a@client.test", recipients=("b@relay.test",), content=CONTENT)
    assert verdicts(client.deliver([other])) == ["content 250"]
    client.close()
    relay.assert_played()


def test_the_transcript_is_live_whole_and_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(host="relay.test:25", helo_name="c", auth="preferred", username="alice", password="s3cret")
    relay = ScriptedRelay(
        said("S: 220 hi", "C: EHLO c", "S: 250-hi", "S: 250 AUTH LOGIN", "C: AUTH LOGIN")
        + said("S: 334 VXNlcm5hbWU6", "C: YWxpY2U=", "S: 334 UGFzc3dvcmQ6", "C: czNjcmV0", "S: 535 s3cret? No")
        + QUIT,
        said("S: 220 hi", "C: HELO c", "S: 250 hi") + MAIL + QUIT,
    )
    live: list[str] = []
    client = Client(relay.connect, settings, clock=relay.clock, observe=live.append)
    with caplog.at_level(logging.DEBUG, "hardwire.smtp"):
        (delivery,) = client.deliver([LETTER])
    assert delivery.transcript == (
        "= connected to relay.test:25",
        "S: 220 hi",
        "C: EHLO c",
        "S: 250-hi",
        "S: 250 AUTH LOGIN",
        "C: AUTH LOGIN",
        "S: 334 VXNlcm5hbWU6",
        "C: ****",
        "S: 334 UGFzc3dvcmQ6",
        "C: ****",
        "S: 535 ****? No",
        "C: QUIT",
        "= AUTH is refused (535 ****? No): a new connection, with HELO and without AUTH",
        "= connected to relay.test:25",
        "S: 220 hi",
        "C: HELO c",
        "S: 250 hi",
        "C: MAIL FROM:<a@client.test>",
        "S: 250 OK",
        "C: RCPT TO:<b@relay.test>",
        "S: 250 OK",
        "C: DATA",
        "S: 354 go",
        "C: <25 octets of content>",
        "S: 250 OK",
    )
    assert tuple(live) == delivery.transcript
    logged = caplog.text
    assert "HELO and without AUTH" in logged
    for secret in ("s3cret", "czNjcmV0", "YWxpY2U=", "Hello."):
        assert secret not in logged
    client.close()
    assert live[-1] == "C: QUIT"
    relay.assert_played()


def test_the_transcript_has_bounds() -> None:
    clock = Clock()
    greeting = b"220 " + b"x" * 3000 + b"\r\n"
    refusal = (b"550-" + b"x" * 50 + b"\r\n") * 60 + b"550 no\r\n"
    peer = Peer(clock, lambda sent: refusal if b"RCPT" in sent else b"250 OK\r\n" if sent else greeting)
    letter = Envelope(sender="", recipients=tuple(f"{n}@relay.test" for n in range(50)), content=CONTENT)
    (delivery,) = Client(lambda: peer, SETTINGS, clock=clock).deliver([letter])
    assert len(delivery.transcript) == MAX_TRANSCRIPT_LINES + 1
    assert max(map(len, delivery.transcript)) == MAX_TRANSCRIPT_CHARS
    assert delivery.transcript[-1].startswith("= ")


def test_a_letter_too_large_costs_no_command() -> None:
    hello = said("S: 220 hi", "C: EHLO client.test", "S: 250-hi", "S: 250 SIZE 10")
    relay = ScriptedRelay([*hello, *QUIT])
    client = client_of(relay)
    (delivery,) = client.deliver([LETTER])
    assert delivery.fault is not None
    assert delivery.fault.permanent
    assert not delivery.relay_refused
    assert "25 octets" in delivery.fault.text
    client.close()
    relay.assert_played()


def test_what_was_learnt_about_helo_is_forgotten_behind_the_batch() -> None:
    """A relay that was mended, or a connection that broke by chance, gets EHLO and AUTH again next time."""
    helo = said("S: 220 hi", "C: HELO client.test", "S: 250 hi")
    hangs_up = said("S: 220 hi", "C: EHLO client.test", "hangup")
    relay = ScriptedRelay(
        hangs_up, [*helo, *MAIL, ENVELOPE[0], *said("hangup")], [*helo, *MAIL, *QUIT], [*HELLO, *MAIL, *QUIT]
    )
    client = client_of(relay)
    batch = client.deliver([LETTER, LETTER])
    assert next(batch).greeting == "HELO"
    assert next(batch).greeting == "HELO"
    client.close()
    assert [one.greeting for one in client.deliver([LETTER])] == ["EHLO"]
    client.close()
    relay.assert_played()


def test_a_new_connection_that_fails_says_nothing_of_the_old_one() -> None:
    settings = Settings(host="r", helo_name="client.test", auth="required", username="alice", password="secret")
    login = said("S: 220 hi", "C: EHLO client.test", "S: 250-hi", "S: 250 AUTH PLAIN")
    login += said("C: AUTH PLAIN AGFsaWNlAHNlY3JldA==", "S: 235 ok")
    relay = ScriptedRelay([*login, *MAIL, ENVELOPE[0], *said("hangup")], None)
    first, second = client_of(relay, settings).deliver([LETTER, LETTER])
    assert (first.greeting, first.authenticated) == ("EHLO", True)
    assert (second.phase, second.greeting, second.authenticated) == ("connect", None, False)
    assert second.relay_refused
    relay.assert_played()


@pytest.mark.parametrize("before", ["", "x" * 70 + " "])
def test_a_line_that_is_no_reply_is_quoted_without_secrets(before: str) -> None:
    settings = Settings(host="r", helo_name="client.test", auth="required", username="alice", password="secret-1")
    encoded = "AGFsaWNlAHNlY3JldC0x"
    login = said("S: 220 hi", "C: EHLO client.test", "S: 250-hi", "S: 250 AUTH PLAIN", f"C: AUTH PLAIN {encoded}")
    relay = ScriptedRelay([*login, *said(f"S: {before}secret-1 and {encoded} are wrong")])
    (delivery,) = client_of(relay, settings).deliver([LETTER])
    assert delivery.fault is not None
    assert f"not a reply line: '{before}****" in delivery.fault.text
    for secret in ("secre", "AGFsaWNl"):
        assert secret not in delivery.fault.text + "".join(delivery.transcript)
    relay.assert_played()


def test_what_was_said_in_confidence_stays_so_on_the_next_connection() -> None:
    settings = Settings(host="r", helo_name="client.test", auth="preferred", username="alice", password="secret-1")
    encoded = "AGFsaWNlAHNlY3JldC0x"
    first = said("S: 220 hi", "C: EHLO client.test", "S: 250-hi", "S: 250 AUTH PLAIN", f"C: AUTH PLAIN {encoded}")
    second = said("S: 220 secret-1", "C: HELO client.test", "S: 250 hi", "C: MAIL FROM:<a@client.test>")
    relay = ScriptedRelay(
        [*first, *said("S: 535 no", "C: QUIT")], [*second, *said(f"S: 550 secret-1 {encoded}", "C: QUIT")]
    )
    client = client_of(relay, settings)
    (delivery,) = client.deliver([LETTER])
    client.close()
    assert delivery.reply is not None
    assert delivery.reply.text == "**** ****"
    assert "S: 220 ****" in delivery.transcript
    assert not any(secret in line for secret in ("secret", encoded) for line in delivery.transcript)
    relay.assert_played()
