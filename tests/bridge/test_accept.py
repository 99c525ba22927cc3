from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from plugin.alert import Alert, Properties
from plugin.outbox import OutboxUnavailable
from plugin.route import Directions, Rejected
from tests.bridge.house import ALICE, House, routing, topics


def test_what_is_accepted_is_on_disk_before_it_may_be_acknowledged(house: House) -> None:
    messages = [house.message(f"alert {n}", packet_id=n + 1) for n in range(5)]
    assert house.bridge.accept(messages) == messages
    with sqlite3.connect(house.path) as other:  # another connection sees only what is committed
        assert other.execute("SELECT COUNT(*) FROM letter WHERE state = 'waiting'").fetchone() == (5,)
    other.close()
    assert house.bridge.health().waiting == 5
    assert house.bridge.counters()["accepted"] == 5


def test_what_arrives_together_is_one_transaction(house: House) -> None:
    begun: list[str] = []
    with house.outbox._database.reading() as db:
        db.set_trace_callback(lambda sql: begun.append(sql) if sql.startswith(("BEGIN", "COMMIT")) else None)
    house.bridge.accept([house.message(f"alert {n}", packet_id=n + 1) for n in range(50)])
    assert begun == ["BEGIN IMMEDIATE", "COMMIT"]


def test_nothing_is_acknowledged_if_the_disk_is_full(house: House) -> None:
    with house.outbox._database.reading() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 1}").fetchone()
    messages = [house.message("x" * 9000, packet_id=n + 1) for n in range(20)]
    with pytest.raises(OutboxUnavailable, match="no room left"):
        house.bridge.accept(messages)
    assert house.bridge.health().waiting == 0
    assert house.bridge.counters()["accepted"] == 0
    with house.outbox._database.reading() as db:
        db.execute("PRAGMA max_page_count = 1000000").fetchone()
    assert house.bridge.accept(messages) == messages
    assert house.bridge.health().waiting == 20


def test_a_malformed_alert_is_answered_and_acknowledged(house: House) -> None:
    house.accept({"id": "m", "to": 5, "title": "T"}, "cellar/water")
    publications = house.publish()
    assert topics(publications) == ["alerts/failure/cellar/water", "alerts/bridge/outcome"]
    (outcome,) = {one.payload for one in publications}
    assert b'"id": "m"' in outcome
    assert b'"event_type": "failure"' in outcome
    assert b"to must be text or a list" in outcome
    assert house.carry() == 0


def test_denied_recipients_are_named_in_the_failure(house: House) -> None:
    house.accept({"to": ["alice", "mallory@example.org"]})
    (outcome,) = house.outcomes()
    assert outcome["event_type"] == "failure"
    assert outcome["reason"].startswith("to: ")
    assert [(one["address"], one["state"], one["phase"]) for one in outcome["recipients"]] == [
        ("mallory@example.org", "denied", "route")
    ]
    assert outcome["settled_at"] is not None
    assert house.carry() == 0


def test_an_attachment_outside_the_allowed_folders_is_a_failure(house: House) -> None:
    house.accept({"attachments": [{"path": "/allowed/a.jpg"}, {"path": "/etc/shadow"}]})
    (outcome,) = house.outcomes()
    assert outcome["reason"] == "attachments[1].path: the file lies outside attachments.allowed_dirs"
    house.accept({"attachments": [{"path": "/allowed/a.jpg"}]})
    assert house.carry() == 1


class PoisonRouting:
    """Fails on one alert as a fault of the program would, with the alert's text in the exception."""

    def direct(self, alert: Alert) -> Directions | Rejected:
        if alert.message == "poison":
            raise ZeroDivisionError("the secret text of the alert")
        return routing().direct(alert)


def test_poison_harms_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    house = House(tmp_path / "outbox.db", routing=PoisonRouting())
    messages = [house.message(text, packet_id=n + 1) for n, text in enumerate(("first", "poison", "last"))]
    assert house.bridge.accept(messages) == messages
    (outcome,) = house.outcomes()
    assert outcome["event_type"] == "failure"
    assert "ZeroDivisionError in test_accept.py" in outcome["reason"]
    assert "secret" not in outcome["reason"] + caplog.text
    assert house.carry() + house.carry() + house.carry() == 2
    house.outbox.close()


def test_lone_surrogates_are_stored_and_answered(house: House) -> None:
    house.accept(r'{"id": "a\ud800b", "title": "t\udfff", "to": "\ud801"}')
    (outcome,) = house.outcomes()
    assert outcome["id"] == "a?b"
    house.accept(r'{"id": "a\ud800b"}', packet_id=2)
    house.accept(r'{"id": "a\ud800b"}', packet_id=3)
    assert house.bridge.counters()["repeated"] == 1


