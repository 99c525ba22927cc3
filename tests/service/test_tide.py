"""When couriers let alerts go first."""

from __future__ import annotations

from plugin.service.reception import FLOOD_LOOK_S, FLOOD_PER_S, Tide

MANY = int(FLOOD_PER_S * FLOOD_LOOK_S)


def test_a_flood_is_many_alerts_in_a_short_time_and_ends_when_fewer_come() -> None:
    tide = Tide(0.0)
    assert tide.count(MANY - 1, FLOOD_LOOK_S) is False
    assert tide.count(MANY, FLOOD_LOOK_S) is False  # not looked at yet
    assert tide.count(1, 2 * FLOOD_LOOK_S) is True
    assert tide.count(0, 2 * FLOOD_LOOK_S) is True
    assert tide.count(MANY - 1, 3 * FLOOD_LOOK_S) is False


def test_a_few_alerts_at_once_are_none() -> None:
    assert Tide(0.0).count(MANY, 0.001) is False


def test_what_came_before_a_long_silence_is_no_flood() -> None:
    tide = Tide(0.0)
    tide.count(MANY, 0.001)
    assert tide.count(0, 10.0) is False
