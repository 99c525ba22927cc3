"""Nothing is lost: ``hardwire run`` on the emulated chip while everything around it, and it too, is taken away.

Broker and mail server are real. What is counted is at the ends: PUBACKs and outcomes at the publisher's side,
accepted mails by alert at the mail server's. ``--reliability-alerts`` and ``--reliability-seeds`` make it longer.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from plugin.bridge.carrying import AHEAD
from plugin.outbox import Outbox
from plugin.w5100.sending import SEND_OK_S
from tests.brokers import SMALL_DISK
from tests.journey.house import Process
from tests.reliability.conftest import House
from tests.reliability.house import (
    Mail,
    assert_nothing_lost,
    begin_session,
    configured,
    duplicates,
    memory_bytes,
    put_back,
    until,
)

KILLS: Final = 5
RESTARTS: Final = 3
AWAY_S: Final = 20
TROUBLE_S: Final = 15
ALL_S: Final = 75.0  # for all mails, from the last alert or from the end of the trouble on
BACK_S: Final = 10.0  # the bar: everything is there so soon after the end of the trouble
LANES: Final = 2  # the default
WINDOW: Final = 24  # letters that a lane has on the way at most
MEMORY_BYTES: Final = 96 * 1024 * 1024
FLOOD: Final = 20_000
PENDING: Final = 2_000_000_000.0 * 2  # a time at which everything is due

pytestmark = pytest.mark.timeout(300)


def wait_mails(house: House, count: int, timeout_s: float = ALL_S) -> None:
    """Wait until there is a mail of so many alerts."""
    until(
        lambda: house.sink.alerts() >= count, lambda: f"mails of {count} alerts, {house.sink.alerts()}", timeout_s
    )


def wait_more_mails(house: House, more: int, process: Process) -> None:
    """Wait for so many mails beyond those of now."""
    before = house.sink.arrived()
    until(
        lambda: house.sink.arrived() >= before + more or not process.running,
        lambda: f"{more} mails more than {before}, {house.sink.arrived()}",
        ALL_S,
    )
    assert process.running, process.said()


def the_end(house: House, process: Process, names: list[str], *, timeout_s: float = ALL_S) -> list[Mail]:
    """Wait for everything, end the bridge, and return the mails: nothing is lost."""
    outcomes = house.household.wait_outcomes(names, timeout_s)
    assert process.terminate() == 0
    mails = house.sink.mails()
    assert_nothing_lost(mails, outcomes, names)
    return mails


def test_killed_five_times(house: House, names: list[str], tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    config = configured(tmp_path, house.broker, house.sink)
    begin_session(config)
    share = len(names) // KILLS
    on_the_wire = []
    for kill in range(KILLS):
        with Process(config) as process:
            process.wait_connected()
            on_the_wire.append(put_back(process))
            house.household.publish(names[kill * share : None if kill == KILLS - 1 else (kill + 1) * share])
            wait_more_mails(house, draw.randint(0, share), process)
            time.sleep(draw.random() * 0.02)
            process.kill()
    house.household.wait_acknowledged()
    with Process(config) as process:
        process.wait_connected()
        on_the_wire.append(put_back(process))
        mails = the_end(house, process, names)
    assert sum(duplicates(mails).values()) <= sum(on_the_wire)
    assert max(on_the_wire) <= LANES * WINDOW + AHEAD


def within(mails: list[Mail], back_at: float) -> float:
    """Return how long after ``back_at`` the last mail came."""
    return max(one.at for one in mails) - back_at


def test_the_mail_server_is_gone_for_20_s(house: House, names: list[str], tmp_path: Path) -> None:
    with Process(configured(tmp_path, house.broker, house.sink)) as process:
        process.wait_connected()
        house.household.publish(names)
        wait_mails(house, len(names) // 5)
        house.sink.go_away()
        time.sleep(AWAY_S)
        back_at = house.sink.come_back()
        mails = the_end(house, process, names)
    assert (
        sum(duplicates(mails).values()) <= LANES * WINDOW
    )  # what was cut off after its 250 and before it was read
    assert within(mails, back_at) <= BACK_S


def test_the_mail_server_says_451_for_15_s(house: House, names: list[str], tmp_path: Path) -> None:
    house.sink.be(trouble="451")
    with Process(configured(tmp_path, house.broker, house.sink)) as process:
        process.wait_connected()
        house.household.publish(names)
        time.sleep(TROUBLE_S)
        house.sink.be()
        back_at = time.monotonic()
        mails = the_end(house, process, names)
    assert not duplicates(mails)
    assert within(mails, back_at) <= BACK_S


def test_every_second_connection_is_turned_away(house: House, names: list[str], tmp_path: Path) -> None:
    """For 15 s; and a connection takes 20 mails meanwhile, or nearly all would go by the first."""
    house.sink.be(trouble="421", mails_a_connection=20)
    with Process(configured(tmp_path, house.broker, house.sink)) as process:
        process.wait_connected()
        house.household.publish(names)
        time.sleep(TROUBLE_S)
        turned_away = house.sink.connections() // 2
        house.sink.be()
        back_at = time.monotonic()
        mails = the_end(house, process, names)
    assert turned_away
    assert not duplicates(mails)
    assert within(mails, back_at) <= BACK_S


def test_the_mail_server_is_slow(house: House, names: list[str], tmp_path: Path) -> None:
    house.sink.be(delay_s=0.2)
    with Process(configured(tmp_path, house.broker, house.sink)) as process:
        process.wait_connected()
        house.household.publish(names)
        mails = the_end(house, process, names)
    assert not duplicates(mails)


def test_the_broker_is_restarted_three_times(house: House, names: list[str], tmp_path: Path) -> None:
    share = len(names) // (RESTARTS + 1)
    with Process(configured(tmp_path, house.broker, house.sink)) as process:
        for restart in range(RESTARTS):
            process.wait_connected(times=restart + 1)
            house.household.publish(names[restart * share : (restart + 1) * share])
            wait_more_mails(house, share // 2, process)
            house.broker.stop()
            time.sleep(0.5)
            house.broker.start()
        process.wait_connected(times=RESTARTS + 1)
        house.household.publish(names[RESTARTS * share :])
        house.household.wait_acknowledged()
        mails = the_end(house, process, names)
    assert not duplicates(mails)


def test_stopped_while_alerts_are_published(house: House, names: list[str], tmp_path: Path) -> None:
    config = configured(tmp_path, house.broker, house.sink)
    begin_session(config)
    house.household.publish(names)
    house.household.wait_acknowledged()
    assert house.sink.arrived() == 0
    with Process(config) as process:
        mails = the_end(house, process, names)
    assert not duplicates(mails)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB in memory."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    required = SMALL_DISK in os.environ.get("HARDWIRE_REQUIRE", "").replace(" ", "").split(",")
    if not mounted and required:
        pytest.fail(f"HARDWIRE_REQUIRE: {SMALL_DISK}: a tmpfs cannot be mounted here, which takes root")
    if not mounted:
        pytest.skip("a small disk is a tmpfs, and only root may mount one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all the room that is left, and return the file that has it."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


def test_the_disk_is_full_in_the_middle(house: House, names: list[str], tmp_path: Path, small_disk: Path) -> None:
    half = len(names) // 2
    with Process(configured(tmp_path, house.broker, house.sink, outbox=small_disk / "outbox.db")) as process:
        process.wait_connected()
        house.household.publish(names[:half])
        wait_mails(house, half // 5)
        ballast = fill(small_disk)
        house.household.publish(names[half:])
        until(lambda: "event=outbox_problem" in process.said(), "a full disk", ALL_S)
        house.household.wait_acknowledged()  # by the broker, which keeps them
        time.sleep(2)
        assert process.running
        ballast.unlink()
        mails = the_end(house, process, names)
    assert len(duplicates(mails)) <= LANES * WINDOW
    assert "has no room left on its disk" in process.said()


def test_faults_on_the_spi_bus_with_all_of_it(house: House, names: list[str], tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    config = configured(tmp_path, house.broker, house.sink, seed=seed)
    share = len(names) // 5
    with Process(config) as process:
        process.wait_connected()
        house.household.publish(names[:share])
        wait_more_mails(house, draw.randint(1, share // 2), process)
        process.kill()
        faults = process.said().count("event=chip_fault")
    house.household.publish(names[share : 2 * share])
    with Process(config) as process:
        process.wait_connected()
        wait_more_mails(house, draw.randint(1, share // 2), process)
        house.broker.stop()
        house.household.publish(names[2 * share : 3 * share])
        time.sleep(draw.random())
        house.broker.start()
        process.wait_connected(times=2)
        house.sink.be(trouble="451")
        house.household.publish(names[3 * share : 4 * share])
        time.sleep(draw.random())
        house.sink.be(trouble="421", mails_a_connection=20)
        house.household.publish(names[4 * share :])
        time.sleep(2 * draw.random())
        house.sink.be()
        the_end(house, process, names, timeout_s=ALL_S + SEND_OK_S)
        faults += process.said().count("event=chip_fault")
        assert faults > 0, "the bus has hardly failed"


def test_a_flood(house: House, pytestconfig: pytest.Config, tmp_path: Path) -> None:
    """At full speed, as fast as one publisher is: accepted are all, mailed or in the outbox when it is stopped."""
    names = [f"flood {n}" for n in range(FLOOD)]
    config = configured(tmp_path, house.broker, house.sink)
    with Process(config) as process:
        process.wait_connected()
        begun = time.monotonic()
        house.household.publish(names)
        house.household.wait_acknowledged()
        published_s = time.monotonic() - begun
        log = process.log

        def accepted() -> int:
            return log.read_bytes().count(b"event=accepted")

        until(lambda: accepted() >= FLOOD, lambda: f"{accepted()} of {FLOOD} accepted", ALL_S)
        accepted_s = time.monotonic() - begun
        resident_bytes = memory_bytes(process)
        assert process.terminate() == 0
    mailed = {one.alert for one in house.sink.mails()}
    with Outbox(tmp_path / "outbox.db") as outbox:
        waiting = {one.alerts[0].id for one in outbox.claim(now=PENDING, limit=FLOOD)}
    assert mailed | waiting == set(names)
    assert resident_bytes <= MEMORY_BYTES
    rates = f"published {FLOOD / published_s:.0f}/s, accepted {FLOOD / accepted_s:.0f}/s"
    print(f"{rates}, {resident_bytes / 1e6:.1f} MB")
