"""What is published so that Home Assistant knows exactly what there is: as data, and when it is due."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from plugin.alert import Message
from plugin.discovery import Description, payload_of
from plugin.outbox import Outbox
from plugin.service.announcing import (
    AGAIN_S,
    LONGEST_S,
    MAX_FAREWELLS,
    QUIET_S,
    Announced,
    Announcement,
    Announcing,
    announcements,
    farewells,
)
from plugin.service.reception import OutboxTrouble

TOPIC = "homeassistant/device/hardwire_alerts/config"
BIRTH = "homeassistant/status"
NOTHING = Announced(present={}, leaving={})
DESCRIBED = Description(
    base="alerts", prefix="homeassistant", version="1", expiry_s=60, recipients=("alice", "bob")
)


def device(*components: str) -> dict[str, Any]:
    return {"dev": {"ids": ["x"]}, "cmps": {one: {"p": "notify", "uniq_id": one} for one in components}}


def told(messages: list[Announcement]) -> list[tuple[str, Any, bool]]:
    """Return each message as its topic, what it says of which component, and whether it is retained."""
    return [
        (
            one.topic,
            {key: "here" if len(entity) > 1 else "gone" for key, entity in json.loads(one.payload)["cmps"].items()}
            if one.payload
            else None,
            one.retain,
        )
        for one in messages
    ]


def test_what_is_new_is_announced_retained() -> None:
    messages, known = announcements(NOTHING, {"t": device("a")})
    assert told(messages) == [("t", {"a": "here"}, True)]
    assert known == Announced(present={"t": device("a")}, leaving={})
    assert told(announcements(known, {"t": device("a")})[0]) == [("t", {"a": "here"}, True)]


def test_what_has_gone_is_told_to_go_before_it_is_left_out() -> None:
    _, known = announcements(NOTHING, {"t": device("a", "b", "c")})
    messages, known = announcements(known, {"t": device("a")})
    assert told(messages) == [("t", {"b": "gone", "c": "gone"}, False), ("t", {"a": "here"}, True)]
    assert known == Announced(present={"t": device("a")}, leaving={"t": device("b", "c")})
    assert told(announcements(known, {"t": device("a")})[0]) == [("t", {"a": "here"}, True)]


def test_what_comes_back_is_not_leaving_any_more() -> None:
    _, known = announcements(NOTHING, {"t": device("a", "b")})
    _, known = announcements(known, {"t": device("a")})
    _, known = announcements(known, {"t": device("a", "b")})
    assert known.leaving == {}


@pytest.mark.parametrize("wanted", [{}, {"other": device("a")}], ids=["switched off", "another topic"])
def test_a_topic_that_is_left_is_emptied(wanted: dict[str, Any]) -> None:
    _, known = announcements(NOTHING, {"t": device("a")})
    messages, known = announcements(known, wanted)
    assert told(messages)[0] == ("t", None, True)
    assert known == Announced(present=wanted, leaving={"t": device("a")})
    assert all(one.topic != "t" for one in announcements(known, wanted)[0])


def test_who_is_born_sees_what_leaves_and_then_each_of_it_go() -> None:
    _, known = announcements(NOTHING, {"t": device("a", "b", "c")})
    _, known = announcements(known, {"t": device("a")})
    messages, known = farewells(known)
    assert told(messages) == [
        ("t", {"b": "here", "c": "here"}, False),
        ("t", {"b": "gone"}, False),
        ("t", {"c": "gone"}, False),
    ]
    assert known.leaving == {}
    assert farewells(known) == ([], known)


def test_farewells_are_bounded_and_the_rest_is_not_forgotten() -> None:
    known = Announced(present={}, leaving={"t": device(*"ab"), "u": device(*map(str, range(MAX_FAREWELLS)))})
    messages, known = farewells(known)
    assert len(messages) == MAX_FAREWELLS + 2
    assert set(known.leaving["u"]["cmps"]) == {str(MAX_FAREWELLS - 2), str(MAX_FAREWELLS - 1)}
    messages, known = farewells(known)
    assert len(messages) == 3
    assert known.leaving == {}


def test_what_is_known_is_read_as_it_was_written() -> None:
    known = Announced(present={"t": device("a")}, leaving={"u": device("b")})
    assert Announced.read(json.loads(json.dumps(known.as_json()))) == known
    assert Announced.read(None) == NOTHING


# --- when it is due -----------------------------------------------------------------------------------------


class House:
    """Announcing over an outbox, with a clock that stands and a broker that only remembers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, 1000.0
        self.published: list[tuple[str, bytes, bool]] = []
        self.trouble = OutboxTrouble()
        self.open()

    def open(self, described: Description = DESCRIBED, *, wanted: bool = True) -> None:
        """Begin, as after a start."""
        self.outbox = Outbox(self.folder / "outbox.db")
        self.announcing = Announcing(
            described,
            wanted=wanted,
            memo=self.outbox.memo,
            publish=lambda topic, payload, *, retain: self.published.append((topic, payload, retain)),
            trouble=self.trouble,
            clock=lambda: self.now,
        )

    def hear(self, topic: str, payload: bytes) -> None:
        self.announcing.hear(
            Message(
                topic=topic,
                payload=payload,
                qos=0,
                retain=False,
                dup=False,
                packet_id=0,
                connection=1,
                received_at=datetime.now(UTC),
            )
        )

    def after(self, seconds: float) -> list[tuple[str, bytes, bool]]:
        """Return what is published when the clock shows ``seconds`` more."""
        self.now += seconds
        self.published.clear()
        self.announcing.work()
        return self.published.copy()

    def taken(self) -> dict[str, bytes]:
        """Connect; return what is retained then."""
        self.announcing.connected()
        return {topic: payload for topic, payload, retain in self.after(0) if retain}


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_at_each_connection(house: House) -> None:
    assert house.after(100) == []
    for _ in range(2):
        assert {topic: json.loads(payload) for topic, payload in house.taken().items()} == {
            TOPIC: payload_of(DESCRIBED)
        }
    assert house.after(100) == []


