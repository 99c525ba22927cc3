"""What alerts have come to since the outbox is there: counted once each, over restarts, without a word of any."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.bridge.house import ALICE, House

NONE: dict[str, Any] = {"count": 0, "at": None, "duration_s": None}


def test_nothing_yet(house: House) -> None:
    assert house.bridge.totals() == {"last": None, "success": NONE, "failure": NONE, "deferred": NONE}


def test_each_outcome_counts_with_its_time_also_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "totals.db"
    house = House(path)
    house.relay.plan[ALICE] = ["deferred", "accepted"]
    house.accept({"id": "secret title", "title": "secret"})
    house.clock.forward(1.5)
    house.carry()
    deferred = {"count": 1, "at": "2026-11-23T10:00:01.500Z", "duration_s": None}
    assert house.bridge.totals() == {"last": "deferred", "success": NONE, "failure": NONE, "deferred": deferred}
    house.clock.forward(100)
    house.carry()
    house.accept({"to": "nobody at all"}, packet_id=2)
    house.accept({"id": "secret title"}, packet_id=3)  # a repeat is answered, and counts for nothing
    expected = {
        "last": "failure",
        "success": {"count": 1, "at": "2026-11-23T10:01:41.500Z", "duration_s": 101.5},
        "failure": {"count": 1, "at": "2026-11-23T10:01:41.500Z", "duration_s": 0.0},
        "deferred": deferred,
    }
    assert house.bridge.totals() == expected
    house.outbox.close()
    house = House(path, clock=house.clock)
    assert house.bridge.totals() == expected
    house.accept({"id": "next"}, packet_id=4)
    house.carry()
    assert (house.bridge.totals()["last"], house.bridge.totals()["success"]["count"]) == ("success", 2)
    assert not any("secret" in value for _, value in house.rows("SELECT key, value FROM memo"))
    house.outbox.close()


def test_what_could_not_be_stored_is_not_counted(house: House) -> None:
    house.accept({"id": "x"})
    with house.outbox._database.transaction() as db:
        db.execute("CREATE TRIGGER full BEFORE INSERT ON publication BEGIN SELECT RAISE(ABORT, 'full'); END")
    with pytest.raises(sqlite3.IntegrityError):
        house.carry()
    assert house.bridge.totals()["last"] is None
