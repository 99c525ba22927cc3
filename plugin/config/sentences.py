"""From pydantic's errors to sentences for people, and to the data without what they complain about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from plugin.config.document import UNSOUND
from plugin.config.faults import Finding, KeyPath, did_you_mean
from plugin.config.model import schema_keys
from plugin.route import quoted

# what to write where a key is missing that has no default
_REMEDIES: Final[Mapping[str, str]] = {
    "relays": "name at least one mail server, such as - {host: 192.168.1.10, security: none}",
    "sender": 'write who the mails come from, such as "House <house@example.net>"',
    "routes": 'write who gets what, such as - {topic: "#", to: [alice]}',
    "host": "write the server's name or IPv4 address",
    "topic": 'write a topic filter, such as water_leak/# or "#"',
    "chip": "write the GPIO chip, such as /dev/gpiochip0",
    "line": "write the number of the line",
}


def _unquoted(error: ErrorDetails) -> str:
    if isinstance(error["input"], bool | int | float):
        return "must be text: write the value in quotes"
    return "must be text"


def _one_of(error: ErrorDetails) -> str:
    choices = error["ctx"]["expected"].replace("'", "")
    near = (
        did_you_mean(error["input"], choices.replace(" or ", ", ").split(", ")) if _is_text(error["input"]) else ""
    )
    return f"must be {choices}{near}"


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _context(template: str) -> Callable[[ErrorDetails], str]:
    """Fill ``template`` from pydantic's context; 600.0 is said as 600."""
    return lambda error: template.format(
        **{key: f"{value:.12g}" if isinstance(value, float) else value for key, value in error["ctx"].items()}
    )


def _always(text: str) -> Callable[[ErrorDetails], str]:
    return lambda _error: text


_SECTION = _always("must be a section: lines of the form `key: value`, indented below it")
_WHOLE = _always("must be a whole number")
_NUMBER = _always("must be a number")
_TRUTH = _always("must be true or false")

_SENTENCES: Final[Mapping[str, Callable[[ErrorDetails], str]]] = {
    "string_type": _unquoted,
    "string_too_short": _always("must not be empty"),
    "string_too_long": _context("must have at most {max_length} characters"),
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "bool_type": _TRUTH,
    "bool_parsing": _TRUTH,
    "literal_error": _one_of,
    "tuple_type": _always("must be a list: [one, two], or lines that begin with -"),
    "dict_type": _SECTION,
    "model_type": _SECTION,
    "model_attributes_type": _SECTION,
    "greater_than": _context("must be more than {gt}"),
    "greater_than_equal": _context("must be at least {ge}"),
    "less_than_equal": _context("must be at most {le}"),
    "too_short": _always("must not be empty"),
    "too_long": _context("must have at most {max_length}"),
    "value_error": lambda error: str(error["ctx"]["error"]),
}


def explain(error: ValidationError, data: Any) -> list[Finding]:
    """Return what ``error`` has found in ``data``, without what has been noted already (UNSOUND)."""
    findings = []
    for one in error.errors(include_url=False):
        path: KeyPath = one["loc"]
        if one["input"] is UNSOUND or _counts_sound_items_only(one):
            continue
        if one["type"] == "missing":
            findings.append(Finding(path, f"is missing: {_REMEDIES[str(path[-1])]}"))
        elif one["type"] == "extra_forbidden":
            findings.append(Finding(path, _unknown_key(path)))
        else:
            findings.append(Finding(_within(data, path), _sentence(one)))
    return findings


def _counts_sound_items_only(error: ErrorDetails) -> bool:
    """Tell whether a list is too short only because its items have faults of their own."""
    value = error["input"]
    return error["type"] == "too_short" and isinstance(value, list) and len(value) >= error["ctx"]["min_length"]


def _sentence(error: ErrorDetails) -> str:
    said = _SENTENCES.get(error["type"])
    text = said(error) if said else error["msg"]
    value = error["input"]
    if text.startswith('"') or isinstance(value, bool) or not isinstance(value, str | int | float):
        return text
    return f"{quoted(str(value))} {text}"


def _unknown_key(path: KeyPath) -> str:
    word = str(path[-1])
    parent = _generic(path[:-1])
    keys = schema_keys()
    siblings = [key.removeprefix(parent) for key in keys if key.startswith(parent)]
    siblings = [key for key in siblings if "." not in key]
    near = did_you_mean(word, siblings)
    if near:
        return f"is no known key{near}"
    elsewhere = [key for key in keys if key.rpartition(".")[2] == word]
    if elsewhere:
        return f"is no known key here; there is {' and '.join(elsewhere)}"
    return f"is no known key; here are known: {', '.join(siblings)}"


def _generic(path: KeyPath) -> str:
    """Return the beginning of the keys below ``path`` as ``schema_keys`` spells them: ``relays[].``."""
    text = ""
    for part in path:
        text += "[]" if isinstance(part, int) else f".{part}" if text else part
    return f"{text}." if text else ""


def _within(data: Any, path: KeyPath) -> KeyPath:
    """Return as much of ``path`` as there is in ``data``: pydantic also sees lists where one name was written."""
    for depth, part in enumerate(path):
        is_there = part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int)
        if not is_there:
            return path[:depth]
        data = data[part]
    return path


def sound(data: Any, faulty: AbstractSet[KeyPath], path: KeyPath = ()) -> Any:
    """Return ``data`` with UNSOUND at every path in ``faulty``."""
    if path in faulty:
        return UNSOUND
    if isinstance(data, dict):
        return {key: sound(value, faulty, (*path, key)) for key, value in data.items()}
    if isinstance(data, list):
        return [sound(value, faulty, (*path, position)) for position, value in enumerate(data)]
    return data
