"""Deadlines: each reply, each letter, the farewell; and a relay that only just stays alive."""

from __future__ import annotations

import pytest

from plugin.smtp.client import Client, Envelope, Settings, Timeouts
from tests.smtp.scripted import CONTENT, Clock, Peer, ScriptedRelay, Step, said

SETTINGS = Settings(host="relay.test", helo_name="client.test")
LETTER = Envelope(sender="a@client.test", recipients=("b@relay.test",), content=CONTENT)

HELLO = said("S: 220 relay.test", "C: EHLO client.test", "S: 250 relay.test")
ENVELOPE = said("C: MAIL FROM:<a@client.test>", "S: 250 OK", "C: RCPT TO:<b@relay.test>", "S: 250 OK")
MAIL = [*ENVELOPE, *said("C: DATA", "S: 354 go", "C: <content>", "S: 250 OK")]

PHASES_AND_STEPS = [
    ("greeting", "greeting_s", []),
    ("hello", "hello_s", HELLO[:2]),
    ("mail", "mail_s", [*HELLO, *ENVELOPE[:1]]),
    ("rcpt", "rcpt_s", [*HELLO, *ENVELOPE[:3]]),
    ("data", "data_s", [*HELLO, *MAIL[:5]]),
    ("content", "content_s", [*HELLO, *MAIL[:7]]),
]


@pytest.mark.parametrize(("phase", "name", "steps"), PHASES_AND_STEPS)
def test_each_phase_has_its_own_time(phase: str, name: str, steps: list[Step]) -> None:
    relay = ScriptedRelay([*steps, *said("silence")])
    settings = Settings(host="r", helo_name="client.test", timeouts=Timeouts(**{name: 7.0}))
    (delivery,) = Client(relay.connect, settings, clock=relay.clock).deliver([LETTER])
    assert delivery.phase == phase
    assert delivery.fault is not None
    assert delivery.fault.kind == "timeout"
    assert "7 s" in delivery.fault.text
    assert delivery.duration_s == pytest.approx(7)
    assert delivery.relay_refused == (phase in ("greeting", "hello"))
    assert delivery.possible_duplicate == (phase == "content")


@pytest.mark.parametrize("drop", [b"x", b"2", b"220-", b"220-x\r\n"])
def test_drops_do_not_stretch_the_time(drop: bytes) -> None:
    """A relay that sends an octet or a line a second is silent all the same: a reply has one deadline."""
    clock = Clock()
    peer = Peer(clock, lambda _sent: drop)
    settings = Settings(host="r", helo_name="c", timeouts=Timeouts(greeting_s=30))
    client = Client(lambda: peer, settings, clock=clock)
    (delivery,) = client.deliver([LETTER])
    assert delivery.phase == "greeting"
    assert delivery.duration_s <= 30
    assert peer.receives <= 31
    assert peer.closed


def test_a_letter_has_a_deadline_too() -> None:
    """Every reply comes in time, yet a letter to many recipients would take for ever."""
    clock = Clock()
    peer = Peer(clock, lambda sent: b"250 OK\r\n" if sent else b"220 hi\r\n", thinks_s=290)
    letter = Envelope(sender="", recipients=tuple(f"{n}@relay.test" for n in range(100)), content=CONTENT)
    (delivery,) = Client(lambda: peer, SETTINGS, clock=clock).deliver([letter])
    assert delivery.phase == "rcpt"
    assert delivery.fault is not None
    assert delivery.fault.kind == "timeout"
    assert delivery.duration_s == pytest.approx(SETTINGS.timeouts.letter_s)
    assert all(one.fault is delivery.fault for one in delivery.recipients)


def test_quit_is_waited_for_only_briefly() -> None:
    clock = Clock()
    peer = Peer(clock, lambda sent: b"2" if b"QUIT" in sent else b"554 no\r\n")
    client = Client(lambda: peer, SETTINGS, clock=clock)
    begun = clock.now
    (delivery,) = client.deliver([LETTER])
    assert str(delivery.reply) == "554 no"
    assert clock.now - begun <= 1 + SETTINGS.timeouts.quit_s
    assert peer.closed
