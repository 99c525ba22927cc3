from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plugin.alert import Attempt, Letter
from plugin.delivery import Schedule
from plugin.outbox import OutboxUnavailable
from tests.bridge.house import ALICE, BOB, CAROL, House, topics


def states(outcome: dict[str, Any]) -> list[str]:
    return [one["state"] for one in outcome["recipients"]]


def test_success(house: House) -> None:
    house.accept({"id": "x", "title": "Water"}, "cellar/water")
    house.clock.forward(1.5)
    assert house.carry() == 1
    (publication, copy) = house.publish()
    assert (publication.topic, copy.topic) == ("alerts/success/cellar/water", "alerts/bridge/outcome")
    house.accept({"id": "x"}, packet_id=2)
    (outcome,) = house.outcomes()
    assert outcome == {
        "id": "x",
        "event_type": "success",
        "topic": "alerts/email/cellar/water",
        "route": "#",
        "subject": "Water",
        "message_id": "<x.firing.1@example.net>",
        "reason": None,
        "recipients": [
            {
                "address": ALICE,
                "state": "accepted",
                "phase": "content",
                "code": 250,
                "enhanced": None,
                "text": "Ok",
            }
        ],
        "relay": "smtp.example.net:25",
        "greeting": "EHLO",
        "tls": None,
        "authenticated": False,
        "attempts": 1,
        "next_attempt_at": None,
        "possible_duplicate": False,
        "received_at": "2026-11-23T10:00:00.000Z",
        "settled_at": "2026-11-23T10:00:01.500Z",
        "duration_s": 1.5,
    }
    assert house.carry() == 0
    assert house.rows("SELECT COUNT(*) FROM content") == [(0,)]
    assert house.rows("SELECT COUNT(*) FROM message") == [(0,)]
    (attempt,) = house.rows("SELECT details FROM attempt")
    assert "C: EHLO house" in attempt[0]


def test_a_deferred_letter_is_sent_again_with_the_same_octets(house: House) -> None:
    house.relay.plan[ALICE] = ["deferred", "deferred", "accepted"]
    house.accept({"id": "x"})
    seen = []
    for wait_s in (10, 20):
        assert house.carry() == 1
        assert house.carry() == 0
        assert house.bridge.next_due_in() == wait_s
        (outcome,) = house.outcomes()
        seen.append(outcome)
        house.clock.forward(wait_s - 0.001)
        assert house.carry() == 0
        house.clock.forward(0.001)
    assert house.carry() == 1
    (final,) = house.outcomes()
    assert [one["event_type"] for one in [*seen, final]] == ["deferred", "deferred", "success"]
    assert [one["attempts"] for one in [*seen, final]] == [1, 2, 3]
    assert [one["next_attempt_at"] for one in seen] == ["2026-11-23T10:00:10.000Z", "2026-11-23T10:00:30.000Z"]
    assert seen[0]["reason"] == f"{ALICE} put off (rcpt: 451 Greylisted)"
    assert seen[0]["settled_at"] is None
    assert final["next_attempt_at"] is None
    assert len({(one.content, one.message_id) for one in house.relay.letters}) == 1
    assert house.composer.sealed == 1
    assert house.bridge.next_due_in() is None


def test_each_recipient_has_its_own_fate(house: House) -> None:
    house.relay.plan = {ALICE: ["accepted"], BOB: ["refused"], CAROL: ["deferred", "accepted"]}
    house.accept(name="three")
    house.carry()
    house.clock.forward(10)
    house.carry()
    first, final = house.outcomes()
    assert [one.recipients for one in house.relay.letters] == [(ALICE, BOB, CAROL), (CAROL,)]
    assert (first["event_type"], states(first)) == ("deferred", ["accepted", "refused", "deferred"])
    assert (final["event_type"], states(final)) == ("failure", ["accepted", "refused", "accepted"])
    assert final["reason"] == f"{BOB} refused (rcpt: 550 No such user)"
    assert final["recipients"][1]["code"] == 550
    assert house.rows("SELECT COUNT(*) FROM content") == [(1,)]  # what failed can be looked at, and sent again


