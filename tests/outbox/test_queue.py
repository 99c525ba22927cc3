from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from plugin.alert import Letter
from tests.bridge.house import ALICE, House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "outbox.db")
    house.bridge.accept([house.message({"id": str(n)}, packet_id=n + 1) for n in range(5)])
    yield house
    house.outbox.close()


def claimed(house: House, limit: int) -> list[int]:
    return [one.letter for one in house.outbox.claim(now=house.clock.now, limit=limit)]


def sealed(number: int) -> Letter:
    return Letter(
        id=number,
        alert_ids=("0",),
        route="#",
        subject="s",
        message_id="<m@example.net>",
        sender="house@example.net",
        recipients=(ALICE,),
        content=b"octets",
        notes=("a note",),
    )


def test_a_claimed_letter_is_nobody_elses_until_it_is_released(house: House) -> None:
    assert claimed(house, 2) == [1, 2]
    assert claimed(house, 2) == [3, 4]
    house.outbox.release([2, 3])
    assert claimed(house, 9) == [2, 3, 5]
    assert claimed(house, 9) == []
    assert house.outbox.next_due() is None
    house.outbox.release([4])
    assert house.outbox.next_due() == house.clock.now


def test_what_is_not_due_is_not_claimed(house: House) -> None:
    assert house.outbox.claim(now=house.clock.now - 0.001, limit=9) == []


def test_a_letter_goes_on_the_wire_once(house: House) -> None:
    assert house.outbox.put_on_wire([sealed(1), sealed(2)], newly_sealed={1, 2}) == {1, 2}
    assert house.outbox.put_on_wire([sealed(1), sealed(3)], newly_sealed={1, 3}) == {3}
    assert claimed(house, 9) == [4, 5]


def test_what_was_not_handed_to_a_relay_waits_again_without_doubt(house: House) -> None:
    house.outbox.put_on_wire([sealed(1), sealed(2)], newly_sealed={1, 2})
    house.outbox.take_off_wire([1, 3])
    first, *_ = house.outbox.claim(now=house.clock.now, limit=9)
    assert (first.sealed, first.possible_duplicate) == (sealed(1), False)
    assert house.outbox.recover(now=house.clock.now) == 1


def test_what_was_sealed_comes_back_as_it_was(house: House) -> None:
    house.outbox.put_on_wire([sealed(1)], newly_sealed={1})
    assert house.outbox.recover(now=house.clock.now) == 1
    (claim,) = (one for one in house.outbox.claim(now=house.clock.now, limit=9) if one.letter == 1)
    assert claim.sealed == sealed(1)
    assert claim.possible_duplicate is True
    assert claim.alerts[0].message is None


def test_a_message_comes_back_as_it_was_until_it_is_sealed(house: House) -> None:
    message = house.message(b"", packet_id=1)
    first = house.outbox.claim(now=house.clock.now, limit=1)[0].alerts[0].message
    assert first is not None
    assert (first.topic, first.payload, first.received_at) == (message.topic, b'{"id": "0"}', message.received_at)
    assert first.properties == message.properties


def test_a_transaction_that_fails_leaves_nothing(house: House) -> None:
    def fail() -> None:
        with house.outbox.intake() as intake:
            alert = intake.add(alert_id="gone", state="firing", topic="t", name="n", received_at=0)
            assert intake.find("gone", "firing") is None  # it is known once it is queued
            intake.queue(
                alert, house.message(), route="#", directions="{}", recipients=(ALICE,), received_at=0, due_at=0
            )
            assert intake.find("gone", "firing") is not None
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with house.outbox.intake() as intake:
        assert intake.find("gone", "firing") is None
        assert intake.letters_open() == 5
