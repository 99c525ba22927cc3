"""The decision table "again, or give up", row by row, and the retry schedule."""

from __future__ import annotations

from typing import get_args

import pytest

from plugin.alert import Phase, RecipientState
from plugin.delivery import Schedule, classify
from plugin.smtp.errors import Fault
from plugin.smtp.reply import Reply

D, R, A = "deferred", "refused", "accepted"
#               nothing, 2yz, 4yz, 5yz, a fault, a permanent fault
TABLE: dict[Phase, tuple[str, ...]] = {
    "connect": (D, D, D, D, D, D),
    "greeting": (D, D, D, D, D, D),
    "hello": (D, D, D, D, D, D),
    "tls": (D, D, D, D, D, D),
    "auth": (D, D, D, D, D, D),
    "mail": (D, D, D, R, D, R),
    "rcpt": (D, D, D, R, D, R),
    "data": (D, D, D, R, D, R),
    "content": (D, A, D, R, D, R),
}


def reply(code: int) -> Reply:
    return Reply(code=code, lines=("text",))


def test_the_table_has_every_phase_of_smtp() -> None:
    assert set(TABLE) == set(get_args(Phase)) - {"decode", "route", "compose"}


@pytest.mark.parametrize("phase", TABLE)
def test_each_phase(phase: Phase) -> None:
    got: list[RecipientState] = [classify(phase, None)]
    got += [classify(phase, reply(code)) for code in (250, 450, 550)]
    got += [classify(phase, Fault(kind="lost", text="x")), classify(phase, Fault(kind="size", text="x"))]
    assert tuple(got) == TABLE[phase]


@pytest.mark.parametrize("code", [251, 252, 299, 450, 471, 499, 524, 554, 599])
def test_codes_outside_the_standard_are_judged_by_their_first_digit(code: int) -> None:
    assert classify("content", reply(code)) == classify("content", reply(code // 100 * 100 + 50))


def test_a_3yz_where_none_belongs_is_no_acceptance() -> None:
    assert classify("content", reply(354)) == "deferred"


SCHEDULE = Schedule(first_s=10, factor=2, longest_s=60, max_age_s=1000)


def test_waits_grow_to_the_longest() -> None:
    waits = [SCHEDULE.next_attempt(attempts, received_at=0, now=100) for attempts in range(1, 6)]
    assert waits == [110, 120, 140, 160, 160]


def test_the_last_attempt_is_at_the_very_end() -> None:
    assert SCHEDULE.next_attempt(9, received_at=0, now=990) == 1000
    assert SCHEDULE.next_attempt(10, received_at=0, now=1000) is None
    assert SCHEDULE.next_attempt(10, received_at=0, now=5000) is None


def test_many_attempts_overflow_nothing() -> None:
    assert SCHEDULE.next_attempt(10**9, received_at=0, now=1) == 61
    steady = Schedule(first_s=5, factor=1, longest_s=60, max_age_s=1000)
    assert steady.next_attempt(1000, received_at=0, now=1) == 6