def test_too_old_is_a_failure(tmp_path: Path) -> None:
    house = House(tmp_path / "o.db", schedule=Schedule(first_s=10, factor=2, longest_s=20, max_age_s=25))
    house.relay.plan = {ALICE: ["deferred"], BOB: ["accepted"]}
    house.accept(name="both")
    while (due_in := house.bridge.next_due_in()) is not None:
        house.clock.forward(due_in)
        assert house.carry() == 1
    outcomes = house.outcomes()
    assert [one["event_type"] for one in outcomes] == ["deferred", "deferred", "failure"]
    assert states(outcomes[-1]) == ["expired", "accepted"]
    assert outcomes[-1]["reason"] == f"{ALICE} given up, too old (rcpt: 451 Greylisted)"
    assert outcomes[-1]["recipients"][0]["code"] == 451
    assert house.bridge.health().waiting == 0
    house.outbox.close()


def test_oldest_first(house: House) -> None:
    for n in range(3):
        house.accept({"id": str(n)}, packet_id=n + 1)
        house.clock.forward(1)
    assert house.bridge.carry(house.relay.deliver, limit=2) == 2
    assert house.carry() == 1
    assert [one.alert_ids for one in house.relay.letters] == [("0",), ("1",), ("2",)]


def test_letters_are_claimed_when_they_are_drawn(house: House) -> None:
    """A lane that is slow leaves to the others what it has not begun."""
    for n in range(4):
        house.accept({"id": str(n)}, packet_id=n + 1)
    drawn: list[int] = []

    def two_at_a_time(letters: Iterable[Letter]) -> Iterator[tuple[Letter, Attempt]]:
        source = iter(letters)
        for first in source:
            second = next(source)
            drawn.append(house.bridge.carry(house.relay.deliver, limit=1) if not drawn else 0)
            yield second, house.relay.attempt(second)
            yield first, house.relay.attempt(first)

    assert house.bridge.carry(two_at_a_time, limit=2) == 2
    assert drawn == [1]
    assert [one.alert_ids for one in house.relay.letters] == [("2",), ("1",), ("0",)]
    assert [one["id"] for one in house.outcomes()] == ["2", "1", "0"]
    assert house.carry() == 1


def test_no_letter_is_drawn_any_more_once_it_is_time_to_stop(house: House) -> None:
    for n in range(3):
        house.accept({"id": str(n)}, packet_id=n + 1)
    stopped = house.bridge.carry(house.relay.deliver, limit=9, stop=lambda: len(house.relay.letters) == 2)
    assert stopped == 2
    assert house.bridge.health().waiting == 1


def test_an_exception_amid_the_letters_puts_off_those_on_the_way(house: House) -> None:
    for n in range(3):
        house.accept({"id": str(n)}, packet_id=n + 1)

    def breaks(letters: Iterable[Letter]) -> Iterator[tuple[Letter, Attempt]]:
        first, _second, _third = letters
        yield first, house.relay.attempt(first)
        raise OSError("the chip does not answer")

    assert house.bridge.carry(breaks, limit=3) == 3
    outcomes = house.outcomes()
    assert [(one["event_type"], one["possible_duplicate"]) for one in outcomes] == [
        ("success", False),
        ("deferred", True),
        ("deferred", True),
    ]


def test_an_exception_of_deliver_puts_the_letter_off(house: House) -> None:
    house.accept(name="both")
    house.relay.error = OSError("the chip does not answer")
    assert house.carry() == 1
    (outcome,) = house.outcomes()
    assert (outcome["event_type"], states(outcome)) == ("deferred", ["deferred", "deferred"])
    assert outcome["reason"] == f"{ALICE}, {BOB} put off (connect: OSError: the chip does not answer)"
    assert outcome["possible_duplicate"] is True  # how far it had come is not known
    house.relay.error = None
    house.clock.forward(10)
    assert house.carry() == 1
    (outcome,) = house.outcomes()
    assert (outcome["event_type"], outcome["possible_duplicate"]) == ("success", True)


def test_an_attempt_that_is_none_puts_the_letter_off(house: House) -> None:
    house.accept()
    assert house.bridge.carry(lambda letters: [(one, None) for one in letters]) == 1  # type: ignore[misc]
    (outcome,) = house.outcomes()
    assert outcome["event_type"] == "deferred"
    assert "NoneType" in outcome["reason"]


def test_an_attempt_that_is_silent_about_a_recipient_loses_nobody(house: House) -> None:
    def forgetful(letters: Iterable[Letter]) -> Iterator[tuple[Letter, Attempt]]:
        for letter, attempt in house.relay.deliver(letters):
            yield letter, replace(attempt, recipients=attempt.recipients[:1])

    house.accept(name="both")
    house.bridge.carry(forgetful)
    house.clock.forward(10)
    house.carry()
    assert [one.recipients for one in house.relay.letters] == [(ALICE, BOB), (BOB,)]
    assert [one["event_type"] for one in house.outcomes()] == ["deferred", "success"]


