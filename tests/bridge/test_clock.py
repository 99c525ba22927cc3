"""A clock by which letters wait, whatever the clock on the wall does."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugin.bridge import Mark, SteadyClock
from plugin.bridge.clock import NOBODY_SET_IT, resumed
from plugin.delivery import Schedule

TODAY = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()
LONG_AGO = 100.0  # seconds after the epoch: what a machine without a clock begins with


class Machine:
    """What a machine's two clocks show; ``wall`` may be set."""

    def __init__(self, wall: float) -> None:
        self.wall = wall
        self.monotonic = 5.0

    def lives(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds

    def clock(self, mark: Mark | None = None) -> SteadyClock:
        return SteadyClock(mark, wall=lambda: self.wall, monotonic=lambda: self.monotonic)


@pytest.mark.parametrize(
    ("mark", "wall", "goes_on_from"),
    [
        (None, TODAY, TODAY),
        (Mark(steady=TODAY, wall=TODAY), TODAY + 3600, TODAY + 3600),  # an hour off
        (Mark(steady=500.0, wall=TODAY), TODAY + 3600, 4100.0),  # of another scale by now, and still an hour
        (Mark(steady=TODAY, wall=TODAY), TODAY - 3600, TODAY),  # set back, or not yet right
        (Mark(steady=TODAY, wall=TODAY), TODAY + 73 * 365 * 86_400.0, TODAY),  # set to nonsense
        (Mark(steady=TODAY, wall=TODAY), LONG_AGO, TODAY),  # nobody has set it since it was switched on
        (Mark(steady=LONG_AGO, wall=LONG_AGO), TODAY, LONG_AGO),  # set for the first time
        (Mark(steady=LONG_AGO, wall=LONG_AGO), LONG_AGO + 50, LONG_AGO),
    ],
)
def test_where_it_goes_on_from(mark: Mark | None, wall: float, goes_on_from: float) -> None:
    assert resumed(mark, wall) == goes_on_from


def test_a_mark_survives_the_outbox_and_rubbish_is_none() -> None:
    mark = Mark(steady=1.5, wall=TODAY)
    assert Mark.read(mark.as_json()) == mark
    assert [Mark.read(one) for one in (None, 5, {}, {"steady": "x", "wall": 1}, {"steady": 1.0})] == [None] * 5


def test_people_read_the_clock_on_the_wall_also_of_times_before_it_was_set() -> None:
    machine = Machine(LONG_AGO)
    clock = machine.clock()
    began = clock()
    machine.lives(60)
    machine.wall = TODAY
    assert clock() == began + 60
    assert clock.date(began).timestamp() == TODAY - 60
    assert clock.date(clock() + 10).timestamp() == TODAY + 10


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("lives"), st.floats(0, 7200)),
        st.tuples(st.just("is set"), st.sampled_from([LONG_AGO, NOBODY_SET_IT - 1, TODAY, TODAY + 10**9])),
        st.tuples(st.just("steps"), st.floats(-(10**8), 10**8)),
        st.tuples(st.just("starts anew"), st.just(0.0)),
    ),
    max_size=30,
)
SCHEDULE = Schedule(first_s=10, factor=2, longest_s=900, max_age_s=86400)


@given(st.sampled_from([LONG_AGO, TODAY]), STEPS)
def test_whatever_the_wall_clock_does_within_a_run_nothing_stalls_and_nothing_expires_early(
    wall: float, steps: list[tuple[str, float]]
) -> None:
    machine = Machine(wall)
    clock = machine.clock()
    received_at, lived_s = clock(), 0.0
    for what, value in steps:
        if what == "lives":
            machine.lives(value)
            lived_s += value
        elif what == "is set":
            machine.wall = value
        elif what == "steps":
            machine.wall = max(0.0, machine.wall + value)
        else:  # at once: off for no time at all, whatever the clock shows then
            mark = clock.mark()
            machine.monotonic = 0.0
            clock = machine.clock(mark)
        now = clock()
        assert now - received_at == pytest.approx(lived_s, abs=0.01)
        due_at = SCHEDULE.next_attempt(9, received_at=received_at, now=now)
        if lived_s < SCHEDULE.max_age_s - 0.01:
            assert due_at is not None
            assert due_at - now <= SCHEDULE.longest_s + 0.001
        elif lived_s > SCHEDULE.max_age_s + 0.01:
            assert due_at is None