def test_retained_copies_are_no_alerts(house: House, caplog: pytest.LogCaptureFixture) -> None:
    message = house.accept(retain=True)
    assert house.bridge.health().waiting == 0
    assert message.topic in caplog.text
    assert house.bridge.counters()["retained_ignored"] == 1


def test_beyond_the_limit_the_queue_is_full(tmp_path: Path) -> None:
    house = House(tmp_path / "outbox.db", queue=3)
    messages = [house.message({"id": str(n)}, packet_id=n + 1) for n in range(5)]
    assert house.bridge.accept(messages) == messages
    full = house.outcomes()
    assert [one["id"] for one in full] == ["3", "4"]
    assert {one["reason"] for one in full} == {"the queue is full (3 waiting, as many as limits.queue allows)"}
    house.accept({"id": "0"}, packet_id=9)  # a repeat needs no room
    assert house.bridge.counters() | {"accepted": 3, "queue_full": 2, "repeated": 1} == house.bridge.counters()
    house.carry()
    house.accept({"id": "5"}, packet_id=10)
    assert house.bridge.health().waiting == 3
    house.outbox.close()


# Identity: what is sent, then what is sent again, and what comes of the second.
REPEATS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("same id", {"payload": {"id": "x"}}, {"payload": {"id": "x"}, "packet_id": 2}, "repeated"),
    ("other text", {"payload": {"id": "x"}}, {"payload": {"id": "x", "title": "t"}, "packet_id": 2}, "repeated"),
    ("other state", {"payload": {"id": "x"}}, {"payload": {"id": "x", "state": "resolved"}}, "accepted"),
    ("id, dup", {"payload": {"id": "x"}}, {"payload": {"id": "x"}, "dup": True}, "redelivered"),
    (
        "id, dup, new packet",
        {"payload": {"id": "x"}},
        {"payload": {"id": "x"}, "dup": True, "packet_id": 2},
        "repeated",
    ),
    ("no id", {}, {"packet_id": 2}, "accepted"),
    ("no id, packet again", {}, {}, "accepted"),
    ("no id, dup", {}, {"dup": True}, "redelivered"),
    ("no id, dup, later connection", {}, {"dup": True, "connection": 7}, "redelivered"),
    ("no id, dup, other packet", {}, {"dup": True, "packet_id": 2}, "accepted"),
    ("no id, dup, other text", {}, {"dup": True, "payload": "Fire!"}, "accepted"),
    ("no id, dup, other topic", {}, {"dup": True, "name": "cellar"}, "accepted"),
    ("QoS 0", {"qos": 0, "packet_id": 0}, {"qos": 0, "packet_id": 0}, "accepted"),
    ("QoS 0, then dup with id 0", {"qos": 0, "packet_id": 0}, {"dup": True, "packet_id": 0}, "accepted"),
    ("malformed, dup", {"payload": {"to": 5}}, {"payload": {"to": 5}, "dup": True}, "redelivered"),
    ("malformed, same id", {"payload": {"id": "m", "to": 5}}, {"payload": {"id": "m", "to": 5}}, "rejected"),
    ("malformed, mended", {"payload": {"id": "m", "to": 5}}, {"payload": {"id": "m"}, "packet_id": 2}, "accepted"),
    ("queued, then malformed", {"payload": {"id": "m"}}, {"payload": {"id": "m", "to": 5}}, "repeated"),
]


@pytest.mark.parametrize(
    ("first", "second", "what"), [row[1:] for row in REPEATS], ids=[row[0] for row in REPEATS]
)
def test_repeats(house: House, first: dict[str, Any], second: dict[str, Any], what: str) -> None:
    house.accept(**first)
    before = house.bridge.counters()
    house.accept(**second)
    after = house.bridge.counters()
    assert {name for name in after if after[name] != before[name]} == {what}


def test_a_refused_alert_reserves_nothing(house: House) -> None:
    """Mended and published again it is mailed; from then on it is a repeat, and its outcome is the mail's."""
    response = Properties(response_topic="answers/mended", correlation_data=b"1")
    for packet_id, to in enumerate((5, "mallory@example.org", "nobody-known", "alice", "alice"), start=1):
        house.accept({"id": "m", "to": to}, packet_id=packet_id, properties=response)
        house.carry()
    assert len(house.relay.letters) == 1
    outcomes = house.outcomes()
    assert [one["event_type"] for one in outcomes] == ["failure"] * 3 + ["success"] * 2
    assert outcomes[3] == outcomes[4]
    house.accept({"id": "m", "to": 5}, packet_id=1, dup=True)  # the broker has not seen the first one's PUBACK
    assert house.outcomes() == []
    assert house.bridge.counters() | {"rejected": 3, "accepted": 1, "repeated": 1, "redelivered": 1} == (
        house.bridge.counters()
    )


