"""Which relays are passed over, for how long, and who tries them again."""

from __future__ import annotations

from itertools import pairwise

import pytest

from plugin.relay import Standings
from plugin.relay.pace import FIRST_INTERVAL_S, FIRST_LOOK_S, LATEST_LOOK_S, SOONEST_LOOK_S
from plugin.relay.standing import ALIKE, FIRST_REST_S, LONGEST_REST_S, TRIAL_S
from tests.smtp.scripted import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def standings(clock: Clock) -> Standings:
    return Standings(["a:25", "b:25", "c:25"], clock=clock)


def test_in_the_order_of_the_configuration(standings: Standings) -> None:
    assert standings.order() == [0, 1, 2]
    assert standings.problem is None


def test_a_relay_that_is_down_comes_last_and_then_first_again(standings: Standings, clock: Clock) -> None:
    assert standings.failed(0, "no connection") is True
    assert standings.order() == [1, 2, 0]
    assert standings.problem == "a:25: no connection (mail goes by b:25)"
    clock.pass_s(FIRST_REST_S - 1)
    assert standings.order() == [1, 2, 0]
    clock.pass_s(1)
    assert standings.order() == [0, 1, 2]
    assert standings.worked(0) is True
    assert standings.order() == [0, 1, 2]
    assert standings.worked(0) is False
    assert not standings.problem


def test_one_lane_tries_for_all(standings: Standings, clock: Clock) -> None:
    standings.failed(0, "no connection")
    clock.pass_s(FIRST_REST_S)
    assert standings.order() == [0, 1, 2]  # this lane tries it
    assert standings.order() == [1, 2, 0]  # the others wait for what comes of it
    clock.pass_s(TRIAL_S)
    assert standings.order() == [0, 1, 2]  # nothing came of it, whatever the reason


def test_the_rest_grows_to_a_bound_and_is_forgotten(standings: Standings, clock: Clock) -> None:
    rests: list[float] = []
    for _ in range(6):
        assert standings.failed(0, "no") is (not rests)
        began = clock.now
        while standings.order()[0] != 0:
            clock.pass_s(1)
        rests.append(clock.now - began)
    assert rests == [30, 60, 120, 240, LONGEST_REST_S, LONGEST_REST_S]
    standings.worked(0)
    assert standings.failed(0, "no") is True
    clock.pass_s(FIRST_REST_S)
    assert standings.order()[0] == 0


def test_where_all_are_down_all_are_tried(standings: Standings, clock: Clock) -> None:
    for position in (2, 0, 1):
        standings.failed(position, "no")
    clock.pass_s(SOONEST_LOOK_S)
    assert standings.order() == [0, 1, 2]
    assert standings.problem == "a:25: no"


def test_where_all_are_down_one_lane_tries_and_then_nobody_for_a_while(standings: Standings, clock: Clock) -> None:
    for position in range(3):
        standings.failed(position, "no")
    assert standings.ready_in() == SOONEST_LOOK_S
    clock.pass_s(SOONEST_LOOK_S)
    assert standings.ready_in() == 0
    standings.order()  # one lane tries them with its letter; letters of the others wait and are not tried
    assert standings.ready_in() == TRIAL_S
    for position in range(3):
        standings.failed(position, "no")
    assert standings.ready_in() == SOONEST_LOOK_S
    standings.worked(1)
    assert standings.ready_in() == 0


def test_probes_that_fail_do_not_keep_letters_from_looking_themselves(clock: Clock) -> None:
    one = Standings(["a:25"], clock=clock)
    one.failed(0, "no connection")
    clock.pass_s(SOONEST_LOOK_S)
    assert one.take_probe() == 0
    one.failed(0, "no connection", letter=False)
    assert one.ready_in() == 0  # the letter's outcome tells how it fares, and it may be at its end
    one.order()
    one.failed(0, "no connection")
    assert one.ready_in() == SOONEST_LOOK_S


def test_lanes_that_lose_a_relay_together_have_one_failure(standings: Standings, clock: Clock) -> None:
    assert [standings.failed(0, "lost"), standings.failed(0, "lost")] == [True, False]
    clock.pass_s(FIRST_REST_S)
    assert standings.order()[0] == 0


