"""A relay in trouble: what a lane learns from a letter, what waits, and who finds out that it is over."""

from __future__ import annotations

import pytest

from plugin.relay import Standings
from plugin.relay.pace import FIRST_INTERVAL_S, FIRST_LOOK_S, SOONEST_LOOK_S
from plugin.relay.standing import ALIKE
from tests.relay.test_failover import HELLO, LETTERS, QUIT, Net, mail, told
from tests.smtp.scripted import Clock, ScriptedRelay, Step, said


@pytest.fixture
def clock() -> Clock:
    return Clock()


def put_off(reply: str) -> list[Step]:
    """A letter that the only RCPT ends, and the RSET that comes before the next one."""
    steps = said("C: MAIL FROM:<house@example.net>", "S: 250 OK", "C: RCPT TO:<alice@example.net>", f"S: {reply}")
    return [*steps, *said("C: RSET", "S: 250 OK")]


def test_two_421_cost_one_letter_and_the_others_wait_for_a_moment(clock: Clock) -> None:
    recovered: list[float] = []
    standings = Standings(["a:25"], clock=clock, on_recovery=lambda: recovered.append(clock.now))
    turned_away = said("S: 421 4.3.2 come back")
    net = Net(clock, a=ScriptedRelay(turned_away, turned_away, [*HELLO, *mail(), *mail(), *QUIT], clock=clock))
    lane = net.lane(standings)
    assert told(lane, LETTERS[:3]) == ["1 a:25 deferred greeting"]
    assert lane.ready_in() == FIRST_LOOK_S
    assert told(lane, LETTERS[1:3]) == []  # neither drawn nor tried
    clock.pass_s(FIRST_LOOK_S)
    assert told(lane, LETTERS[1:3]) == ["2 a:25 accepted content", "3 a:25 accepted content"]
    assert len(recovered) == 1  # now number 1 can go
    lane.close()
    net.played()


def test_a_limit_is_kept_to_and_does_not_hurry_back(clock: Clock) -> None:
    standings = Standings(["a:25"], clock=clock)
    limit = said("C: MAIL FROM:<house@example.net>", "S: 450 4.7.1 too much mail")
    net = Net(clock, a=ScriptedRelay([*HELLO, *limit, *mail(), *mail(), *QUIT], clock=clock))
    lane = net.lane(standings)
    assert told(lane, LETTERS[:3]) == ["1 a:25 deferred mail"]
    assert lane.ready_in() == FIRST_INTERVAL_S
    clock.pass_s(FIRST_INTERVAL_S)
    assert told(lane, LETTERS[1:3]) == ["2 a:25 accepted content", "3 a:25 accepted content"]
    assert standings.problem is None
    lane.close()
    net.played()


def test_a_relay_that_puts_off_whoever_comes_is_asked_by_one_letter_at_a_time(clock: Clock) -> None:
    standings = Standings(["a:25"], clock=clock)
    several = [step for _ in range(ALIKE) for step in put_off("451 4.3.0 not now")]
    net = Net(clock, a=ScriptedRelay([*HELLO, *several, *mail(), *QUIT], clock=clock))
    lane = net.lane(standings)
    letters = [*LETTERS, *LETTERS, *LETTERS]
    assert len(told(lane, letters)) == ALIKE
    assert str(standings.problem) == "a:25: 451 not now (one letter every 1 s)"
    clock.pass_s(lane.ready_in())
    assert told(lane, letters[:1]) == ["1 a:25 accepted content"]
    assert standings.problem is None
    lane.close()
    net.played()


def test_a_lane_without_letters_finds_out_that_a_relay_is_back_and_keeps_the_connection(clock: Clock) -> None:
    recovered: list[float] = []
    standings = Standings(["a:25"], clock=clock, on_recovery=lambda: recovered.append(clock.now))
    net = Net(clock, a=ScriptedRelay(None, None, [*HELLO, *mail(), *QUIT], clock=clock))
    lane = net.lane(standings)
    assert told(lane, LETTERS[:1]) == ["1 a:25 deferred connect"]
    assert lane.tend() == SOONEST_LOOK_S
    clock.pass_s(SOONEST_LOOK_S)
    assert lane.tend() == SOONEST_LOOK_S  # still away
    assert (standings.problem is None, recovered) == (False, [])
    clock.pass_s(SOONEST_LOOK_S)
    lane.tend()
    assert standings.problem is None
    assert len(recovered) == 1
    assert told(lane, LETTERS[:1]) == ["1 a:25 accepted content"]
    assert net.asked == ["a", "a", "a"]
    lane.close()
    net.played()


def test_a_newcomer_to_postscreen_comes_again_on_another_connection(clock: Clock) -> None:
    net = Net(
        clock,
        a=ScriptedRelay(
            [*HELLO, *put_off("450 4.3.2 Service currently unavailable")[:-2], *QUIT],
            [*HELLO, *mail(), *QUIT],
            clock=clock,
        ),
    )
    lane = net.lane()
    assert told(lane, LETTERS[:2]) == ["1 a:25 deferred rcpt"]
    assert told(lane, LETTERS[1:2]) == ["2 a:25 accepted content"]
    lane.close()
    net.played()


def test_nobody_is_put_on_trial_without_a_letter(clock: Clock) -> None:
    standings = Standings(["a:25", "b:25"], clock=clock)
    net = Net(
        clock, a=ScriptedRelay(None, [*HELLO, *mail(), *QUIT], clock=clock), b=ScriptedRelay(None, clock=clock)
    )
    lane = net.lane(standings)
    assert told(lane, LETTERS[:1]) == ["1 b:25 deferred connect"]
    clock.pass_s(60)
    assert told(lane, []) == []
    assert told(lane, LETTERS[1:2]) == ["2 a:25 accepted content"]
    lane.close()
    net.played()
