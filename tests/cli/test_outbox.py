"""``hardwire outbox``: without a service, and beside one that has the queue."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from plugin.bridge import Mark
from plugin.cli import main
from plugin.outbox import OutboxUnavailable, ask
from tests.bridge.house import ALICE, BOB, House


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "hardwire.yaml"
    path.write_text(
        "relays: [{host: 127.0.0.1, port: 25, security: none}]\nsender: a@example.net\n"
        f'recipients: {{a: {ALICE}}}\nroutes: [{{topic: "#", to: [a]}}]\noutbox: {{path: outbox.db}}\n'
    )
    return path


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """An outbox with letter 1 sent, 2 refused for Bob, 3 put off, 4 that was never tried."""
    house = House(tmp_path / "outbox.db")
    house.accept({"id": "sent", "title": "Sent"}, packet_id=1)
    house.carry()
    house.relay.plan = {BOB: ["refused"]}
    house.accept({"id": "refused", "title": "Refused"}, "both/x", packet_id=2)
    house.carry()
    house.relay.plan = {ALICE: ["deferred"]}
    house.accept({"id": "put off", "title": "Put off"}, packet_id=3)
    house.carry()
    house.accept({"id": "new", "title": "New"}, packet_id=4)
    house.publish()
    house.relay.plan = {}
    yield house
    house.outbox.close()


def outbox(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["outbox", *arguments, "--config", str(config)])


def listed(config: Path, *arguments: str) -> list[dict[str, Any]]:
    done = outbox(config, "list", "--json", *arguments)
    assert done.exit_code == 0, done.output
    letters: list[dict[str, Any]] = json.loads(done.stdout)
    return letters


def test_letters_are_listed_beside_who_has_the_queue(house: House, config: Path) -> None:
    letters = listed(config)
    assert [(one["number"], one["state"], one["alert_ids"]) for one in letters] == [
        (4, "waiting", ["new"]),
        (3, "waiting", ["put off"]),
        (2, "failed", ["refused"]),
        (1, "sent", ["sent"]),
    ]
    assert letters[0]["subject"] is None
    assert letters[1]["due_at"] is not None
    assert letters[2]["due_at"] is None
    assert [(one["address"], one["state"]) for one in letters[2]["recipients"]] == [
        (ALICE, "accepted"),
        (BOB, "refused"),
    ]
    assert [one["number"] for one in listed(config, "--state", "waiting", "--limit", "1")] == [4]
    assert [one["number"] for one in listed(config, "--limit", "2", "--offset", "1")] == [3, 2]
    text = outbox(config, "list", "--limit", "2").stdout
    assert "Put off" in text
    assert "Refused" not in text


def test_a_letter_is_shown_with_its_dialogue(house: House, config: Path) -> None:
    text = outbox(config, "show", "2").stdout
    assert "letter      2, failed for at least one recipient" in text
    assert f"{BOB}: refused at rcpt: 550" in text
    assert "  S: 220 smtp.example.net\n  C: EHLO house\n" in text
    shown = json.loads(outbox(config, "show", "2", "--json").stdout)
    assert shown["tries"][0]["transcript"] == ["S: 220 smtp.example.net", "C: EHLO house"]
    assert [one["event_type"] for one in shown["outcomes"]] == ["failure"]
    assert shown["content_bytes"] > 0
    missing = outbox(config, "show", "99")
    assert missing.exit_code == 1
    assert "there is no letter 99" in missing.stderr


def test_times_are_those_of_the_clock_on_the_wall(house: House, config: Path) -> None:
    day_s = 86_400.0
    before = listed(config, "--state", "waiting")
    house.outbox.memo.put("clock", Mark(steady=0.0, wall=day_s).as_json())
    after = listed(config, "--state", "waiting")
    for key in ("received_at", "due_at"):
        early, late = ([datetime.fromisoformat(one[key]) for one in letters] for letters in (before, after))
        assert {(b - a).total_seconds() for a, b in zip(early, late, strict=True)} == {day_s}
    assert after[0]["received_at"] in outbox(config, "show", str(after[0]["number"])).stdout


def test_what_a_server_says_does_not_steer_the_terminal(house: House, config: Path) -> None:
    with house.outbox._database.transaction() as db:
        db.execute("UPDATE recipient SET text = ? WHERE letter = 2", ("no\x1b[2Jway\r\n",))
    assert "\x1b" not in outbox(config, "show", "2").stdout


@pytest.mark.parametrize("verb", ["retry", "drop"])
def test_numbers_or_all_but_not_both_and_not_nothing(config: Path, verb: str) -> None:
    assert outbox(config, verb).exit_code == 2
    assert outbox(config, verb, "1", "--all").exit_code == 2


@pytest.mark.parametrize("arguments", [("list",), ("show", "1"), ("retry", "--all"), ("drop", "1")])
def test_where_there_is_no_outbox_none_is_made(config: Path, arguments: tuple[str, ...]) -> None:
    done = outbox(config, *arguments)
    assert done.exit_code == 1
    assert "there is no outbox" in done.stderr
    assert list(config.parent.iterdir()) == [config]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("PRAGMA user_version = 99", "newer version"),
        ("PRAGMA user_version = 1", "start the service"),
        ("PRAGMA application_id = 7", "is no outbox"),
    ],
)
def test_a_file_of_another_version_is_left_alone(house: House, config: Path, spoil: str, words: str) -> None:
    house.outbox.close()
    db = sqlite3.connect(house.path)
    db.execute(spoil)
    db.commit()
    db.close()
    before = house.path.read_bytes()
    done = outbox(config, "list")
    assert done.exit_code == 1
    assert words in done.stderr
    assert house.path.read_bytes() == before


def test_without_a_service_the_command_does_it_itself(house: House, config: Path) -> None:
    house.outbox.close()
    done = outbox(config, "retry", "2", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"letters": 1, "left": []})
    done = outbox(config, "drop", "3", "1", "77")
    assert done.exit_code == 1
    assert "1 letter\n" in done.stdout
    assert "letter 1 was accepted for all recipients" in done.stderr
    assert "letter 77 is not there" in done.stderr
    done = outbox(config, "drop", "3")
    assert done.exit_code == 1
    assert "nothing was done: letter 3 has failed already" in done.stderr
    house = House(house.path, clock=house.clock)
    told = house.outcomes()
    assert [(one["id"], one["event_type"]) for one in told] == [("put off", "failure")]
    assert {one["state"] for one in told[0]["recipients"]} == {"dropped"}
    assert "dropped by request" in told[0]["reason"]
    house.clock.now += 10 * 365 * 86_400  # the command took the time of this machine
    while house.carry():
        pass
    told = house.outcomes()
    assert sorted((one["id"], one["event_type"]) for one in told) == [("new", "success"), ("refused", "success")]
    house.outbox.close()


def test_retry_goes_to_those_alone_who_do_not_have_it_with_the_same_message(house: House) -> None:
    before = house.rows("SELECT message_id FROM letter WHERE number = 2")
    assert house.bridge.retry([2]) == 1
    house.relay.letters.clear()
    while house.carry():
        pass
    again = [one for one in house.relay.letters if one.id == 2]
    assert [one.recipients for one in again] == [(BOB,)]
    assert [(one.message_id,) for one in again] == before
    (outcome,) = [one for one in house.outcomes() if one["id"] == "refused"]
    assert outcome["event_type"] == "success"
    assert [one["state"] for one in outcome["recipients"]] == ["accepted", "accepted"]


def test_an_errand_is_answered_or_taken_back(house: House) -> None:
    answers: list[Any] = []

    def service() -> None:
        for _ in range(500):
            for errand in house.outbox.memo.errands():
                house.outbox.memo.answer(errand, {"did": errand.content})
                return
            threading.Event().wait(0.01)

    thread = threading.Thread(target=service)
    thread.start()
    answers.append(ask(house.path, {"verb": "retry"}, timeout_s=10.0))
    thread.join()
    assert answers == [{"did": {"verb": "retry"}}]
    now = iter(range(100))
    with pytest.raises(OutboxUnavailable, match="did not answer within 3 s"):
        ask(house.path, {"verb": "retry"}, timeout_s=3.0, clock=lambda: next(now), sleep=lambda _: None)
    assert house.outbox.memo.errands() == []
    assert house.rows("SELECT key FROM memo WHERE key <> 'outcomes'") == []


def test_errands_that_nobody_does_do_not_pile_up(house: House) -> None:
    for number in range(20):
        house.outbox.memo.put(f"errand/{number}", {})
    with pytest.raises(OutboxUnavailable, match="20 commands wait"):
        ask(house.path, {}, timeout_s=1.0)
    house.outbox.memo.forget_errands()
    assert house.outbox.memo.errands() == []