# --- held back ----------------------------------------------------------------------------------------------


def test_a_relay_that_is_too_slow_for_us_leaves_the_mail_to_others_or_to_later(clock: Clock) -> None:
    both = Standings(["a:25", "b:25"], clock=clock)
    for _ in range(3):
        assert both.limited(0, "450 4.7.1 too much mail", taken=both.take(0)) is True
    assert (both.ready_in(), both.order(), both.held_back(0)) == (0, [1], True)
    assert both.problem == "a:25: 450 4.7.1 too much mail (one letter every 4 s) (mail goes by b:25)"
    assert both.busy(1, "421 4.3.2 busy", taken=both.take(1)) is True
    assert both.ready_in() == pytest.approx(FIRST_LOOK_S)
    clock.pass_s(FIRST_LOOK_S)
    assert (both.ready_in(), both.order()) == (0, [1])
    both.worked(1, taken=both.take(1))
    clock.pass_s(4 * FIRST_INTERVAL_S)
    assert both.order() == [0, 1]
    for _ in range(3):
        both.worked(0, taken=both.take(0))
    assert both.problem is None


def test_one_letter_that_is_put_off_says_nothing_of_the_relay_and_several_alike_do(clock: Clock) -> None:
    one = Standings(["a:25"], clock=clock)
    reply = ("rcpt", 451, "4.3.0")
    for _ in range(ALIKE - 1):
        assert not one.put_off(0, "451", reply=reply, taken=one.take(0))
    one.worked(0, taken=one.take(0))  # somebody else's letter was taken
    for _ in range(ALIKE - 1):
        assert not one.put_off(0, "451", reply=reply, taken=one.take(0))
    assert not one.put_off(0, "450", reply=("rcpt", 450, "4.2.0"), taken=one.take(0))
    assert one.ready_in() == 0
    for _ in range(ALIKE - 1):
        assert not one.put_off(0, "451", reply=reply, taken=one.take(0))
    assert one.put_off(0, "451", reply=reply, taken=one.take(0))
    assert one.ready_in() == FIRST_LOOK_S


def test_recovery_is_told_once_and_only_where_letters_were_put_off(clock: Clock) -> None:
    told: list[float] = []
    one = Standings(["a:25"], clock=clock, on_recovery=lambda: told.append(clock.now))
    one.worked(0, taken=one.take(0))
    assert not told
    one.failed(0, "no connection")
    one.worked(0)  # a probe
    one.worked(0, taken=one.take(0))
    assert len(told) == 1
    one.busy(0, "421", taken=one.take(0))
    one.worked(0)  # it speaks to us, and that is all: it did so all the time
    assert len(told) == 1
    one.worked(0, taken=one.take(0))
    assert len(told) == 2


# --- probed -------------------------------------------------------------------------------------------------


def test_a_relay_that_is_away_is_probed_by_one_lane_and_less_often_the_longer_it_lasts(clock: Clock) -> None:
    one = Standings(["a:25"], clock=clock)
    assert (one.probe_in(), one.take_probe()) == (None, None)
    one.failed(0, "no connection")
    began, probes = clock.now, []
    while clock.now < began + 1200:
        wait_s = one.probe_in()
        assert wait_s is not None
        clock.pass_s(wait_s)
        assert (one.take_probe(), one.take_probe()) == (0, None)
        probes.append(clock.now - began)
        one.failed(0, "no connection")
    gaps = [after - before for before, after in pairwise(probes)]
    assert probes[0] == gaps[0] == SOONEST_LOOK_S
    assert gaps == sorted(gaps)
    assert gaps[-1] == LATEST_LOOK_S
    one.worked(0)
    assert one.probe_in() is None


def test_a_relay_that_does_not_want_us_or_has_a_stand_in_is_left_to_the_letters(clock: Clock) -> None:
    one = Standings(["a:25"], clock=clock)
    one.failed(0, "535 5.7.8 wrong password", probe=False)
    assert one.probe_in() is None
    both = Standings(["a:25", "b:25"], clock=clock)
    both.failed(0, "no connection")
    assert both.probe_in() is None
    both.failed(1, "no connection")
    assert both.probe_in() == SOONEST_LOOK_S
