"""ha_config/packages/hardwire.yaml at work: the script and its answers, the automations."""

from __future__ import annotations

import base64
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.home_assistant.client import until
from tests.home_assistant.household import STRANGER, Household, parts, text
from tests.home_assistant.installation import Installation
from tests.home_assistant.pictures import LARGE, SMALL
from tests.journey.house import ALICE, BOB


def test_the_strict_check_finds_nothing(installation: Installation, house: Household) -> None:
    assert installation.check(house.config) == []
    # No repair but that for the way it is installed here.
    repairs = house.home.command("repairs/list_issues")["issues"]
    assert {one["issue_id"] for one in repairs} == {"deprecated_method"}


def test_the_check_would_find_an_automation_that_is_disabled(installation: Installation, house: Household) -> None:
    broken = house.config / "packages" / "broken.yaml"
    broken.write_text("automation: [{alias: Broken, triggers: [{trigger: no.such}], actions: []}]\n")
    try:
        assert installation.check(house.config) != []
    finally:
        broken.unlink()


# The script


def test_the_script_returns_success_and_the_mail_is_there(house: Household) -> None:
    answer = house.home.ask(
        "script.notify_email",
        title="Größe",
        message="Line 1\nLine 2",
        to=["alice"],
        cc=[BOB],
        severity="critical",
        thread="kitchen",
        data={"humidity": 97},
    )
    assert (answer["state"], answer["reason"]) == ("success", None)
    assert [one["state"] for one in answer["outcome"]["recipients"]] == ["accepted", "accepted"]
    mail = house.wait_mail("Größe")
    assert (str(mail["To"]), str(mail["Cc"]), mail["X-Priority"]) == (ALICE, BOB, "2 (High)")
    assert "Line 1\nLine 2" in text(mail).replace("\r\n", "\n")
    assert "97" in text(mail)


def test_twenty_calls_at_once_get_the_outcome_of_their_own(house: Household) -> None:
    def call(name: str) -> tuple[str, str]:
        answer = house.home.ask("script.notify_email", title=f"One of many: {name}", message=name, id=name)
        return answer["state"], answer["outcome"]["id"]

    # Numbers alone, which Home Assistant's templates like to turn from text into numbers.
    names = [str(number) for number in range(20)]
    with ThreadPoolExecutor(max_workers=len(names)) as callers:
        assert list(callers.map(call, names)) == [("success", name) for name in names]
    assert len(house.mails("One of many")) == len(names)
    # What looks like a number stays what it is; what is too long for the bridge has an answer all the same.
    assert call("1.10") == ("success", "1.10")
    assert call("x" * 201)[0] == "success"


def test_a_refused_recipient_comes_back_with_the_servers_words(house: Household) -> None:
    answer = house.home.ask("script.notify_email", title="To nobody", message="x", to="stranger")
    assert answer["state"] == "failure"
    (refused,) = answer["outcome"]["recipients"]
    assert (refused["address"], refused["state"], refused["code"]) == (STRANGER, "refused", 550)
    assert answer["reason"]
    assert house.mails("To nobody") == []


def test_without_the_bridge_the_script_says_that_the_alert_is_on_its_way(house: Household) -> None:
    house.stop_bridge()
    answer = house.home.ask("script.notify_email", title="Late", message="x", timeout=1)
    assert (answer["state"], answer["outcome"]) == ("timeout", None)
    house.start_bridge()
    house.wait_mail("Late")
    house.no_more_mails("Late", 1)


# Pictures


@pytest.mark.parametrize(
    ("camera", "how", "picture"), [("porch", "auto", SMALL), ("porch", "path", SMALL), ("yard", "auto", LARGE)]
)
def test_a_camera_is_in_the_mail(house: Household, camera: str, how: str, picture: bytes) -> None:
    subject = f"{camera} by {how}"
    house.show(camera, picture)
    answer = house.home.ask(
        "script.notify_email",
        title=subject,
        message="x",
        cameras=[f"camera.{camera}"],
        pictures=how,
        pictures_folder=str(house.config / "media" / "hardwire"),
    )
    assert answer["state"] == "success"
    (shown,) = parts(house.wait_mail(subject), "image/jpeg")
    assert shown.get_content() == picture
    assert str(shown.get_filename()).startswith(f"hardwire-{camera}-")


