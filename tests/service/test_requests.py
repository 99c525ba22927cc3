"""What a request says, and what is wrong with one: in words that name the key."""

from __future__ import annotations

import json
from typing import Any

import pytest

from plugin.service.requests import (
    MAX_REQUEST_BYTES,
    Refused,
    Request,
    read_content,
    request_of,
    transaction_of,
)


@pytest.mark.parametrize(
    ("verb", "content", "request_"),
    [
        ("status", {}, Request(verb="status")),
        ("status", {"transaction": "a"}, Request(verb="status", transaction="a")),
        ("test", {"to": "alice, bob"}, Request(verb="test", to=("alice", "bob"))),
        ("test", {"to": ["alice"], "transaction": 7}, Request(verb="test", to=("alice",), transaction=7)),
        ("pause", {}, Request(verb="pause")),
        ("pause", {"paused": False}, Request(verb="pause", paused=False)),
        ("retry", {}, Request(verb="retry")),
        ("retry", {"letters": [3, 1, 3]}, Request(verb="retry", letters=(3, 1))),
        ("drop", {"letters": 4}, Request(verb="drop", letters=(4,))),
        ("drop", {"letters": "all"}, Request(verb="drop")),
    ],
)
def test_what_is_asked(verb: str, content: dict[str, Any], request_: Request) -> None:
    assert request_of(verb, content) == request_


@pytest.mark.parametrize(
    ("verb", "content", "words"),
    [
        ("tets", {}, "there is no request 'tets'; there are test, retry"),
        ("TEST", {}, "there is no request 'TEST'"),
        ("", {}, "there is no request ''"),
        ("test", {"too": "alice"}, "too is no key of test; known are to, transaction"),
        ("resume", {"paused": True}, "paused is no key of resume"),
        ("test", {"to": []}, "to must have 1 to"),
        ("test", {"to": [1]}, "to must be a name"),
        ("test", {"to": ""}, "to must be a name"),
        ("test", {"to": ["x" * 500]}, "to must have 1 to"),
        ("pause", {"paused": "no"}, "paused must be true or false"),
        ("drop", {}, "letters is missing"),
        ("drop", {"letters": []}, "letters must name 1 to"),
        ("drop", {"letters": [0]}, "letters must be a list of numbers"),
        ("drop", {"letters": [True]}, "letters must be a list of numbers"),
        ("drop", {"letters": [2**63]}, "letters must be a list of numbers"),
        ("retry", {"letters": "some"}, "letters must be a list of numbers"),
        ("retry", {"letters": list(range(1, 1002))}, "letters must name 1 to 1000"),
        ("status", {"transaction": {}}, "transaction must be text or a number"),
        ("status", {"transaction": float("nan")}, "transaction must be text or a number"),
        ("status", {"transaction": "x" * 201}, "transaction may have 200 characters"),
    ],
)
def test_what_is_wrong_is_said(verb: str, content: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused) as refused:
        request_of(verb, content)
    assert words in str(refused.value)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("payload", [b"", b"  \n", b"{}", b"\xef\xbb\xbf{}"])
def test_nothing_is_an_empty_object(payload: bytes) -> None:
    assert read_content(payload) == {}


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"PRESS", "no JSON"),
        (b"[]", "no JSON object"),
        (b"\xff", "no JSON"),
        (b"[" * 60_000, "no JSON"),
        (b'"' + b"x" * MAX_REQUEST_BYTES, "octets"),
    ],
)
def test_a_payload_that_is_none(payload: bytes, words: str) -> None:
    with pytest.raises(Refused, match=words):
        read_content(payload)


@pytest.mark.parametrize("transaction", ["a", 1, 1.5, None, "", 0])
def test_the_transaction_comes_back_as_it_was(transaction: Any) -> None:
    assert transaction_of(json.loads(json.dumps({"transaction": transaction}))) == transaction
