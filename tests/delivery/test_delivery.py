"""The decision table "again, or give up", row by row, and the retry schedule."""

from __future__ import annotations

from typing import get_args

import pytest

from plugin.alert import Phase, RecipientOutcome, RecipientState
from plugin.delivery import JITTER, Schedule, classify
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


def put_off(text: str, *, code: int = 450, state: RecipientState = "deferred") -> RecipientOutcome:
    return RecipientOutcome(address="a@b.test", state=state, phase="rcpt", code=code, enhanced=None, text=text)


@pytest.mark.parametrize(("chance", "wait_s"), [(0.0, 8.0), (0.5, 10.0), (1.0, 12.0)])
def test_chance_moves_a_wait_by_a_fifth(chance: float, wait_s: float) -> None:
    schedule = Schedule(first_s=10, factor=2, longest_s=900, max_age_s=86400, jitter=JITTER, draw=lambda: chance)
    assert schedule.next_attempt(1, received_at=0, now=100) == pytest.approx(100 + wait_s)


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_chance_leads_neither_beyond_the_longest_wait_nor_beyond_the_end(chance: float) -> None:
    schedule = Schedule(first_s=10, factor=2, longest_s=60, max_age_s=1000, jitter=JITTER, draw=lambda: chance)
    wait = schedule.next_attempt(9, received_at=0, now=100)
    assert wait is not None
    assert wait <= 160
    assert schedule.next_attempt(9, received_at=0, now=999) == 1000


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_a_greylist_is_asked_soon_after_each_usual_time_and_never_early(chance: float) -> None:
    greylisted = (put_off("greylisted"), put_off("mailbox is full", code=452))
    schedule = Schedule(first_s=10, factor=2, longest_s=900, max_age_s=86400, jitter=JITTER, draw=lambda: chance)
    now, attempts = 0.0, []
    for number in range(1, 13):
        at = schedule.next_attempt(number, recipients=greylisted, received_at=0, now=now)
        assert at is not None
        attempts.append(at)
        now = at
    for usual_s in (60, 300, 900, 1800):  # the first attempt behind a usual time is soon enough
        assert min(at for at in attempts if at >= usual_s) <= usual_s * 1.5
    usual = Schedule(first_s=10, factor=2, longest_s=900, max_age_s=86400)
    assert usual.next_attempt(8, recipients=greylisted, received_at=0, now=0) == 180
    assert usual.next_attempt(8, recipients=(put_off("no room"),), received_at=0, now=0) == 900


def test_who_did_not_fit_into_a_transaction_follows_at_once() -> None:
    crowded = put_off("4.5.3 too many recipients", code=452)
    accepted = put_off("ok", code=250, state="accepted")
    schedule = Schedule(first_s=10, factor=2, longest_s=900, max_age_s=86400)
    assert schedule.next_attempt(3, recipients=(accepted, crowded), received_at=0, now=0) == 1
    assert schedule.next_attempt(3, recipients=(crowded,), received_at=0, now=0) == 40
