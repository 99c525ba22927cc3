"""Several relays: who gets which letter, on which connection, and what outcomes tell of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from plugin.alert import Letter
from plugin.relay import Relay, Relays, Standings
from plugin.smtp.settings import Settings
from plugin.smtp.stream import Stream
from tests.relay.test_relays import LETTER
from tests.smtp.scripted import Clock, ScriptedRelay, Step, said

NOW = datetime(2026, 11, 25, tzinfo=UTC)
LETTERS = [replace(LETTER, id=number, message_id=f"<{number}@example.net>") for number in range(1, 5)]
HELLO = said("S: 220 hi", "C: EHLO client.test", "S: 250 hi")
QUIT = said("C: QUIT")


def mail(last: str = "S: 250 OK") -> list[Step]:
    steps = said("C: MAIL FROM:<house@example.net>", "S: 250 OK", "C: RCPT TO:<alice@example.net>", "S: 250 OK")
    steps += said("C: DATA", "S: 354 go")
    steps += [replace(steps[0], octets=LETTER.content + b".\r\n"), *said(last)]
    return steps


class Net:
    """Scripted relays by name; one connection at a time, as a lane has it."""

    def __init__(self, clock: Clock, **relays: ScriptedRelay) -> None:
        self.clock = clock
        self.relays = relays
        self.asked: list[str] = []

    def connect(self, host: str, _port: int, timeout_s: float) -> Stream:
        assert timeout_s > 0
        self.asked.append(host)
        assert all(stream.closed for relay in self.relays.values() for stream in relay.streams)
        return self.relays[host].connect()

    def lane(self, standings: Standings | None = None) -> Relays:
        relays = [
            Relay(
                host=name,
                port=25,
                connect_timeout_s=10,
                settings=Settings(host=name, helo_name="client.test"),
            )
            for name in self.relays
        ]
        return Relays(relays, self.connect, now=lambda: NOW, clock=self.clock, standings=standings)

    def played(self) -> None:
        for relay in self.relays.values():
            relay.assert_played()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def told(lane: Relays, letters: list[Letter]) -> list[str]:
    return [
        f"{letter.id} {attempt.relay} {attempt.recipients[0].state} {attempt.recipients[0].phase}"
        for letter, attempt in lane.deliver(letters)
    ]


def test_letters_share_a_connection_and_it_is_kept_for_the_next(clock: Clock) -> None:
    net = Net(clock, a=ScriptedRelay([*HELLO, *mail(), *mail(), *mail(), *QUIT], clock=clock))
    lane = net.lane()
    assert told(lane, LETTERS[:2]) == ["1 a:25 accepted content", "2 a:25 accepted content"]
    clock.pass_s(30)
    assert lane.tend() == 30
    assert told(lane, LETTERS[2:3]) == ["3 a:25 accepted content"]
    clock.pass_s(59)
    assert lane.tend() == 1
    clock.pass_s(1)
    assert lane.tend() is None
    net.played()


def test_a_relay_that_cannot_be_reached_is_passed_over_until_it_has_rested(clock: Clock) -> None:
    net = Net(
        clock,
        a=ScriptedRelay(None, [*HELLO, *mail(), *QUIT], clock=clock),
        b=ScriptedRelay([*HELLO, *mail(), *mail(), *mail(), *QUIT], clock=clock),
    )
    lane = net.lane()
    assert told(lane, LETTERS[:2]) == ["1 b:25 accepted content", "2 b:25 accepted content"]
    assert told(lane, LETTERS[2:3]) == ["3 b:25 accepted content"]
    assert net.asked == ["a", "b"]
    clock.pass_s(30)
    assert told(lane, LETTERS[3:]) == ["4 a:25 accepted content"]
    lane.close()
    net.played()


@pytest.mark.parametrize(
    "refusal",
    [
        said("S: 554 go away") + QUIT,
        said("S: 220 hi", "C: EHLO client.test", "S: 450 not now") + QUIT,
        [*HELLO, *said("C: MAIL FROM:<house@example.net>", "S: 530 5.7.0 Must issue STARTTLS"), *QUIT],
    ],
)
def test_who_refuses_us_is_not_asked_for_the_other_letters(clock: Clock, refusal: list[Step]) -> None:
    net = Net(
        clock,
        a=ScriptedRelay(refusal, clock=clock),
        b=ScriptedRelay([*HELLO, *mail(), *mail(), *QUIT], clock=clock),
    )
    lane = net.lane()
    attempts = [attempt for _, attempt in lane.deliver(LETTERS[:2])]
    lane.close()
    assert [one.relay for one in attempts] == ["b:25", "b:25"]
    first = attempts[0].transcript
    assert first.index("= the next relay is tried: b:25") > first.index("= connected to a")
    assert "= the next relay is tried: b:25" not in attempts[1].transcript
    net.played()


def test_a_refused_letter_is_not_offered_to_the_next(clock: Clock) -> None:
    net = Net(
        clock,
        a=ScriptedRelay([*HELLO, *mail("S: 554 spam"), *mail(), *QUIT], clock=clock),
        b=ScriptedRelay(clock=clock),
    )
    lane = net.lane()
    assert told(lane, LETTERS[:2]) == ["1 a:25 refused content", "2 a:25 accepted content"]
    lane.close()
    net.played()


def test_the_last_relay_gives_all_its_verdict_and_is_tried_once(clock: Clock) -> None:
    net = Net(clock, a=ScriptedRelay(None, clock=clock), b=ScriptedRelay(None, clock=clock))
    standings = Standings(["a:25", "b:25"], clock=clock)
    lane = net.lane(standings)
    assert told(lane, LETTERS) == [f"{number} b:25 deferred connect" for number in (1, 2, 3, 4)]
    assert net.asked == ["a", "b"]
    assert standings.problem == "a:25: the connection was refused: [Errno 111] Connection refused"
    net.played()


def test_a_relay_that_goes_down_amid_the_letters(clock: Clock) -> None:
    """What has its verdict keeps it; the letter on the wire is put off, the others go on to the next relay."""
    lost = said("C: MAIL FROM:<house@example.net>", "S: 250 OK", "C: RCPT TO:<alice@example.net>", "hangup")
    net = Net(
        clock,
        a=ScriptedRelay([*HELLO, *mail(), *lost], None, clock=clock),
        b=ScriptedRelay([*HELLO, *mail(), *QUIT], clock=clock),
    )
    lane = net.lane()
    assert told(lane, LETTERS[:3]) == [
        "1 a:25 accepted content",
        "2 a:25 deferred rcpt",
        "3 b:25 accepted content",
    ]
    lane.close()
    net.played()


def test_lanes_learn_from_each_other(clock: Clock) -> None:
    standings = Standings(["a:25", "b:25"], clock=clock)
    one = Net(clock, a=ScriptedRelay(None, clock=clock), b=ScriptedRelay([*HELLO, *mail(), *QUIT], clock=clock))
    two = Net(clock, a=ScriptedRelay(clock=clock), b=ScriptedRelay([*HELLO, *mail(), *QUIT], clock=clock))
    for net in (one, two):
        lane = net.lane(standings)
        assert told(lane, LETTERS[:1]) == ["1 b:25 accepted content"]
        lane.close()
        net.played()