def test_a_folder_that_is_not_shared_and_a_small_picture(house: Household) -> None:
    house.show("porch", SMALL)
    answer = house.home.ask("script.notify_email", title="Not shared", message="x", cameras="camera.porch")
    assert answer["state"] == "success"
    assert parts(house.wait_mail("Not shared"), "image/jpeg")


def test_a_large_picture_that_the_bridge_may_not_read_does_not_cost_the_mail(house: Household) -> None:
    house.show("yard", LARGE)
    shown = last_shown(house)
    answer = house.home.ask("script.notify_email", title="Too large", message="x", cameras="camera.yard")
    assert answer["state"] == "success"
    mail = house.wait_mail("Too large")
    assert "No picture of camera.yard." in text(mail)
    assert parts(mail, "image/jpeg") == []
    assert last_shown(house) != shown  # the first try was refused, which was said,
    assert f"hardwire_{answer['id']}" not in house.notifications()  # and taken back


def last_shown(house: Household) -> str | None:
    """Return when the automation on failures ran last."""
    found: str | None = house.home.wait_for("automation.hardwire_show_a_failed_alert")["attributes"][
        "last_triggered"
    ]
    return found


def test_a_camera_that_is_not_there_does_not_keep_the_mail_back(house: Household) -> None:
    house.home.foresee("camera.none")
    house.show("porch", SMALL)
    answer = house.home.ask(
        "script.notify_email", title="No camera", message="x", cameras="camera.porch, camera.none", timeout="soon"
    )
    assert answer["state"] == "success"
    mail = house.wait_mail("No camera")
    assert "No picture of camera.none." in text(mail)
    assert [one.get_content() for one in parts(mail, "image/jpeg")] == [SMALL]


def test_attachments_go_as_given(house: Household) -> None:
    data = base64.b64encode(b"a,b\n1,2\n").decode()
    answer = house.home.ask(
        "script.notify_email",
        title="With a table",
        message="x",
        attachments=[{"filename": "table.csv", "content_type": "text/csv", "data": data}],
    )
    assert answer["state"] == "success"
    (table,) = parts(house.wait_mail("With a table"), "text/csv")
    assert table.get_content().replace("\r\n", "\n") == "a,b\n1,2\n"


# The automations


def test_an_automation_reacts_to_a_failure_and_not_to_success(house: Household) -> None:
    house.home.act("persistent_notification.dismiss_all")
    house.home.request("POST", "events/house_reacts", {"to": "alice"})
    house.wait_mail("Reacts")
    house.home.request("POST", "events/house_reacts", {"to": "stranger"})
    reacted = until(lambda: house.notifications().get("reacted"), "the reaction")
    assert reacted["title"] == "failure"
    assert STRANGER in reacted["message"] or "550" in reacted["message"]


def test_a_failure_is_shown_with_the_servers_words(house: Household) -> None:
    house.automation.publish(
        "ordinary", {"id": "failed-1", "title": "Not *delivered*", "message": "x", "to": "stranger"}
    )
    shown = until(lambda: house.notifications().get("hardwire_failed-1"), "the notification")
    assert shown["title"] == "Mail not delivered: Not *delivered*"
    assert "550" in shown["message"]


def test_a_failure_that_was_delivered_after_all_is_taken_back(
    house: Household, monkeypatch: pytest.MonkeyPatch
) -> None:
    alert = {"id": "failed-2", "title": "In the end", "message": "x", "to": "stranger"}
    house.automation.publish("ordinary", alert)
    until(lambda: house.notifications().get("hardwire_failed-2"), "the notification")
    monkeypatch.setattr(house.mail._mailbox, "_users", frozenset({ALICE, BOB, STRANGER}))
    assert house.automation.ask("retry", {})["data"]["letters"] >= 1
    house.wait_mail("In the end")
    until(lambda: "hardwire_failed-2" not in house.notifications(), "its end")


def test_the_last_outcomes_are_kept_once_each(house: Household) -> None:
    for number in range(3):
        house.automation.publish("kept", {"id": f"kept-{number}", "title": f"Kept {number}", "message": "x"})
    house.wait_mail("Kept 2")

    def kept() -> list[str] | None:
        entity = house.home.entity("sensor.hardwire_outcomes")
        told = entity["attributes"].get("outcomes", []) if entity else []
        found = [one["id"] for one in told if one["id"].startswith("kept-")]
        return found if len(found) == 3 else None

    assert sorted(until(kept, "three outcomes")) == ["kept-0", "kept-1", "kept-2"]
    # The same identity again: answered with the first outcome, not mailed, and not listed twice.
    house.automation.publish("kept", {"id": "kept-1", "title": "Kept 1", "message": "x"})
    house.no_more_mails("Kept 1", 1)
    assert sorted(until(kept, "three outcomes")) == ["kept-0", "kept-1", "kept-2"]


