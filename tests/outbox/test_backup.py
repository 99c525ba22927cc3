"""A copy of an outbox that is in use is an outbox."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from plugin.outbox import Outbox
from tests.bridge.house import House


def vacuum(source: Path, copy: Path) -> None:
    db = sqlite3.connect(source)
    db.execute("VACUUM INTO ?", (str(copy),))
    db.close()


def backup(source: Path, copy: Path) -> None:
    db, into = sqlite3.connect(source), sqlite3.connect(copy)
    db.backup(into)
    db.close()
    into.close()


def snapshot(source: Path, copy: Path) -> None:
    for end in ("", "-wal"):
        shutil.copy(source.with_name(source.name + end), copy.with_name(copy.name + end))


@pytest.mark.parametrize("way", [vacuum, backup, snapshot])
def test_a_copy_has_all_that_was_acknowledged(tmp_path: Path, way: Callable[[Path, Path], None]) -> None:
    house = House(tmp_path / "outbox.db")
    house.bridge.accept([house.message({"id": str(n)}, packet_id=n + 1) for n in range(20)])
    house.outbox.claim(now=house.clock.now, limit=3)
    way(tmp_path / "outbox.db", tmp_path / "copy.db")
    house.outbox.close()
    with Outbox(tmp_path / "copy.db") as copy:
        assert copy.set_aside is None
        assert [one.alerts[0].id for one in copy.claim(now=4e9, limit=100)] == [str(n) for n in range(20)]
