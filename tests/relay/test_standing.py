"""Which relays are passed over, for how long, and who tries them again."""

from __future__ import annotations

import pytest

from plugin.relay import Standings
from plugin.relay.standing import FIRST_REST_S, LONGEST_REST_S, TRIAL_S
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


def test_where_all_are_down_all_are_tried(standings: Standings) -> None:
    for position in (2, 0, 1):
        standings.failed(position, "no")
    assert standings.order() == [0, 1, 2]
    assert standings.problem == "a:25: no"