@pytest.mark.timeout(400)
def test_leak_and_door_are_mailed_once_and_their_end_in_the_same_thread(house: Household) -> None:
    house.show("porch", SMALL)
    house.tell("front_door", "OFF")
    house.tell("sink", "OFF")
    house.home.wait_for("binary_sensor.sink", "off")
    house.in_one_area("binary_sensor.front_door", "camera.porch")
    house.tell("sink", "ON")
    house.tell("front_door", "ON")
    leak, door = house.wait_mail("Water leak: Sink"), house.wait_mail("Front door: open too long")
    assert parts(door, "image/jpeg")
    assert leak["X-Priority"] == "2 (High)"
    house.home.wait_for("input_text.hardwire_door_open")

    # Whatever restarts while the leak lasts: nobody is told again.
    house.restart_home()
    house.restart_bridge()
    house.restart_broker()
    house.connected()
    house.home.wait_for("binary_sensor.water_leak", "on")
    for name in ("water_leak", "door_that_stays_open"):
        house.home.act("automation.trigger", entity_id=f"automation.hardwire_mail_a_{name}", skip_condition=False)
    house.no_more_mails("Water leak: Sink", 1)
    house.no_more_mails("Front door: open too long", 1)

    # It ends while Home Assistant is not there.
    house.home.stop()
    house.tell("sink", "OFF")
    house.tell("front_door", "OFF")
    house.home.start()

    def looked() -> bool:
        """Have both look, as they do every five minutes by themselves: off counts after a minute."""
        for name in ("water_leak", "door_that_stays_open"):
            house.home.act(
                "automation.trigger", entity_id=f"automation.hardwire_mail_a_{name}", skip_condition=False
            )
        time.sleep(2)
        return bool(house.mails("Water leak: over") and house.mails("Doors are closed"))

    until(looked, "the end of both", 150)
    (over,), (closed,) = house.mails("Water leak: over"), house.mails("Doors are closed")
    assert (over["References"], closed["References"]) == (leak["References"], door["References"])
    assert over["In-Reply-To"] == leak["In-Reply-To"]
    house.no_more_mails("Water leak: over", 1)
    house.no_more_mails("Doors are closed", 1)


def test_batteries_that_are_low_are_one_mail(house: Household) -> None:
    house.tell("remote", "7")
    house.tell("lock", "80")
    house.tell("keypad", "ON")
    house.home.wait_for("sensor.remote", "7")
    house.home.wait_for("binary_sensor.keypad", "on")
    house.home.act("automation.trigger", entity_id="automation.hardwire_mail_which_batteries_are_low")
    mail = house.wait_mail("2 batteries are low")
    assert "Keypad, Remote" in text(mail)
    assert "7 %" in text(mail)
    assert "Lock" not in text(mail)


def test_home_assistant_says_that_hardwire_is_offline_and_back(house: Household) -> None:
    house.stop_bridge()
    shown = until(lambda: house.notifications().get("hardwire_offline"), "the notification")
    assert shown["title"] == "Hardwire is offline"
    house.start_bridge()
    until(lambda: "hardwire_offline" not in house.notifications(), "its end")


def test_old_pictures_are_removed_and_new_ones_kept(house: Household) -> None:
    folder = house.config / "media" / "hardwire"
    folder.mkdir(exist_ok=True)
    old, new, other = folder / "hardwire-old.jpg", folder / "hardwire-new.jpg", folder / "mine.jpg"
    for path in (old, new, other):
        path.write_bytes(SMALL)
    eight_days_ago = time.time() - 8 * 86400
    for path in (old, other):
        os.utime(path, (eight_days_ago, eight_days_ago))
    house.home.act("automation.trigger", entity_id="automation.hardwire_remove_old_pictures")
    until(lambda: not old.exists(), "the old picture is gone")
    assert (new.exists(), other.exists()) == (True, True)
