"""The cost of an alert must not grow with what waits or is remembered: plans and counted work, no times."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plugin.alert import Properties, RecipientState
from plugin.delivery import Schedule
from plugin.outbox import Keep, Outbox
from plugin.outbox.settling import ATTEMPTS_KEPT
from tests.bridge.house import ALICE, House

WAITING = 100_000

FILL = f"""
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {WAITING})
INSERT INTO letter (state, due_at, received_at, route, directions)
SELECT 'waiting', {{due_at}} + i, {{due_at}} + i, '#', '{{{{}}}}' FROM n;
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {WAITING})
INSERT INTO alert (id, state, topic, name, received_at, letter) SELECT 'w' || i, 'firing', 't', 'n', 0, i FROM n;
"""

# Scans that are right: one row, all rows to be deleted or counted, or an index walked in its order up to a limit.
SCANS = {
    "SCAN tally",
    "SCAN packet",
    "SCAN publication",
    "SCAN sqlite_master",
    "SCAN publication USING COVERING INDEX publication_outcome",
    "SCAN alert USING COVERING INDEX alert_settled",
    "SCAN alert USING INDEX alert_settled",
    "SCAN letter USING INDEX letter_put_off",
    "SCAN CONSTANT ROW",
}


class Recording(sqlite3.Connection):
    seen: set[str]

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        self.seen.add(sql)
        return super().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        self.seen.add(sql)
        return super().executemany(sql, parameters)


def a_whole_life(house: House) -> None:
    house.bridge.recover()
    house.bridge.session_lost()
    house.relay.plan[ALICE] = ["deferred", "accepted"]
    response = Properties(response_topic="answers/x")
    for packet_id in (1, 2):
        house.accept({"id": "x"}, packet_id=packet_id, properties=response)
    house.accept({"id": "x"}, packet_id=2, dup=True)
    house.accept({"to": 5})
    while (due_in := house.bridge.next_due_in()) is not None:
        house.clock.forward(max(due_in, 61))
        house.carry()
    house.accept({"id": "x"})
    house.publish()
    house.bridge.health()
    house.relay.plan[ALICE] = ["refused"]
    house.accept({"id": "y", "severity": "critical"}, packet_id=3)
    house.carry()
    house.bridge.retry([3])
    house.outbox.put_on_wire([], newly_sealed=())
    house.outbox.take_off_wire([])
    house.outbox.more_urgent(2, now=house.clock.now)
    house.outbox.hasten(house.clock.now, spread_s=1.0)
    house.carry()
    house.publish()
    house.clock.forward(40 * 86_400)
    assert house.outbox.prune(now=house.clock.now) == 3


def test_every_statement_finds_its_rows_by_an_index(tmp_path: Path) -> None:
    seen: set[str] = set()
    house = House(tmp_path / "outbox.db", factory=type("Recorded", (Recording,), {"seen": seen}))
    a_whole_life(house)
    queries = {sql for sql in seen if re.match(r"SELECT|UPDATE|DELETE", sql)}
    assert len(queries) > 25
    with house.outbox._database.reading() as db:
        for sql in queries:
            numbered = [int(one) for one in re.findall(r"\?(\d+)", sql)]
            count = max(numbered) if numbered else sql.count("?")
            for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", [None] * count):
                step = row["detail"]
                assert "TEMP B-TREE" not in step, f"{sql}: {step}"
                assert not step.startswith("SCAN") or step in SCANS, f"{sql}: {step}"
    house.outbox.close()


def test_every_foreign_key_has_an_index(tmp_path: Path) -> None:
    """Deleting a parent looks for its children, which no query plan shows."""
    house = House(tmp_path / "outbox.db")
    keys = 0
    for (table,) in house.rows("SELECT name FROM sqlite_master WHERE type = 'table'"):
        rowid_key = [
            row[1] for row in house.rows(f"PRAGMA table_info({table})") if row[2] == "INTEGER" and row[5] == 1
        ]
        indices = [row[1] for row in house.rows(f"PRAGMA index_list({table})")]
        first = {house.rows(f"PRAGMA index_info({index})")[0][2] for index in indices}
        for key in house.rows(f"PRAGMA foreign_key_list({table})"):
            keys += 1
            assert key[3] in {*first, *rowid_key}, f"{table}.{key[3]}"
    assert keys == 9
    house.outbox.close()


def work(house: House, calls: Any) -> int:
    """Return how much SQLite had to do for ``calls``, in tens of its instructions."""
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return 0

    with house.outbox._database.reading() as db:
        db.set_progress_handler(count, 10)
    calls()
    with house.outbox._database.reading() as db:
        db.set_progress_handler(None, 0)
    return counted


@pytest.mark.parametrize("due_at", [0, 4e9], ids=["all due", "none due"])
def test_the_work_is_the_same_with_100000_waiting(tmp_path: Path, due_at: float) -> None:
    most_urgent = {"id": "one more", "severity": "critical"}  # which is the one to be carried in either

    def one_alert(house: House) -> Iterator[tuple[str, int]]:
        yield "accept", work(house, lambda: house.bridge.accept([house.message(most_urgent)]))
        yield "next_due_in", work(house, house.bridge.next_due_in)
        yield "health", work(house, house.bridge.health)
        yield "claim", work(house, lambda: house.outbox.claim(now=house.clock.now, limit=1))
        house.outbox.release(range(2 * WAITING))
        yield "more urgent", work(house, lambda: house.outbox.more_urgent(2, now=house.clock.now))
        yield "carry", work(house, house.carry)
        yield "publish", work(house, lambda: house.publish(1))
        yield "hasten", work(house, lambda: house.outbox.hasten(house.clock.now, spread_s=1.0))

    empty, full = House(tmp_path / "empty.db"), House(tmp_path / "full.db", queue=2 * WAITING)
    with full.outbox._database.transaction() as db:
        for statement in FILL.format(due_at=due_at).strip().rstrip(";").split(";"):
            db.execute(statement)
    assert full.bridge.health().waiting == WAITING
    few, many = dict(one_alert(empty)), dict(one_alert(full))
    assert {name: count for name, count in many.items() if count > 2 * few[name] + 10} == {}
    empty.outbox.close()
    full.outbox.close()


class TestHistory:
    def settle(self, house: House, count: int) -> None:
        for n in range(count):
            house.accept({"id": f"{n}"}, packet_id=n + 1)
            house.clock.forward(1)
        while house.carry():
            house.clock.forward(1)

    def remembered(self, house: House) -> list[str]:
        return [row[0] for row in house.rows("SELECT id FROM alert ORDER BY number")]

    def test_is_bounded_by_age_and_count(self, tmp_path: Path) -> None:
        house = House(tmp_path / "outbox.db")
        house.outbox._keep = Keep(age_s=100, alerts=4)
        self.settle(house, 10)
        house.publish()
        assert house.outbox.prune(now=house.clock.now) == 6
        assert self.remembered(house) == ["6", "7", "8", "9"]
        assert house.outbox.prune(now=house.clock.now) == 0
        assert house.outbox.prune(now=house.clock.now + 101) == 4
        for table in ("alert", "letter", "recipient", "attempt", "outcome", "packet", "content", "responder"):
            assert house.rows(f"SELECT COUNT(*) FROM {table}") == [(0,)], table
        house.outbox.close()

    def test_what_is_not_published_or_not_settled_stays(self, tmp_path: Path) -> None:
        house = House(tmp_path / "outbox.db")
        self.settle(house, 3)
        house.accept({"id": "waits"}, packet_id=9)
        first = house.bridge.outgoing(100)[:2]
        house.bridge.published([one.id for one in first])  # both of alert 0
        assert house.outbox.prune(now=house.clock.now + 1e9) == 1
        assert self.remembered(house) == ["1", "2", "waits"]
        assert house.carry() == 1
        house.outbox.close()

    def test_goes_by_itself_in_small_steps(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("plugin.outbox.queue.PRUNE_STEP", 3)
        monkeypatch.setattr("plugin.bridge.history.PRUNE_STEPS", 2)
        house = House(tmp_path / "outbox.db")
        self.settle(house, 13)
        house.publish()
        house.clock.forward(31 * 86_400)
        left = []
        for _ in range(4):
            house.carry()  # without a pause as long as there is more: alerts that come fast must not outrun it
            left.append(len(self.remembered(house)))
        assert left == [7, 1, 0, 0]
        self.settle(house, 1)
        house.publish()
        house.clock.forward(50)
        house.outbox._keep = Keep(age_s=0, alerts=0)
        house.carry()  # within the same minute nothing happens
        assert len(self.remembered(house)) == 1
        house.clock.forward(20)
        house.carry()
        assert self.remembered(house) == []
        house.outbox.close()

    def test_a_relay_that_is_away_for_days_piles_nothing_up(self, tmp_path: Path) -> None:
        house = House(tmp_path / "outbox.db", schedule=Schedule(first_s=1, factor=1, longest_s=1, max_age_s=1e6))
        put_off: list[RecipientState] = ["deferred"] * 60
        house.relay.plan[ALICE] = [*put_off, "accepted"]
        house.accept({"id": "x"})
        for _ in range(61):
            house.carry()
            house.clock.forward(1)
        assert house.rows("SELECT COUNT(*) FROM outcome WHERE event_type = 'deferred'") == [(60,)]
        first, *_ = house.bridge.outgoing(1)
        house.bridge.published([first.id])
        assert house.rows("SELECT COUNT(*) FROM outcome") == [(61,)]  # it has another topic to go to
        house.publish()
        assert house.rows("SELECT event_type FROM outcome") == [("success",)]
        numbers = [row[0] for row in house.rows("SELECT number FROM attempt ORDER BY number")]
        assert numbers == [1, *range(62 - ATTEMPTS_KEPT + 1, 62)]
        house.outbox.close()

    def test_gives_its_room_back(self, tmp_path: Path) -> None:
        house = House(tmp_path / "outbox.db")
        house.relay.plan[ALICE] = ["refused"]
        for n in range(100):
            house.accept({"message": "x" * 9000}, packet_id=n + 1)
            house.carry()
        house.publish()
        pages = house.rows("PRAGMA page_count")[0][0]
        while house.outbox.prune(now=house.clock.now + 1e9):
            pass
        assert house.rows("PRAGMA page_count")[0][0] < pages / 3
        house.outbox.close()


def test_keep_has_defaults(tmp_path: Path) -> None:
    with Outbox(tmp_path / "o.db") as outbox:
        assert (outbox._keep.age_s, outbox._keep.alerts) == (30 * 86_400, 10_000)
