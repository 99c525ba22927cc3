"""Die, or fail, at the nth statement, for every n: nothing acknowledged is lost, nothing is doubled unmarked."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from plugin.alert import Letter, Message, Properties
from plugin.outbox import OutboxError, Publication
from tests.bridge.house import ALICE, BOB, Clock, House


class PowerCut(BaseException):
    """Not an Exception: nothing may catch it and go on."""


class Steps:
    """Counts statements and mails; ``at`` is called before each with its number."""

    def __init__(self, at: Callable[[int, str], None] = lambda number, what: None) -> None:
        self.number = 0
        self.at = at

    def __call__(self, what: str) -> None:
        self.number += 1
        self.at(self.number, what)


def connection(steps: Steps) -> type[sqlite3.Connection]:
    class Watched(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            steps(sql)
            if (
                sql == "PRAGMA synchronous = FULL"
            ):  # copies of the files do not depend on it; it costs half a minute
                sql = "PRAGMA synchronous = OFF"
            return super().execute(sql, parameters)

        def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
            steps(sql)
            return super().executemany(sql, parameters)

        def executescript(self, script: str, /) -> sqlite3.Cursor:
            steps(script)
            return super().executescript(script)

    return Watched


class World:
    """What outlives the process: the broker, the relay, and the time."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        response = Properties(response_topic="answers/b", correlation_data=b"b")
        given: list[tuple[Any, str, Properties]] = [
            ("no id", "water_leak", Properties()),
            ({"id": "a"}, "both", Properties()),
            ({"id": "b"}, "water_leak", response),
            ({"id": "malformed", "to": 5}, "water_leak", Properties()),
        ]
        self.unacknowledged = [
            Message(
                topic=f"alerts/email/{name}",
                payload=payload.encode() if isinstance(payload, str) else json.dumps(payload).encode(),
                qos=1,
                retain=False,
                dup=False,
                packet_id=number,
                connection=1,
                properties=properties,
                received_at=clock.datetime,
            )
            for number, (payload, name, properties) in enumerate(given, start=1)
        ]
        self.letters: list[Letter] = []
        self.told: list[Publication] = []

    def reconnect(self) -> list[Message]:
        """Return what the broker sends again: all that was not acknowledged, marked with DUP."""
        again = [
            Message(
                **{name: getattr(one, name) for name in one.__slots__}
                | {"dup": True, "connection": one.connection + 1}
            )
            for one in self.unacknowledged
        ]
        self.unacknowledged = again
        return again

    def acknowledge(self, messages: list[Message]) -> None:
        done = {one.packet_id for one in messages}
        self.unacknowledged = [one for one in self.unacknowledged if one.packet_id not in done]


def build(path: Path, world: World, steps: Steps) -> House:
    house = House(path, clock=world.clock, factory=connection(steps))
    house.relay.letters = world.letters
    house.relay.around = steps
    house.relay.plan = {BOB: ["deferred", "refused"], ALICE: ["deferred", "accepted"]}
    return house


def live(house: House, world: World, messages: list[Message]) -> None:
    """Go through a whole life, in two batches, as the service does."""
    for batch in (messages[:2], messages[2:]):
        if batch:
            world.acknowledge(house.bridge.accept(batch))
            step(house, world)
    while (due_in := house.bridge.next_due_in()) is not None:
        world.clock.forward(due_in)
        step(house, world)
    step(house, world)


def step(house: House, world: World) -> None:
    house.bridge.carry(house.relay.deliver, limit=3)  # several, so that letters are sealed ahead
    publications = house.bridge.outgoing(100)
    world.told += publications
    house.bridge.published([one.id for one in publications])


def whole_life(path: Path) -> int:
    """Return how many steps a life without trouble has."""
    world, steps = World(Clock()), Steps()
    house = build(path, world, steps)
    house.bridge.recover()
    live(house, world, world.unacknowledged)
    number = steps.number
    check(house, world)
    house.outbox.close()
    return number


def check(house: House, world: World) -> None:
    """Assert what has to hold at the end, whatever happened in between."""
    assert world.unacknowledged == []
    finals = house.rows(
        "SELECT alert.id, COUNT(*), MAX(outcome.payload) FROM alert LEFT JOIN outcome "
        "ON outcome.alert = alert.number AND event_type <> 'deferred' GROUP BY alert.number"
    )
    outcomes = {alert_id: json.loads(payload) for alert_id, _, payload in finals}
    assert len(finals) == 4, "an alert was lost or doubled"
    assert {count for _, count, _ in finals} == {1}
    assert {"a", "b", "malformed"} < set(outcomes)
    # Each letter was sent twice (deferred, then taken), and more often only where that is said.
    sent = Counter(letter.alert_ids[0] for letter in world.letters)
    for alert_id, outcome in outcomes.items():
        if alert_id == "malformed":
            assert sent[alert_id] == 0
            assert outcome["event_type"] == "failure"
            continue
        # The plan of the relay is drawn anew with each process; so are the chances of who is put off.
        assert sent[alert_id] >= outcome["attempts"]
        if sent[alert_id] > outcome["attempts"]:
            assert outcome["possible_duplicate"], f"{alert_id} was sent {sent[alert_id]} times, unmarked"
        assert {one["state"] for one in outcome["recipients"]} <= {"accepted", "refused"}
    told = {(one.topic, one.payload) for one in world.told}
    stored = house.rows("SELECT alert.name, event_type, payload FROM outcome JOIN alert ON alert = alert.number")
    for name, event_type, payload in stored:
        assert (f"alerts/{event_type}/{name}", payload) in told
        assert ("alerts/bridge/outcome", payload) in told
    assert ("answers/b", b"b") in {(one.topic, one.correlation) for one in world.told}
    octets = {(letter.alert_ids, letter.content, letter.message_id) for letter in world.letters}
    assert len(octets) == 3, "an alert was sealed twice, and both went out"
    assert house.bridge.health().waiting == house.bridge.health().unpublished == 0


