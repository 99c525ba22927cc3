"""Who is woken, and that nobody sleeps through a call."""

from __future__ import annotations

import threading
from collections.abc import Callable

from plugin.service.crew import Bell

LIMIT_S = 10.0


class Sleeper:
    """Sleeps once on a bell, in a thread of its own."""

    def __init__(self, bell: Bell) -> None:
        before = len(bell._asleep)
        self._thread = threading.Thread(target=bell.sleep, args=(bell.rung, LIMIT_S))
        self._thread.start()
        until(lambda: len(bell._asleep) > before)

    @property
    def awake(self) -> bool:
        self._thread.join(0.05)
        return not self._thread.is_alive()

    def wakes(self) -> bool:
        self._thread.join(LIMIT_S / 2)
        return not self._thread.is_alive()


def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        threading.Event().wait(0.005)
    raise AssertionError("not within 5 s")


def test_as_many_are_woken_as_there_is_work_for_and_who_slept_last_first() -> None:
    bell = Bell()
    early, late = Sleeper(bell), Sleeper(bell)
    bell.ring(1)
    assert late.wakes()
    assert not early.awake
    bell.ring(5)
    assert early.wakes()
    assert not bell._asleep


def test_all_are_woken_where_no_number_is_given() -> None:
    bell = Bell()
    sleepers = [Sleeper(bell) for _ in range(3)]
    bell.ring()
    assert all(one.wakes() for one in sleepers)


def test_a_call_is_not_lost_on_who_is_about_to_sleep() -> None:
    bell = Bell()
    heard = bell.rung
    bell.ring(1)
    bell.sleep(heard, 3600)  # returns at once


def test_who_was_not_called_wakes_in_time_and_takes_no_call_from_others() -> None:
    bell = Bell()
    bell.sleep(bell.rung, 0.001)
    assert not bell._asleep
    other = Sleeper(bell)
    bell.ring(1)
    assert other.wakes()
