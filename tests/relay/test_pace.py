"""How fast letters go by a relay that says it is too fast, or that has no room for any."""

from __future__ import annotations

import pytest

from plugin.relay.pace import (
    FIRST_INTERVAL_S,
    FIRST_LOOK_S,
    LATEST_LOOK_S,
    LONGEST_INTERVAL_S,
    SOONEST_LOOK_S,
    Pace,
    look_again_s,
)


def test_a_limit_doubles_the_interval_to_a_bound_and_success_halves_it_until_it_is_gone() -> None:
    pace, now, intervals = Pace(), 1000.0, []
    for _ in range(11):
        assert pace.limited(now, pace.take(now))
        intervals.append(pace.interval_s)
        now += pace.ready_in(now)
    assert intervals == [FIRST_INTERVAL_S, 2, 4, 8, 16, 32, 64, 128, 256, LONGEST_INTERVAL_S, LONGEST_INTERVAL_S]
    intervals = []
    while pace.interval_s:
        pace.accepted(now, pace.take(now))
        intervals.append(pace.interval_s)
        now += pace.ready_in(now)
    assert intervals == [150, 75, 37.5, 18.75, 9.375, 4.6875, 2.34375, 1.171875, 0]
    assert pace.ready_in(now) == 0


def test_letters_that_were_on_the_way_together_slow_it_down_once() -> None:
    pace = Pace()
    turns = [pace.take(1000.0) for _ in range(10)]
    assert [pace.limited(1000.0, turn) for turn in turns] == [True, *[False] * 9]
    assert pace.interval_s == FIRST_INTERVAL_S
    pace.accepted(1001.0, turns[0])  # it was on the way before the limit was told
    assert pace.interval_s == FIRST_INTERVAL_S


def test_one_letter_has_the_turn() -> None:
    pace = Pace()
    pace.limited(1000.0, pace.take(1000.0))
    assert pace.ready_in(1000.0) == FIRST_INTERVAL_S
    pace.take(1001.0)
    assert pace.ready_in(1001.0) == FIRST_INTERVAL_S


def test_a_busy_relay_is_looked_at_soon_then_seldom_and_is_free_with_the_first_accepted_letter() -> None:
    pace, now, looks = Pace(), 1000.0, []
    for _ in range(60):
        assert pace.busy(now, pace.take(now))
        looks.append(pace.ready_in(now))
        now += looks[-1]
    assert looks[:2] == [FIRST_LOOK_S, SOONEST_LOOK_S]
    assert looks == sorted(looks)
    assert looks[-1] == LATEST_LOOK_S
    pace.accepted(now, pace.take(now))
    assert pace.interval_s == pace.ready_in(now) == 0


def test_what_a_relay_with_a_limit_says_otherwise_does_not_lift_the_limit() -> None:
    pace = Pace()
    pace.limited(1000.0, pace.take(1000.0))
    pace.busy(1005.0, pace.take(1005.0))
    assert pace.interval_s == 2 * FIRST_INTERVAL_S
    pace.accepted(1015.0, pace.take(1015.0))
    assert pace.interval_s == FIRST_INTERVAL_S


@pytest.mark.parametrize(("trouble_s", "wait_s"), [(0, 5), (20, 5), (40, 10), (200, 50), (3600, 60)])
def test_an_outage_is_noticed_to_be_over_a_quarter_of_it_late_at_most(trouble_s: float, wait_s: float) -> None:
    assert look_again_s(trouble_s) == wait_s
