"""A copy that is made while the service works opens, and misses nothing that was acknowledged before."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from plugin.alert import RecipientState
from plugin.outbox import Keep
from tests.bridge.house import ALICE, House


def vacuum_into(source: Path, target: Path) -> None:
    db = sqlite3.connect(source)
    db.execute("VACUUM INTO ?", (str(target),))
    db.close()


def backup(source: Path, target: Path) -> None:
    db, copy = sqlite3.connect(source), sqlite3.connect(target)
    db.backup(copy)
    db.close()
    copy.close()


def files(source: Path, target: Path) -> None:
    for end in ("", "-wal"):
        shutil.copyfile(source.with_name(source.name + end), target.with_name(target.name + end))


@pytest.mark.parametrize("copy", [vacuum_into, backup, files])
def test_a_copy_of_a_running_outbox_opens(tmp_path: Path, copy: Callable[[Path, Path], None]) -> None:
    house = House(tmp_path / "outbox.db")
    copied: list[Path] = []

    def take(step: str) -> None:
        if step == "before the mail" and len(house.relay.letters) == 3:  # letters are on the wire, others wait
            copied.append(tmp_path / "copy.db")
            copy(house.path, copied[-1])

    for n in range(12):
        house.accept({"id": f"{n}", "message": "x" * 5000}, packet_id=n + 1)
    house.relay.around = take
    house.bridge.carry(house.relay.deliver, limit=5)
    house.outbox.close()
    assert len(copied) == 1
    restored = House(copied[0])
    assert restored.outbox.set_aside is None
    assert restored.rows("PRAGMA integrity_check") == [("ok",)]
    restored.bridge.recover()
    assert restored.rows("SELECT COUNT(*) FROM alert") == [(12,)]
    assert restored.bridge.carry(restored.relay.deliver, limit=20) == 9
    restored.outbox.close()


def test_what_is_remembered_of_failures_is_bounded_as_well(tmp_path: Path) -> None:
    house = House(tmp_path / "outbox.db")
    house.outbox._keep = Keep(age_s=1000, alerts=3)
    put_off: list[RecipientState] = ["deferred"] * 8
    house.relay.plan[ALICE] = [*put_off, "refused"]
    for n in range(8):
        house.accept({"id": f"{n}", "message": "x" * 5000}, packet_id=n + 1)
    house.accept({"to": 5}, packet_id=9)
    while (due_in := house.bridge.next_due_in()) is not None:
        house.clock.forward(due_in + 1)
        house.carry()
    house.publish()
    assert house.outbox.prune(now=house.clock.now) == 6
    for table, left in {"alert": 3, "letter": 3, "content": 3, "recipient": 3, "attempt": 6, "outcome": 3}.items():
        assert house.rows(f"SELECT COUNT(*) FROM {table}") == [(left,)], table
    assert house.outbox.prune(now=house.clock.now + 1001) == 3
    assert house.rows("SELECT COUNT(*) FROM content") == [(0,)]
    house.outbox.close()
