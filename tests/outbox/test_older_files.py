"""Files of every schema that was ever written still open, and all that was in them goes on."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from plugin.outbox import Outbox
from tests.bridge.house import ALICE, BOB, House


def opened(tmp_path: Path) -> House:
    path = tmp_path / "outbox.db"
    db = sqlite3.connect(path)
    db.executescript((Path(__file__).parent / "schema-1.sql").read_text())
    db.close()
    return House(path)


def schema(house: House) -> set[tuple[str, str]]:
    rows = house.rows("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'")
    # The words of one statement that others have added to differ in their spaces only.
    return {(name, " ".join(sql.replace('"', "").split())) for name, sql in rows}


def test_a_file_of_schema_1_goes_on(tmp_path: Path) -> None:
    house = opened(tmp_path)
    house.clock.forward(60)
    assert house.bridge.recover() == 1
    assert house.bridge.health().waiting == 3
    assert house.bridge.health().unpublished == 2
    told = house.outcomes()
    assert [(one["id"], one["event_type"]) for one in told] == [("malformed", "failure")]
    assert house.bridge.carry(house.relay.deliver, limit=9) == 3
    sent = {one.alert_ids[0]: one for one in house.relay.letters}
    assert sent["put off"].recipients == (BOB,)
    assert sent["put off"].content.startswith(b"put off||2026-11-23T10:00:02")  # as it was sealed then
    assert sent["waits"].recipients == (ALICE, BOB)
    assert {one["id"]: one["possible_duplicate"] for one in house.outcomes()} == {
        "waits": False,
        "put off": False,
        "on the wire": True,
    }
    assert house.bridge.retry(None) == 1  # what had failed before there were rounds
    assert house.carry() == 1
    assert house.relay.letters[-1].message_id == "<failed.firing.2@example.net>"
    assert [(one["id"], one["event_type"]) for one in house.outcomes()] == [("failed", "success")]
    house.accept({"id": "sent"}, packet_id=7)
    assert [one["id"] for one in house.outcomes()] == ["sent"]  # a repeat is answered, not mailed
    assert house.rows("PRAGMA integrity_check") == [("ok",)]
    assert house.rows("PRAGMA foreign_key_check") == []
    house.outbox.close()


def test_it_has_the_schema_of_a_new_file(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old, new = opened(tmp_path / "old"), House(tmp_path / "new" / "outbox.db")
    assert schema(old) == schema(new)
    assert dict(old.rows("SELECT state, urgency FROM letter WHERE state <> 'settled' GROUP BY state")) == {
        "waiting": 0,
        "wire": 0,
    }
    old.outbox.close()
    new.outbox.close()
    Outbox(old.path).close()
