"""A damaged file is set aside, and what can be read of its waiting letters goes on in a new one."""

from __future__ import annotations

import logging
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from plugin.outbox import Outbox
from plugin.outbox.integrity import check
from tests.bridge.house import House

LETTERS = 60


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An outbox in which letters wait, closed: one file."""
    house = House(tmp_path / "outbox.db")
    house.bridge.accept(
        [house.message({"id": str(n), "message": "x" * 300}, packet_id=n + 1) for n in range(LETTERS)]
    )
    house.outbox.close()
    with sqlite3.connect(tmp_path / "outbox.db") as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return tmp_path / "outbox.db"


def overwritten(octets: bytes, start: int, size: int, value: bytes | None = None) -> bytes:
    rubbish = random.Random(start).randbytes(size) if value is None else value * size
    return (octets[:start] + rubbish + octets[start + size :])[: len(octets)]


def waiting(outbox: Outbox) -> list[str]:
    claims = outbox.claim(now=4e9, limit=1000)
    assert all(one.possible_duplicate for one in claims)
    return [one.alerts[0].id for one in claims]


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], int]] = {
    "the second half is missing": (lambda octets: octets[: len(octets) // 2 // 4096 * 4096], 0),
    "the first page is rubbish": (lambda octets: overwritten(octets, 0, 4096), 0),
    "the first page is zeros": (lambda octets: overwritten(octets, 0, 4096, b"\0"), 0),
    "all is rubbish": (lambda octets: overwritten(octets, 0, len(octets)), 0),
    "the last page is rubbish": (lambda octets: overwritten(octets, len(octets) - 4096, 4096), LETTERS // 2),
}


@pytest.mark.parametrize(("damage", "at_least"), DAMAGES.values(), ids=DAMAGES.keys())
def test_the_service_goes_on_with_a_new_file(
    path: Path, damage: Callable[[bytes], bytes], at_least: int, caplog: pytest.LogCaptureFixture
) -> None:
    broken = damage(path.read_bytes())
    path.write_bytes(broken)
    with caplog.at_level(logging.WARNING, "hardwire.outbox"), Outbox(path) as outbox:
        assert outbox.set_aside is not None
        assert outbox.set_aside.read_bytes() == broken
        assert f"event=outbox_damaged set_aside='{outbox.set_aside}'" in caplog.text
        saved = waiting(outbox)
        assert set(saved) <= {str(n) for n in range(LETTERS)}
        assert len(saved) == len(set(saved))
        assert at_least <= len(saved)
    with Outbox(path) as again:  # which is whole
        assert again.set_aside is None


def test_what_was_set_aside_before_is_not_overwritten(path: Path) -> None:
    kept = []
    for rubbish in (b"\0first", b"\0second"):
        path.write_bytes(rubbish * 2000)
        with Outbox(path) as outbox:
            assert outbox.set_aside is not None
            kept.append(outbox.set_aside)
    assert [one.read_bytes()[1:7] for one in kept] == [b"first\0", b"second"]


def test_a_whole_file_stays_where_it_is(path: Path) -> None:
    with Outbox(path) as outbox:
        assert outbox.set_aside is None
        claims = outbox.claim(now=4e9, limit=1000)
    assert len(claims) == LETTERS
    assert not any(one.possible_duplicate for one in claims)


def test_a_check_that_takes_too_long_is_cut_short_and_says_so(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = iter(range(0, 10**9, 60))
    with sqlite3.connect(path) as db, caplog.at_level(logging.WARNING, "hardwire.outbox"):
        check(db, path, clock=lambda: float(next(now)))
    db.close()
    assert "event=outbox_checked_in_part" in caplog.text