def test_a_letter_that_cannot_be_made_is_put_off_and_made_later(house: House) -> None:
    house.accept()
    house.composer.error = ValueError("the secret text")
    assert house.carry() == 1
    assert house.relay.letters == []
    (outcome,) = house.outcomes()
    assert (outcome["event_type"], outcome["recipients"][0]["phase"]) == ("deferred", "compose")
    assert "ValueError in house.py" in outcome["reason"]
    assert "secret" not in outcome["reason"]
    house.composer.error = None
    house.clock.forward(10)
    assert house.carry() == 1
    assert [one["event_type"] for one in house.outcomes()] == ["success"]


def test_notes_of_the_mail_are_told(house: House) -> None:
    house.composer.notes = ("the template was replaced",)
    house.accept()
    house.carry()
    (outcome,) = house.outcomes()
    assert (outcome["event_type"], outcome["reason"]) == ("success", "the template was replaced")


def test_a_possible_duplicate_stays_one(house: House) -> None:
    house.relay.plan[ALICE] = ["deferred", "accepted"]
    house.relay.possible_duplicate = True
    house.accept()
    house.carry()
    house.relay.possible_duplicate = False
    house.clock.forward(10)
    house.carry()
    assert [one["possible_duplicate"] for one in house.outcomes()] == [True, True]


def test_a_restart_keeps_schedule_octets_and_fates(house: House, tmp_path: Path) -> None:
    house.relay.plan = {ALICE: ["accepted"], BOB: ["deferred"]}
    house.accept(name="both")
    house.carry()
    house.outbox.close()
    again = House(tmp_path / "outbox.db", clock=house.clock)
    assert again.bridge.recover() == 0
    assert again.bridge.next_due_in() == 10
    assert again.carry() == 0
    again.clock.forward(10)
    assert again.carry() == 1
    assert again.relay.letters[0].recipients == (BOB,)
    assert again.relay.letters[0].content == house.relay.letters[0].content
    assert [one["event_type"] for one in again.outcomes()] == ["deferred", "success"]
    again.outbox.close()


def test_what_was_on_the_wire_at_a_crash_is_a_possible_duplicate(house: House, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(step: str) -> None:
        raise Killed

    house.accept({"id": "wire"})
    house.clock.forward(1)
    house.accept({"id": "waits"}, packet_id=2)
    house.relay.around = kill
    with pytest.raises(Killed):
        house.carry()
    house.outbox.close()
    again = House(tmp_path / "outbox.db", clock=house.clock)
    again.clock.forward(100)
    assert again.bridge.recover() == 1
    while again.carry():
        pass
    found = {one["id"]: one["possible_duplicate"] for one in again.outcomes()}
    assert found == {"wire": True, "waits": False}
    # Behind what waited: a letter that kills the process must not keep the others from leaving.
    assert [one.alert_ids for one in again.relay.letters] == [("waits",), ("wire",)]
    again.outbox.close()


def test_what_was_sent_but_could_not_be_stored_is_not_sent_again(house: House) -> None:
    house.accept({"id": "x"})
    house.accept({"id": "y"}, packet_id=2)

    def then_fill_the_disk(letters: Iterable[Letter]) -> Iterator[tuple[Letter, Attempt]]:
        for letter in letters:
            with house.outbox._database.reading() as db:
                db.execute("PRAGMA query_only = ON")
            yield letter, house.relay.attempt(letter)

    with pytest.raises(OutboxUnavailable):
        house.bridge.carry(then_fill_the_disk, limit=2)
    assert house.bridge.next_due_in() == 0
    with pytest.raises(OutboxUnavailable):
        house.carry()
    assert len(house.relay.letters) == 1
    with house.outbox._database.reading() as db:
        db.execute("PRAGMA query_only = OFF")
    house.clock.forward(5)
    assert house.carry() == 1
    assert house.carry() == 0
    assert [one.alert_ids for one in house.relay.letters] == [("x",), ("y",)]
    assert [(one["id"], one["possible_duplicate"]) for one in house.outcomes()] == [("x", False), ("y", False)]


def test_lanes_never_take_the_same_letter(house: House) -> None:
    count = 60
    house.bridge.accept([house.message({"id": str(n)}, packet_id=n + 1) for n in range(count)])
    errors: list[BaseException] = []
    together = threading.Barrier(4)

    def lane() -> None:
        try:
            together.wait(5)
            # As lanes do: what one has sealed ahead another may put back, and that is due then.
            while house.bridge.carry(house.relay.deliver, limit=2) or house.bridge.next_due_in() == 0.0:
                pass
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=lane) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert sorted(one.alert_ids[0] for one in house.relay.letters) == sorted(str(n) for n in range(count))
    assert house.bridge.counters()["success"] == count


