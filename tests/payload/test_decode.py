"""What comes out of ``decode`` for whatever anybody may publish."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugin.alert import Alert, Malformed, Message, Properties
from plugin.payload import MAX_NESTING, decode

NOW = datetime(2026, 11, 23, 10, tzinfo=UTC)


def message(payload: bytes | object, topic: str = "alerts/email/water_leak", **properties: Any) -> Message:
    return Message(
        topic=topic,
        payload=payload if isinstance(payload, bytes) else json.dumps(payload).encode(),
        qos=1,
        retain=False,
        dup=False,
        packet_id=7,
        connection=1,
        properties=Properties(**properties),
        received_at=NOW,
    )


def read(payload: bytes | object, limit: int = 10_000_000, **more: Any) -> Alert | Malformed:
    return decode(
        message(payload, **more),
        base="alerts",
        alert_id="made-up",
        payload_bytes=limit,
        forbidden_responses=("alerts", "homeassistant"),
    )


def alert(payload: bytes | object, **more: Any) -> Alert:
    result = read(payload, **more)
    assert isinstance(result, Alert), result
    return result


def malformed(payload: bytes | object, **more: Any) -> Malformed:
    result = read(payload, **more)
    assert isinstance(result, Malformed), result
    return result


def test_every_key_arrives() -> None:
    got = alert(
        {
            "id": "x1",
            "title": "Leak",
            "message": "Wet",
            "html": "<b>Wet</b>",
            "to": ["alice", "bob@example.net"],
            "cc": "carol",
            "bcc": "dave, erin",
            "reply_to": "r@example.net",
            "severity": "Critical",
            "priority": "high",
            "state": "resolved",
            "thread": "t",
            "template": "plain",
            "data": {"moisture": 93},
            "sensor": "cellar",
            "attachments": [{"filename": "a.png", "data": b64encode(b"png").decode(), "content_id": "cam"}],
        }
    )
    assert (got.id, got.name, got.title, got.message, got.html) == (
        "x1",
        "water_leak",
        "Leak",
        "Wet",
        "<b>Wet</b>",
    )
    assert (got.to, got.cc, got.bcc) == (("alice", "bob@example.net"), ("carol",), ("dave", "erin"))
    assert (got.severity, got.priority, got.state) == ("critical", "high", "resolved")
    assert got.data == {"moisture": 93, "sensor": "cellar"}
    assert got.attachments[0].data == b"png"
    assert got.attachments[0].content_type == "image/png"
    assert got.attachments[0].content_id == "cam"


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"Water in the cellar", "Water in the cellar"),
        (b"", ""),
        (b"23.5", "23.5"),
        (b'"quoted"', '"quoted"'),
        (b"null", "null"),
        (b"\xff\xfe broken", "\ufffd\ufffd broken"),
        ("\ufeffwith a mark".encode(), "with a mark"),
    ],
)
def test_plain_text_is_the_message(payload: bytes, text: str) -> None:
    assert alert(payload).message == text


def test_a_slip_in_the_json_still_mails_the_text_and_warns() -> None:
    got = alert(b'{"message": "he said "hi""}')
    assert got.message == '{"message": "he said "hi""}'
    assert "looks like JSON" in got.warnings[0]


def test_numbers_and_nulls_of_templates_are_taken() -> None:
    got = alert({"title": 5, "message": 21.5, "to": None, "data": None, "severity": None})
    assert (got.title, got.message, got.to, got.data) == ("5", "21.5", None, {})


def test_subject_is_title() -> None:
    assert alert({"subject": "S"}).title == "S"


def test_lone_surrogates_are_replaced() -> None:
    got = alert(b'{"title": "a\\ud800b", "data": {"k\\udfff": ["\\ud83d\\ude00"]}}')
    assert got.title == "a?b"
    assert got.data == {"k?": ["\U0001f600"]}


@pytest.mark.parametrize(
    ("payload", "key", "words"),
    [
        (b"[1, 2]", None, "JSON array"),
        ({"to": 5}, "to", "must be text or a list"),
        ({"to": [5]}, "to[0]", "must be text"),
        ({"to": ["a"] * 201}, "to", "too many"),
        ({"title": {"a": 1}}, "title", "must be text"),
        ({"subject": []}, "subject", "must be text"),
        ({"data": "x"}, "data", "must be an object"),
        ({"severity": "panic"}, "severity", "'info', 'warning' or 'critical'"),
        ({"priority": 1}, "priority", "'lowest'"),
        ({"state": "pending"}, "state", "'firing' or 'resolved'"),
        ({"id": ""}, "id", "has 0 characters"),
        ({"id": "x" * 201}, "id", "has 201 characters"),
        ({"attachments": {}}, "attachments", "must be a list of objects"),
        ({"attachments": "/media/a.jpg"}, "attachments", "must be a list of objects"),
        ({"attachments": [{}]}, "attachments[0]", "needs either data"),
        ({"attachments": [{"data": "%%%"}]}, "attachments[0].data", "not base64"),
        ({"attachments": [{"data": "YQ==", "path": "/x"}]}, "attachments[0]", "needs either"),
        ({"attachments": [{"data": "YQ==", "name": "x"}]}, "attachments[0].name", "not a key"),
        ({"attachments": [{"data": "YQ==", "content_type": "no\r\nway"}]}, "attachments[0].content_type", "media"),
    ],
)
def test_what_is_wrong_is_named(payload: Any, key: str | None, words: str) -> None:
    got = malformed(payload)
    assert got.key == key
    assert words in got.reason
    assert got.reason.endswith(".")


def test_a_malformed_payload_keeps_its_id() -> None:
    assert malformed({"id": "mine", "data": 5}).id == "mine"
    assert malformed({"data": 5}).id == "made-up"


def test_too_large_is_not_even_read() -> None:
    got = malformed(b"x" * 101, limit=100)
    assert "101 octets" in got.reason
    assert "limits.payload_bytes allows 100" in got.reason


def test_nesting_is_bounded() -> None:
    assert "nested deeper" in malformed(b'{"data":' * (MAX_NESTING + 2) + b"1" + b"}" * (MAX_NESTING + 2)).reason
    assert "nested deeper" in malformed(b"[" * 200_000).reason


def test_a_topic_without_a_name_is_refused() -> None:
    for topic in ("alerts/email", "alerts/email/"):
        got = malformed(b"x", topic=topic)
        assert got.name == ""
        assert "publish to alerts/email/<name>" in got.reason


def test_a_name_may_have_levels() -> None:
    assert alert(b"x", topic="alerts/email/garage/door").name == "garage/door"


def test_an_image_is_one_attachment() -> None:
    got = alert(
        b"\x89PNG\r\n",
        content_type="image/png",
        user_properties=(("title", "Door"), ("message", "Somebody"), ("camera", "front")),
        topic="alerts/email/door/front",
    )
    assert (got.title, got.message) == ("Door", "Somebody")
    assert got.attachments[0].data == b"\x89PNG\r\n"
    assert got.attachments[0].filename == "front.png"
    assert got.labels == (("title", "Door"), ("message", "Somebody"), ("camera", "front"))
    assert "camera" not in got.data


@pytest.mark.parametrize("topic", ["alerts", "alerts/email/x", "homeassistant/a", "a/+", "a/#", "$SYS/x"])
def test_responses_make_no_loops_and_borrow_no_voice(topic: str) -> None:
    got = alert(b"x", response_topic=topic, correlation_data=b"c")
    assert got.response_topic is None
    assert "no response is sent" in got.warnings[0]


def test_a_good_response_topic_is_kept() -> None:
    got = alert(b"x", response_topic="alertsx/me", correlation_data=b"c")
    assert (got.response_topic, got.correlation, got.warnings) == ("alertsx/me", b"c", ())


def test_data_uris_and_folded_base64_are_taken() -> None:
    for text in ("data:image/png;base64,YWJj", "YW\nJj"):
        assert alert({"attachments": [{"filename": "x", "data": text}]}).attachments[0].data == b"abc"


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_any_octets_give_a_result(payload: bytes) -> None:
    assert isinstance(read(payload), Alert | Malformed)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_keys = st.sampled_from(["id", "title", "to", "cc", "data", "attachments", "severity", "state", "message", "x"])


@settings(max_examples=300)
@given(st.dictionaries(_keys, _json, max_size=5))
def test_any_object_gives_a_result(payload: dict[str, Any]) -> None:
    assert isinstance(read(payload), Alert | Malformed)
