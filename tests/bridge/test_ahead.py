"""Letters are sealed a few ahead, for all lanes in common: one commit, their order kept, nothing left in doubt."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plugin.alert import Attempt, Letter
from plugin.bridge.carrying import AHEAD
from tests.bridge.house import ALICE, House


def accept(house: House, *severities: str | None, start: int = 0) -> None:
    for n, severity in enumerate(severities, start=start):
        house.accept({"id": f"{n}"} | ({"severity": severity} if severity else {}), packet_id=n + 1)
        house.clock.forward(1)


def order(house: House) -> list[str]:
    return [one.alert_ids[0] for one in house.relay.letters]


def on_wire(house: House) -> int:
    return int(house.rows("SELECT COUNT(*) FROM letter WHERE state = 'wire'")[0][0])


def test_the_most_severe_goes_first_and_then_the_oldest(house: House) -> None:
    accept(house, "info", None, "warning", "critical", "warning", "critical")
    house.bridge.carry(house.relay.deliver, limit=9)
    assert order(house) == ["3", "5", "2", "4", "0", "1"]


def test_what_is_more_severe_overtakes_what_was_sealed_ahead(house: House) -> None:
    accept(house, None, None, None)

    def alarm(step: str) -> None:
        if step == "after the mail" and len(house.relay.letters) == 1:
            accept(house, "warning", "critical", start=3)

    house.relay.around = alarm
    assert house.bridge.carry(house.relay.deliver, limit=9) == 5
    assert order(house) == ["0", "4", "3", "1", "2"]


def test_one_commit_seals_several(tmp_path: Path) -> None:
    commits = 0

    class Counting(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            nonlocal commits
            commits += sql == "COMMIT"
            return super().execute(sql, parameters)

    house = House(tmp_path / "outbox.db", factory=Counting)
    accept(house, *[None] * 2 * AHEAD)
    commits = 0
    assert house.bridge.carry(house.relay.deliver, limit=99) == 2 * AHEAD
    assert commits == 2 * AHEAD + 2
    house.outbox.close()


def test_what_was_sealed_ahead_and_not_drawn_waits_again_without_doubt(house: House) -> None:
    accept(house, *[None] * 5)

    def two(letters: Iterable[Letter]) -> Iterator[tuple[Letter, Attempt]]:
        for _, letter in zip(range(2), letters, strict=False):
            yield letter, house.relay.attempt(letter)
            assert on_wire(house) == 4 - len(house.relay.letters) + 1

    assert house.bridge.carry(two, limit=9) == 2
    assert on_wire(house) == 0
    assert house.bridge.recover() == 0
    assert house.bridge.next_due_in() == 0
    house.bridge.carry(house.relay.deliver, limit=9)
    assert order(house) == ["0", "1", "2", "3", "4"]
    assert house.composer.sealed == 5
    assert {one["possible_duplicate"] for one in house.outcomes()} == {False}


def test_a_lane_that_is_slow_keeps_nothing_from_the_others(house: House) -> None:
    accept(house, *[None] * 5)
    other: list[int] = []

    def slow(letters: Iterable[Letter]) -> Iterator[tuple[Letter, Attempt]]:
        for letter in letters:
            other.append(house.bridge.carry(house.relay.deliver, limit=9))
            yield letter, house.relay.attempt(letter)

    assert house.bridge.carry(slow, limit=9) == 1
    assert other == [4]


def test_what_cannot_be_put_back_is_sent_by_the_next(house: House) -> None:
    accept(house, *[None] * 4)

    def one_then_full(letters: Iterable[Letter]) -> Iterator[tuple[Letter, Attempt]]:
        letter = next(iter(letters))
        yield letter, house.relay.attempt(letter)
        with house.outbox._database.reading() as db:
            db.execute("PRAGMA query_only = ON")

    with pytest.raises(Exception, match="cannot be written"):
        house.bridge.carry(one_then_full, limit=9)
    with house.outbox._database.reading() as db:
        db.execute("PRAGMA query_only = OFF")
    assert house.bridge.next_due_in() == 0
    assert house.bridge.carry(house.relay.deliver, limit=9) == 3
    assert order(house) == ["0", "1", "2", "3"]
    assert {one["possible_duplicate"] for one in house.outcomes()} == {False}


def test_a_letter_that_ends_the_process_twice_loses_its_urgency(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(step: str) -> None:
        raise Killed

    path = tmp_path / "outbox.db"
    first = House(path)
    accept(first, "critical")
    first.clock.forward(1)
    accept(first, None, start=1)
    clock = first.clock
    house = first
    sent = []
    for _ in range(2):
        house.relay.around = kill
        with pytest.raises(Killed):
            house.carry()
        sent += order(house)
        house.outbox.close()
        house = House(path, clock=clock)
        house.bridge.recover()
        clock.forward(1)
    house.bridge.carry(house.relay.deliver, limit=9)
    assert order(house) == ["1", "0"]
    house.outbox.close()


class TestHasten:
    def put_off(self, house: House, *severities: str | None) -> None:
        accept(house, *severities)
        house.relay.error = OSError("no route to host")
        assert house.bridge.carry(house.relay.deliver, limit=1) == 1
        for _ in severities[1:]:
            house.bridge.carry(house.relay.deliver, limit=1)
        house.relay.error = None

    def test_what_no_relay_has_heard_of_is_due_at_once(self, house: House) -> None:
        self.put_off(house, None, "critical", None)
        assert house.carry() == 0
        assert house.outbox.hasten(house.clock.now, spread_s=9) == 3
        assert house.bridge.next_due_in() == 0
        house.relay.letters.clear()
        assert house.bridge.carry(house.relay.deliver, limit=9) == 3
        assert order(house) == ["1", "0", "2"]
        assert house.outbox.hasten(house.clock.now, spread_s=9) == 0

    def test_so_is_what_a_relay_has_put_off(self, house: House) -> None:
        house.relay.plan[ALICE] = ["deferred"]
        accept(house, None)
        house.carry()
        assert house.outbox.hasten(house.clock.now, spread_s=9) == 1
        assert house.carry() == 1

    def test_what_nobody_has_put_off_is_left_alone(self, house: House) -> None:
        accept(house, None)
        assert house.outbox.hasten(house.clock.now, spread_s=9) == 0

    def test_many_are_spread(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("plugin.outbox.queue.HASTEN_AT_ONCE", 2)
        self.put_off(house, None, None, "critical", None)
        now = house.clock.now
        assert house.outbox.hasten(now, spread_s=4) == 4
        due = dict(house.rows("SELECT alert.id, due_at - ? FROM letter JOIN alert ON letter = letter.number", now))
        assert due == {"2": 0.0, "0": 1.0, "1": 2.0, "3": 3.0}

    def test_nobody_waits_longer_for_it(self, house: House) -> None:
        self.put_off(house, *[None] * 30)
        before = dict(house.rows("SELECT number, due_at FROM letter"))
        house.outbox.hasten(house.clock.now, spread_s=1e6)
        after = dict(house.rows("SELECT number, due_at FROM letter"))
        assert all(after[number] <= due_at for number, due_at in before.items())


def test_a_round_by_request_waits_as_briefly_as_the_first(house: House) -> None:
    house.relay.plan[ALICE] = ["deferred", "deferred", "refused", "deferred", "accepted"]
    accept(house, None)
    while (due_in := house.bridge.next_due_in()) is not None:
        house.clock.forward(due_in)
        house.carry()
    assert house.bridge.retry(None) == 1
    assert house.carry() == 1
    assert house.bridge.next_due_in() == 10
    assert [one["attempts"] for one in house.outcomes()] == [1, 2, 3, 4]