def test_what_found_the_queue_full_is_taken_when_it_comes_again(tmp_path: Path) -> None:
    house = House(tmp_path / "outbox.db", queue=1)
    house.accept({"id": "first"})
    house.accept({"id": "late"}, packet_id=2)
    house.carry()
    house.accept({"id": "late"}, packet_id=3)
    house.carry()
    assert [one["event_type"] for one in house.outcomes()] == ["failure", "success", "success"]
    assert len(house.relay.letters) == 2
    house.outbox.close()


def test_logs_hold_no_endless_topics(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    name = "x" * 60_000
    house.accept(name=name, retain=True)
    house.accept(name=name)
    house.accept({"to": 5}, name=name)
    assert len(caplog.records) == 3
    assert max(len(record.getMessage()) for record in caplog.records) < 400


def test_a_packet_id_that_was_used_anew_is_no_redelivery_of_the_old(house: House) -> None:
    house.accept("Water!")
    house.accept("Fire!")
    house.accept("Water!", dup=True)
    assert house.bridge.counters()["accepted"] == 3


def test_a_lost_session_makes_packet_ids_meaningless(house: House) -> None:
    house.accept()
    house.bridge.session_lost()
    house.accept(dup=True)
    assert house.bridge.counters()["accepted"] == 2


def test_a_redelivery_in_the_same_batch_adds_nothing(house: House) -> None:
    first = house.message()
    again = house.message(dup=True, connection=2)
    assert house.bridge.accept([first, again]) == [first, again]
    assert house.bridge.health().waiting == 1


def test_a_repeat_of_a_settled_alert_is_answered_with_the_first_outcome(house: House) -> None:
    first = Properties(response_topic="answers/first", correlation_data=b"1")
    house.accept({"id": "x"}, properties=first)
    house.carry()
    answered = house.publish()
    assert topics(answered) == ["alerts/success/water_leak", "alerts/bridge/outcome", "answers/first"]
    assert [one.correlation for one in answered] == [None, None, b"1"]
    second = Properties(response_topic="answers/second", correlation_data=b"2")
    house.accept({"id": "x"}, packet_id=2, properties=second)
    again = house.publish()
    assert topics(again) == ["alerts/success/water_leak", "alerts/bridge/outcome", "answers/second"]
    assert [one.correlation for one in again] == [None, None, b"2"]
    assert {one.payload for one in again} == {one.payload for one in answered}
    assert house.carry() == 0
    assert len(house.relay.letters) == 1


def test_a_redelivery_is_not_answered_again(house: House) -> None:
    house.accept({"id": "x"})
    house.carry()
    house.publish()
    house.accept({"id": "x"}, dup=True)
    assert house.publish() == []


def test_a_repeat_of_a_waiting_alert_is_answered_when_that_is_settled(house: House) -> None:
    house.accept({"id": "x"})
    response = Properties(response_topic="answers/late", correlation_data=b"\x00\xff")
    for packet_id in (2, 3):  # asking twice makes no second answer
        house.accept({"id": "x"}, packet_id=packet_id, properties=response)
    assert house.publish() == []
    house.carry()
    assert topics(house.publish()) == ["alerts/success/water_leak", "alerts/bridge/outcome", "answers/late"]


def test_the_topics_of_one_alert_are_bounded(house: House) -> None:
    for n in range(60):
        properties = Properties(response_topic=f"answers/{n}")
        house.accept({"id": "x"}, packet_id=n + 1, properties=properties)
    house.carry()
    assert len(house.publish()) == 2 + 20


def test_a_response_topic_below_ours_is_not_answered(house: House) -> None:
    house.accept(properties=Properties(response_topic="alerts/email/water_leak"))
    house.carry()
    assert topics(house.publish()) == ["alerts/success/water_leak", "alerts/bridge/outcome"]


def test_later_configuration_does_not_redirect_what_was_accepted(tmp_path: Path) -> None:
    class Nobody:
        def direct(self, alert: Alert) -> Directions | Rejected:
            return Rejected(key=None, reason="nobody")

    house = House(tmp_path / "outbox.db")
    house.accept()
    house.outbox.close()
    house = House(tmp_path / "outbox.db", routing=Nobody())
    assert house.carry() == 1
    assert house.relay.letters[0].recipients == (ALICE,)
    house.outbox.close()
