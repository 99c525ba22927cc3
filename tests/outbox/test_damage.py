"""A damaged file is set aside and named, what can be read of it goes on, and nothing is overwritten."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from plugin.outbox import Outbox, OutboxError, OutboxReadOnly
from plugin.outbox import integrity as integrity_module
from plugin.outbox.salvage import set_aside
from tests.bridge.house import BOB, House

NOW = 1_764_115_200.0  # 2025-11-26T00:00:00Z
PAGE = 4096


def filled(path: Path, count: int = 200) -> None:
    """Make an outbox: half of its letters wait as they came, half are sealed and due to one of two recipients."""
    house = House(path)
    messages = [house.message({"id": f"{n}", "message": "x" * 900}, "both", packet_id=n + 1) for n in range(count)]
    house.bridge.accept(messages)
    house.relay.plan[BOB] = ["deferred"]
    house.bridge.carry(house.relay.deliver, limit=count // 2)
    house.outbox.close()


def root_page(path: Path, name: str) -> int:
    db = sqlite3.connect(path)
    page = int(db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0])
    db.close()
    return page


def overwrite(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(b"\xde\xad\xbe\xef" * (PAGE // 4))


def rubbish(path: Path) -> None:
    path.write_bytes(b"\xde\xad\0\xef" * 1500)


def first_page(path: Path) -> None:
    filled(path)
    with path.open("r+b") as file:
        file.write(bytes(PAGE))


def truncated(path: Path) -> None:
    filled(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 3 // PAGE * PAGE)


def index_of_due(path: Path) -> None:
    filled(path)
    overwrite(path, root_page(path, "letter_due"))


def attempts(path: Path) -> None:
    filled(path)
    overwrite(path, root_page(path, "attempt"))


def letters(path: Path) -> None:
    filled(path)
    overwrite(path, root_page(path, "letter"))


def asides(path: Path) -> list[Path]:
    return sorted(path.parent.glob("outbox.db.damaged-*Z"))


@pytest.mark.parametrize(
    ("damage", "salvaged"),
    [(rubbish, 0), (first_page, 0), (truncated, None), (index_of_due, 200), (attempts, 200), (letters, 0)],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_a_damaged_file_is_set_aside_and_the_work_goes_on(
    tmp_path: Path,
    damage: Callable[[Path], None],
    salvaged: int | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "outbox.db"
    damage(path)
    before = path.read_bytes()
    with caplog.at_level(logging.WARNING, "hardwire.outbox"):
        house = House(path)
    (aside,) = asides(path)
    assert house.outbox.set_aside == aside
    assert aside.name in (house.outbox.set_aside_problem or "")
    assert aside.read_bytes() == before
    (line,) = (one for one in caplog.records if one.levelno == logging.ERROR)
    assert "event=outbox_damaged" in line.getMessage()
    assert aside.name in line.getMessage()
    waiting = house.bridge.health().waiting
    assert salvaged in (None, waiting)
    assert house.rows("PRAGMA integrity_check") == [("ok",)]
    house.bridge.recover()
    while house.bridge.next_due_in() is not None:  # what was taken over can be sent, each to whom it was due to
        house.clock.forward(house.bridge.next_due_in() or 0)
        house.bridge.carry(house.relay.deliver, limit=50)
    assert len(house.relay.letters) == waiting
    assert len({one.alert_ids for one in house.relay.letters}) == waiting
    outcomes = house.outcomes()
    assert {one["possible_duplicate"] for one in outcomes} <= {True}
    house.accept({"id": "new"}, packet_id=999)
    house.outbox.close()
    again = Outbox(path)
    assert (again.set_aside, again.set_aside_problem, again.depth().waiting) == (None, None, 1)
    again.close()


def test_a_sealed_letter_is_salvaged_with_its_octets_and_fates(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    filled(path, 4)
    overwrite(path, root_page(path, "attempt"))
    house = House(path)
    sealed = [one for one in house.outbox.claim(now=4e9, limit=9) if one.sealed]
    assert [one.sealed.message_id for one in sealed if one.sealed] == [
        "<0.firing.1@example.net>",
        "<1.firing.2@example.net>",
    ]
    assert {one.sealed.recipients for one in sealed if one.sealed} == {(BOB,)}
    house.outbox.close()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    names = []
    for n in range(3):
        path.write_bytes(b"%d" % n)
        path.with_name("outbox.db-wal").write_bytes(b"log %d" % n)
        names.append(set_aside(path, now=NOW))
    stem = "outbox.db.damaged-20251126T000000Z"
    assert [one.name for one in names] == [stem, f"{stem}-2", f"{stem}-3"]
    assert [one.read_bytes() for one in names] == [b"0", b"1", b"2"]
    assert [one.with_name(f"{one.name}-wal").read_bytes() for one in names] == [b"log 0", b"log 1", b"log 2"]
    assert not path.exists()


def test_a_file_that_cannot_be_set_aside_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "outbox.db"
    rubbish(path)

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied", str(target))

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OutboxReadOnly):
        Outbox(path)
    assert path.read_bytes() == b"\xde\xad\0\xef" * 1500


class TestTheLookIsBounded:
    def test_a_large_file_is_looked_at_in_part_and_that_is_said(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "outbox.db"
        filled(path, 4)
        monkeypatch.setattr(integrity_module, "CHECK_BYTES", PAGE)
        with caplog.at_level(logging.WARNING, "hardwire.outbox"):
            Outbox(path).close()
        assert "event=outbox_checked_in_part" in caplog.text
        overwrite(path, root_page(path, "recipient"))  # what the queue cannot do without is looked at all the same
        with Outbox(path) as outbox:
            assert outbox.set_aside is not None

    def test_it_ends_at_its_deadline(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "outbox.db"
        filled(path, 20)
        monkeypatch.setattr(integrity_module, "CHECK_S", -1.0)
        with caplog.at_level(logging.WARNING, "hardwire.outbox"), Outbox(path) as outbox:
            assert outbox.depth().waiting == 20
        assert "looked_at='nothing'" in caplog.text


def test_only_damage_sets_a_file_aside(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    filled(path, 4)

    class Sick(sqlite3.Connection):
        def execute(self, sql: str, parameters: object = (), /) -> sqlite3.Cursor:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error

    with pytest.raises(OutboxError, match="disk I/O error"):
        Outbox(path, factory=Sick)
    assert asides(path) == []