def test_a_claimed_letter_is_not_due_for_another_lane(house: House) -> None:
    house.accept()
    looked: list[tuple[int, float | None]] = []
    house.relay.around = lambda step: looked.append(
        (house.bridge.carry(house.relay.deliver), house.bridge.next_due_in())
    )
    assert house.carry() == 1
    assert looked == [(0, None), (0, None)]


def test_health_tells_how_long_the_oldest_waits(house: House) -> None:
    assert (house.bridge.health().waiting, house.bridge.health().oldest_waiting_s) == (0, None)
    house.relay.plan[ALICE] = ["deferred"]
    house.accept({"id": "old"})
    house.clock.forward(7)
    house.accept({"id": "new"}, packet_id=2)
    house.carry()
    health = house.bridge.health()
    assert (health.waiting, health.oldest_waiting_s, health.unpublished) == (2, 7.0, 2)


class TestOutgoing:
    def test_in_order_and_bounded(self, house: House) -> None:
        for n in range(4):
            house.accept({"id": str(n), "to": 5}, f"name{n}", packet_id=n + 1)
        first = house.bridge.outgoing(3)
        assert topics(first) == ["alerts/failure/name0", "alerts/bridge/outcome", "alerts/failure/name1"]
        assert house.bridge.outgoing(3) == []
        house.bridge.published([first[1].id])
        assert topics(house.bridge.outgoing(3)) == ["alerts/bridge/outcome"]
        assert topics(house.bridge.outgoing(100))[0] == "alerts/failure/name2"
        assert house.bridge.outgoing(100) == []

    def test_until_it_is_acknowledged_it_survives_a_restart(self, house: House, tmp_path: Path) -> None:
        house.accept({"to": 5})
        first, second = house.bridge.outgoing(10)
        house.bridge.published([first.id])
        house.outbox.close()
        again = House(tmp_path / "outbox.db", clock=house.clock)
        assert again.bridge.outgoing(10) == [second]
        again.bridge.published([second.id, second.id, 12345])
        assert again.bridge.outgoing(10) == []
        assert again.bridge.health().unpublished == 0
        again.outbox.close()

    def test_a_new_client_gets_all_that_was_in_flight(self, house: House) -> None:
        house.accept({"to": 5})
        flying = house.bridge.outgoing(10)
        house.bridge.forget_in_flight()
        assert house.bridge.outgoing(10) == flying

    def test_what_cannot_be_stored_as_published_is_not_published_again(self, house: House) -> None:
        house.accept({"to": 5})
        flying = house.bridge.outgoing(10)
        with house.outbox._database.reading() as db:
            db.execute("PRAGMA query_only = ON")
        house.bridge.published([one.id for one in flying])
        assert house.bridge.outgoing(10) == []
        with house.outbox._database.reading() as db:
            db.execute("PRAGMA query_only = OFF")
        assert house.bridge.health().unpublished == 2
        house.bridge.published([])
        assert house.bridge.health().unpublished == 0

    def test_a_name_too_long_for_its_outcome_topic(self, house: House) -> None:
        house.accept({"to": 5}, "n" * 65_522)
        assert topics(house.publish()) == ["alerts/failure", "alerts/bridge/outcome"]

    def test_an_alert_without_a_name(self, house: House) -> None:
        house.bridge.accept([house.message(topic="alerts/email")])
        assert topics(house.publish()) == ["alerts/failure", "alerts/bridge/outcome"]


def test_a_letter_that_the_real_composer_seals(tmp_path: Path) -> None:
    from plugin.compose import Composer

    house = House(tmp_path / "outbox.db")
    house.bridge._carrier._composer = Composer(
        sender="House <house@example.net>", templates_dir=None, max_attachment_bytes=10_000, product_version="0"
    )
    house.accept({"title": "Wasser im Keller, größer", "message": "Ä" * 900, "severity": "critical"})
    house.relay.plan[ALICE] = ["deferred", "accepted"]
    house.carry()
    house.clock.forward(10)
    house.carry()
    first, second = house.relay.letters
    assert first.content == second.content
    assert b"<house@example.net>\r\n" in first.content
    assert house.outcomes()[-1]["subject"] == "Wasser im Keller, größer"
    house.outbox.close()