@pytest.mark.parametrize(("topic", "payload"), [(BIRTH, b"online"), (TOPIC, b"")], ids=["birth", "deletion"])
def test_home_assistant_is_told_again(house: House, topic: str, payload: bytes) -> None:
    house.taken()
    house.hear(topic, payload)
    assert house.after(0) == []
    assert [one[0] for one in house.after(QUIET_S)] == [TOPIC]
    assert house.after(100) == []


@pytest.mark.parametrize(("topic", "payload"), [(BIRTH, b"offline"), (BIRTH, b""), (TOPIC, b"{}")])
def test_what_is_no_reason(house: House, topic: str, payload: bytes) -> None:
    house.taken()
    house.hear(topic, payload)
    assert house.after(100) == []


def test_a_device_that_is_deleted_entity_by_entity_is_announced_once_it_is_through(house: House) -> None:
    house.taken()
    for _ in range(14):
        house.hear(TOPIC, b"")
        assert house.after(QUIET_S / 10) == []
    assert len(house.after(QUIET_S)) == 1


def test_whoever_goes_on_deleting_cannot_keep_it_away(house: House) -> None:
    house.taken()
    published = 0
    for _ in range(int(4 * LONGEST_S)):
        house.hear(TOPIC, b"")
        published += len(house.after(1))
    assert 3 <= published <= 4


def test_who_has_left_the_configuration_goes_also_from_who_was_not_there(house: House) -> None:
    house.taken()
    house.outbox.close()
    house.open(replace(DESCRIBED, recipients=("alice",)))
    assert set(json.loads(house.taken()[TOPIC])["cmps"]) == set(payload_of(DESCRIBED)["cmps"]) - {"notify_bob"}
    house.outbox.close()
    house.open(replace(DESCRIBED, recipients=("alice",)))
    house.taken()
    for expected in (3, 1):  # the second one is not told again
        house.hear(BIRTH, b"online")
        assert len(house.after(QUIET_S)) == expected


def test_switched_off_the_device_goes_and_nothing_is_told_any_more(house: House) -> None:
    house.taken()
    house.outbox.close()
    house.open(wanted=False)
    assert house.taken() == {TOPIC: b""}
    house.outbox.close()
    house.open(wanted=False)
    assert house.taken() == {}
    house.outbox.close()
    house.open()
    assert set(house.taken()) == {TOPIC}


def test_an_outbox_that_cannot_be_used_is_tried_again(house: House) -> None:
    house.taken()
    house.hear(BIRTH, b"online")
    house.outbox.close()
    assert house.after(QUIET_S) == []
    assert "closed" in str(house.trouble.problem)
    house.trouble.clear()
    house.after(AGAIN_S / 2)
    assert house.trouble.problem is None
    house.after(AGAIN_S / 2)
    assert "closed" in str(house.trouble.problem)