def test_die_at_every_step(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    steps = whole_life(tmp_path / "whole" / "outbox.db")
    assert steps > 100
    for nth in range(1, steps + 1):
        folder, copy = tmp_path / f"{nth}", tmp_path / f"{nth}-after"
        folder.mkdir()
        world = World(Clock())

        def cut(number: int, what: str, nth: int = nth, folder: Path = folder, copy: Path = copy) -> None:
            if number == nth:  # the files as the power cut leaves them: nothing is closed, nothing rolled back
                shutil.copytree(folder, copy)
                raise PowerCut(what)

        house: House | None = None
        try:
            house = build(folder / "outbox.db", world, Steps(cut))
            house.bridge.recover()
            live(house, world, world.unacknowledged)
        except PowerCut:
            assert copy.exists()
        else:
            pytest.fail(f"step {nth} was never reached")
        finally:
            if house is not None:
                house.outbox.close()
        reborn = build(copy / "outbox.db", world, Steps())
        reborn.bridge.recover()
        live(reborn, world, world.reconnect())
        check(reborn, world)
        reborn.outbox.close()
        shutil.rmtree(folder)
        shutil.rmtree(copy)


@pytest.mark.parametrize("failures", [1, 3], ids=["one statement", "three in a row, so that roll-backs fail too"])
def test_fail_at_every_step_and_go_on(tmp_path: Path, failures: int) -> None:
    (tmp_path / "whole").mkdir()
    opening = Steps()
    build(tmp_path / "whole" / "opened.db", World(Clock()), opening).outbox.close()
    steps = whole_life(tmp_path / "whole" / "outbox.db")
    for nth in range(opening.number + 1, steps + 1):
        folder = tmp_path / f"{nth}"
        folder.mkdir()
        world = World(Clock())

        def fail(number: int, what: str, nth: int = nth) -> None:
            if nth <= number < nth + failures and " the mail" not in what:
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error

        house = build(folder / "outbox.db", world, Steps(fail))
        recovered = False
        for _ in range(2 * failures + 2):  # the service tries again; nothing new is handed over by the broker
            try:
                recovered = recovered or house.bridge.recover() == 0
                live(house, world, world.unacknowledged)
            except OutboxError:
                continue
            break
        check(house, world)
        # Nobody died, so nothing may have been sent in doubt, and no outcome told twice.
        assert not house.rows("SELECT 1 FROM letter WHERE possible_duplicate")
        assert len({one.id for one in world.told}) == len(world.told)
        house.outbox.close()
        shutil.rmtree(folder)


def test_every_commit_is_a_place_to_die(tmp_path: Path) -> None:
    """The files as of each commit, which is each fsync: they open, and miss nothing acknowledged till then."""
    folder = tmp_path / "life"
    folder.mkdir()
    world = World(Clock())
    everything = {(one.topic, one.payload) for one in world.unacknowledged}
    copies: list[tuple[Path, set[tuple[str, bytes]]]] = []

    def copy_before_the_next(number: int, what: str) -> None:
        # What follows a COMMIT sees the files as it has left them.
        if what.startswith("BEGIN"):
            copies.append((tmp_path / f"{number}", set()))
            shutil.copytree(folder, copies[-1][0])
            left = {(one.topic, one.payload) for one in world.unacknowledged}
            copies[-1][1].update(everything - left)

    house = build(folder / "outbox.db", world, Steps(copy_before_the_next))
    house.bridge.recover()
    live(house, world, world.unacknowledged)
    house.outbox.close()
    assert len(copies) > 15
    assert copies[-1][1] == everything
    for copy, acknowledged in copies:
        reborn = House(copy / "outbox.db", clock=Clock())
        assert reborn.outbox.set_aside is None
        assert reborn.rows("PRAGMA integrity_check") == [("ok",)]
        assert reborn.rows("PRAGMA foreign_key_check") == []
        assert reborn.rows("SELECT COUNT(*) FROM alert")[0][0] >= len(acknowledged)
        reborn.bridge.recover()
        assert (
            reborn.bridge.health().waiting
            == reborn.rows("SELECT COUNT(DISTINCT letter) FROM alert WHERE settled_at IS NULL")[0][0]
        )
        reborn.outbox.close()
