"""Requests to the bridge, as they come by MQTT or from a command: what they say, or why they say nothing. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final, Literal, get_args

Verb = Literal["test", "retry", "drop", "pause", "resume", "reload", "status"]
VERBS: Final[tuple[Verb, ...]] = get_args(Verb)

MAX_REQUEST_BYTES: Final = 65_536
MAX_TRANSACTION_CHARS: Final = 200
MAX_LETTERS: Final = 1000
MAX_TO: Final = 100
MAX_TO_CHARS: Final = 400

KEYS: Final[Mapping[Verb, frozenset[str]]] = {
    "test": frozenset({"to"}),
    "retry": frozenset({"letters"}),
    "drop": frozenset({"letters"}),
    "pause": frozenset({"paused"}),
    "resume": frozenset(),
    "reload": frozenset(),
    "status": frozenset(),
}


class Refused(Exception):
    """A request that is not carried out; the text is one sentence for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What somebody asks of the bridge.

    ``letters`` None: all that it can be about. ``to`` None: whom the route names. ``transaction`` is theirs.
    """

    verb: Verb
    transaction: Any = None
    to: tuple[str, ...] | None = None
    letters: tuple[int, ...] | None = None
    paused: bool = True


def read_content(payload: bytes) -> dict[str, Any]:
    """Return the object that ``payload`` holds, {} for an empty one; Refused."""
    if len(payload) > MAX_REQUEST_BYTES:
        raise Refused(f"the request has {len(payload)} octets and may have {MAX_REQUEST_BYTES}")
    if not payload.strip():
        return {}
    try:
        content = json.loads(payload.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise Refused('the request is no JSON: send an object such as {"transaction": "1"}, or nothing') from None
    if not isinstance(content, dict):
        raise Refused('the request is no JSON object: send one such as {"transaction": "1"}, or nothing')
    return content


def transaction_of(content: Mapping[str, Any]) -> Any:
    """Return what is echoed, so that who asked knows the answer again; None if there is none; Refused."""
    transaction = content.get("transaction")
    endless = isinstance(transaction, float) and not isfinite(transaction)  # Python reads NaN, which JSON has not
    if endless or (transaction is not None and not isinstance(transaction, str | int | float)):
        raise Refused("transaction must be text or a number")
    if len(str(transaction)) > MAX_TRANSACTION_CHARS:
        raise Refused(f"transaction may have {MAX_TRANSACTION_CHARS} characters")
    return transaction


def request_of(verb: str, content: Mapping[str, Any]) -> Request:
    """Return the request; Refused names the key that is wrong."""
    known = next((one for one in VERBS if one == verb), None)
    if known is None:
        raise Refused(f"there is no request {verb[:60]!r}; there are {', '.join(VERBS)}")
    unknown = sorted(content.keys() - KEYS[known] - {"transaction"})
    if unknown:
        keys = ", ".join(sorted(KEYS[known] | {"transaction"}))
        raise Refused(f"{unknown[0][:60]} is no key of {verb}; known are {keys}")
    paused = content.get("paused")
    if paused is not None and not isinstance(paused, bool):
        raise Refused("paused must be true or false")
    letters = content.get("letters")
    if known == "drop" and letters is None:
        raise Refused('letters is missing: give a list of numbers, or "all" for all that wait')
    return Request(
        verb=known,
        transaction=transaction_of(content),
        to=_to(content.get("to")),
        letters=_letters(letters),
        paused=paused is not False,
    )


def _to(value: Any) -> tuple[str, ...] | None:
    listed = [one.strip() for one in value.split(",")] if isinstance(value, str) else value
    if listed is None:
        return None
    if not isinstance(listed, list) or not all(isinstance(one, str) and one for one in listed):
        raise Refused("to must be a name or an address, or a list of them")
    if not 1 <= len(listed) <= MAX_TO or any(len(one) > MAX_TO_CHARS for one in listed):
        raise Refused(f"to must have 1 to {MAX_TO} entries of at most {MAX_TO_CHARS} characters")
    return tuple(listed)


def _letters(value: Any) -> tuple[int, ...] | None:
    if value is None or value == "all":
        return None
    listed = value if isinstance(value, list) else [value]
    if not all(isinstance(one, int) and not isinstance(one, bool) and 0 < one < 2**63 for one in listed):
        raise Refused('letters must be a list of numbers, as `hardwire outbox list` shows them, or "all"')
    if not 1 <= len(listed) <= MAX_LETTERS:
        raise Refused(f"letters must name 1 to {MAX_LETTERS} letters")
    return tuple(dict.fromkeys(listed))
