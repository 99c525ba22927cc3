"""What is too much: for the disk, for a mail, for a minute. Nothing of it goes without a word."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugin.bridge.rates import MINUTE_S, Rates
from plugin.outbox import OutboxUnavailable
from tests.bridge.house import House


@given(
    rate=st.integers(1, 7),
    pauses_s=st.lists(st.floats(0, 90, allow_nan=False), min_size=1, max_size=60),
)
def test_no_minute_has_more_than_the_rate_and_the_order_is_kept(rate: int, pauses_s: list[float]) -> None:
    rates, now, due = Rates({"#": rate}), 1_000_000.0, []
    for pause_s in pauses_s:
        now += pause_s
        due.append(rates.due_at("#", now))
        assert due[-1] >= now
    assert due == sorted(due)
    for first, beyond in zip(due, due[rate:], strict=False):
        assert beyond - first >= MINUTE_S
    assert due[0] == 1_000_000.0 + pauses_s[0]  # who comes first does not wait


def test_what_came_before_a_restart_counts() -> None:
    rates = Rates({"#": 2})
    rates.recall("#", [90.0, 70.0])
    assert [rates.due_at("#", 100.0) for _ in range(3)] == [130.0, 150.0, 190.0]
    assert rates.due_at("no/rate", 100.0) == 100.0


def test_what_could_not_be_stored_does_not_count() -> None:
    rates = Rates({"#": 1})

    def accept(stored: int) -> float:
        with rates.tentatively():
            return rates.due_at("#", 100.0) / stored

    with pytest.raises(ZeroDivisionError):
        accept(0)
    assert rates.due_at("#", 100.0) == 100.0


def test_what_comes_too_fast_is_told_and_mailed_later_in_its_order(tmp_path: Path) -> None:
    house = House(tmp_path / "outbox.db", rates={"both/#": 2})
    for number in range(5):
        house.accept({"id": f"a{number}"}, "both/x", packet_id=number + 1)
    house.accept({"id": "other"}, "water_leak", packet_id=9)
    told = house.outcomes()
    assert [(one["id"], one["event_type"]) for one in told] == [(f"a{n}", "deferred") for n in (2, 3, 4)]
    assert told[0]["reason"] == "held back, for its route has a rate of 2 a minute"
    assert {(one["state"], one["phase"]) for one in told[0]["recipients"]} == {("deferred", "route")}
    assert told[0]["attempts"] == 0
    assert told[0]["next_attempt_at"] is not None
    counted = {"accepted": 6, "held_back": 3, "deferred": 0}
    assert house.bridge.counters() | counted == house.bridge.counters()

    def sent() -> list[str]:
        while house.carry():
            pass
        return [one["id"] for one in house.outcomes() if one["event_type"] == "success"]

    assert sent() == ["a0", "a1", "other"]
    house.clock.now += 60
    house.bridge.recover()  # as a start does
    assert sent() == ["a2", "a3"]
    house.accept({"id": "a5"}, "both/x", packet_id=10)
    house.clock.now += 60
    assert sent() == ["a4", "a5"]


def test_a_full_disk_does_not_use_up_the_rate(tmp_path: Path) -> None:
    house = House(tmp_path / "outbox.db", rates={"#": 1})
    with house.outbox._database.reading() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 1}").fetchone()
    big = house.message({"message": "x" * 9000})
    for _ in range(3):
        with pytest.raises(OutboxUnavailable):
            house.bridge.accept([big])
    with house.outbox._database.reading() as db:
        db.execute("PRAGMA max_page_count = 1000000").fetchone()
    house.bridge.accept([big])
    assert house.outcomes() == []
    assert house.bridge.counters()["held_back"] == 0


def test_beyond_its_octets_the_queue_is_full_and_room_that_is_made_is_used(tmp_path: Path) -> None:
    house = House(tmp_path / "outbox.db", queue_bytes=600_000)
    payload = {"message": "x" * 9_000}
    for number in range(80):
        house.accept(payload, packet_id=number + 1)
    counters = house.bridge.counters()
    assert counters["accepted"] + counters["queue_full"] == 80
    assert 30 <= counters["accepted"] <= 66
    assert house.path.stat().st_size < 700_000
    reasons = {one["reason"] for one in house.outcomes()}
    assert all("limits.queue_bytes is 600000" in one for one in reasons)
    while house.carry():
        pass
    house.publish()
    house.accept(payload, packet_id=100)
    assert house.bridge.counters()["accepted"] == counters["accepted"] + 1


def attached(*sizes: int) -> dict[str, Any]:
    return {
        "id": "a",
        "attachments": [
            {"filename": f"{n}.bin", "data": base64.b64encode(bytes(size)).decode()}
            for n, size in enumerate(sizes)
        ],
    }


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (attached(100, 100), None),
        (attached(1, 1, 1), "attachments has 3 entries and limits.attachments allows 2"),
        (attached(150, 51), "attachments have 201 octets in all and limits.attachments_bytes allows 200"),
    ],
)
def test_attachments_are_counted_and_weighed(tmp_path: Path, payload: dict[str, Any], words: str | None) -> None:
    house = House(tmp_path / "outbox.db", max_attachments=2, attachments_bytes=200)
    house.accept(payload)
    (reason,) = [one["reason"] for one in house.outcomes()] or [None]
    assert reason == words or words in reason
