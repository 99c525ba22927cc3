"""A disk that is full or cannot be written: nothing acknowledged is lost, and the work goes on afterwards."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugin.outbox import OutboxFull, OutboxReadOnly
from tests.bridge.house import ALICE, House
from tests.brokers import SMALL_DISK

TEXT = "x" * 3000


def pages(house: House, limit: int) -> None:
    with house.outbox._database.reading() as db:
        db.execute(f"PRAGMA max_page_count = {limit}")


def fill(house: House) -> list[str]:
    """Accept alerts until one finds no room; return the ids of those that may be acknowledged."""
    safe: list[str] = []

    def accept(count: int) -> None:
        for n in range(count):
            house.accept({"id": f"{n}", "message": TEXT}, packet_id=n + 1)
            safe.append(f"{n}")

    with pytest.raises(OutboxFull, match=f"{house.path} has no room left on its disk .*: make room there"):
        accept(2000)
    assert safe
    return safe


def finish(house: House, safe: list[str]) -> None:
    """Send all that was accepted; each once, and none in doubt."""
    refused = house.message({"id": "refused", "message": TEXT}, packet_id=2001)
    assert house.bridge.accept([refused]) == [refused]
    for _ in range(2 * len(safe)):
        if not house.bridge.carry(house.relay.deliver, limit=9):
            break
    assert sorted(one.alert_ids[0] for one in house.relay.letters) == sorted([*safe, "refused"])
    outcomes = house.outcomes()
    assert {(one["event_type"], one["possible_duplicate"]) for one in outcomes} == {("success", False)}
    assert len(outcomes) == len(safe) + 1
    assert house.rows("PRAGMA integrity_check") == [("ok",)]


def test_no_page_is_left(tmp_path: Path) -> None:
    house = House(tmp_path / "outbox.db")
    pages(house, house.rows("PRAGMA page_count")[0][0] + 60)
    safe = fill(house)
    assert house.bridge.health().waiting == len(safe)
    house.relay.plan[ALICE] = ["refused"]  # a failure keeps what was sealed, so it gives no room back
    with pytest.raises(OutboxFull):
        house.bridge.carry(house.relay.deliver, limit=len(safe))
    house.relay.plan = {}
    sent = len(house.relay.letters)
    pages(house, 1_000_000)
    house.relay.letters.clear()
    for _ in range(2 * len(safe)):
        if not house.bridge.carry(house.relay.deliver, limit=9):
            break
    assert len(house.relay.letters) == len(safe) - sent
    assert house.bridge.health().waiting == 0
    house.outbox.close()


def test_what_is_on_the_wire_when_the_disk_fills_is_settled_later(tmp_path: Path) -> None:
    house = House(tmp_path / "outbox.db")
    for n in range(9):
        house.accept({"id": f"{n}"}, packet_id=n + 1)

    def fill_up(step: str) -> None:
        if step == "after the mail" and len(house.relay.letters) == 2:
            pages(house, 1)  # SQLite takes the present size where less is asked for

    house.relay.around = fill_up
    with house.outbox._database.reading() as db:
        # No page may be free, or the transactions would find room in them.
        db.executescript("PRAGMA incremental_vacuum;")
    with pytest.raises(OutboxFull):
        house.bridge.carry(house.relay.deliver, limit=9)
    house.relay.around = lambda step: None
    pages(house, 1_000_000)
    while house.bridge.carry(house.relay.deliver, limit=9):
        pass
    assert sorted(one.alert_ids[0] for one in house.relay.letters) == [f"{n}" for n in range(9)]
    assert {one["possible_duplicate"] for one in house.outcomes()} == {False}
    house.outbox.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=800k", "none", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    if not mounted:
        if SMALL_DISK in os.environ.get("HARDWIRE_REQUIRE", "").replace(" ", "").split(","):
            pytest.fail(f"HARDWIRE_REQUIRE: {SMALL_DISK}: a tmpfs cannot be mounted here, which takes root")
        pytest.skip("a small disk is a tmpfs, and only root may mount one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_real_disk_is_full_and_has_room_again(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(300_000))
    house = House(small_disk / "outbox.db")
    safe = fill(house)
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    finish(house, safe)
    house.outbox.close()


def test_a_real_disk_is_read_only_for_a_while(small_disk: Path) -> None:
    house = House(small_disk / "outbox.db")
    house.accept({"id": "before"})
    house.bridge.published([])
    house.outbox.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OutboxReadOnly, match="give this user the right to write"):
        House(small_disk / "outbox.db")
    subprocess.run(["mount", "-o", "remount,rw,size=20m", str(small_disk)], check=True)
    house = House(small_disk / "outbox.db")
    finish(house, ["before"])
    house.outbox.close()


def test_a_connection_that_may_not_write(tmp_path: Path) -> None:
    house = House(tmp_path / "outbox.db")
    house.accept({"id": "before"})
    with house.outbox._database.reading() as db:
        db.execute("PRAGMA query_only = ON")
    with pytest.raises(OutboxReadOnly):
        house.accept({"id": "refused"}, packet_id=2)
    with pytest.raises(OutboxReadOnly):
        house.carry()
    assert house.bridge.health().waiting == 1
    with house.outbox._database.reading() as db:
        db.execute("PRAGMA query_only = OFF")
    finish(house, ["before"])
    house.outbox.close()
