"""docs/from-notify-smtp.md: its keys are all, its example is carried over, its new actions are alerts."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from plugin.alert import Alert, Message
from plugin.config import schema_keys
from plugin.migrate import find
from plugin.migrate.carrying import LEFT_OUT
from plugin.payload import _Attachment, _Payload, decode
from tests.deploy.home_assistant import PACKAGES, load, render

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "from-notify-smtp.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
# The keys of the old integration's PLATFORM_SCHEMA.
OLD = {
    *("name", "server", "port", "encryption", "verify_ssl", "username", "password", "sender", "sender_name"),
    *("recipient", "timeout", "debug"),
}


def rows(title: str) -> list[list[str]]:
    table = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.split("|")[1:4]] for line in lines]


def backticks(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def test_every_old_key_has_its_row_and_leads_to_a_key_that_exists() -> None:
    told = {backticks(old)[0]: backticks(new) for old, new, _ in rows("The keys")}
    assert set(told) == OLD
    assert {old for old, new in told.items() if not new} == set(LEFT_OUT)
    assert {key for new in told.values() for key in new} <= set(schema_keys())


def test_every_key_of_the_action_leads_to_one_of_the_payload() -> None:
    told = {backticks(old)[0]: backticks(new) for old, new, _ in rows("The actions")}
    assert set(told) == {"message", "title", "target", "data.images", "data.html", "cid:"}
    known = set(_Payload.model_fields) | set(_Attachment.model_fields)
    assert {key for new in told.values() for key in new} <= known


def test_the_block_to_write_down_is_found_whole(tmp_path: Path) -> None:
    (tmp_path / "configuration.yaml").write_text(BLOCKS[0])
    (tmp_path / "secrets.yaml").write_text("smtp: x")
    found = find(tmp_path / "configuration.yaml", {})
    assert found.notes == ()
    assert set(found.notifiers[0].keys) == {
        "name", "server", "sender", "recipient", "username", "password",
    }  # fmt: skip


def published(action: dict[str, Any]) -> Alert:
    data = action["data"]
    message = Message(
        topic=data["topic"],
        payload=render(data["payload"]).encode(),
        qos=data["qos"],
        retain=False,
        dup=False,
        packet_id=1,
        connection=1,
        received_at=datetime.now(UTC),
    )
    alert = decode(message, base="alerts", alert_id="x", payload_bytes=10**6, forbidden_responses=())
    assert isinstance(alert, Alert)
    assert alert.warnings == ()
    return alert


def test_text_and_title_arrive_either_way() -> None:
    before, now, script = yaml.safe_load(BLOCKS[1])
    alert = published(now)
    assert {"title": alert.title, "message": alert.message} == before["data"]
    fields = load(PACKAGES / "hardwire.yaml")["script"]["notify_email"]["fields"]
    assert set(script["data"]) <= set(fields)
    assert {key: script["data"][key] for key in before["data"]} == before["data"]
    assert f"alerts/email/{script['data']['topic']}" == now["data"]["topic"]


def test_recipients_pictures_and_html_arrive() -> None:
    before, now = yaml.safe_load(BLOCKS[2])
    alert, old = published(now), before["data"]
    assert list(alert.to or ()) == old["target"]
    (attachment,) = alert.attachments
    assert str(attachment.path) == old["data"]["images"][0]
    assert f"cid:{attachment.content_id}" in (alert.html or "")
    assert f"cid:{attachment.content_id}" in old["data"]["html"]


def test_the_template_in_the_text_works() -> None:
    (example,) = re.findall(r"`(\{\"message\": \"It is .*?\})`", PAGE)
    assert render(f"{{{{ {example} | to_json }}}}", states=lambda name: "21") == '{"message":"It is 21 °C"}'
