"""What templates see of an alert: its fields, its data's keys, and ``mail`` for what the mail itself needs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

from plugin.alert import Alert, Severity
from plugin.compose.headers import subject_line
from plugin.compose.text import ELLIPSIS, clean, shorten, single_line

MAX_MESSAGE_CHARS: Final = 100_000
MAX_ROWS: Final = 100
MAX_KEY_CHARS: Final = 80
MAX_VALUE_CHARS: Final = 2000
MAX_VALUE_LINES: Final = 60
MAX_FLAT_CHARS: Final = 60
MAX_DEPTH: Final = 6
EMPTY: Final = "-"
MAX_PREHEADER_CHARS: Final = 140


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the data table; ``nested`` values keep their indentation."""

    key: str
    value: str
    nested: bool


def default_title(name: str) -> str:
    """Return a subject made of the alert's name: ``garage/front_door`` gives ``Garage / Front door``."""
    levels = (" ".join(level.replace("_", " ").replace("-", " ").split()) for level in name.split("/"))
    return subject_line(" / ".join(level[0].upper() + level[1:] for level in levels if level)) or "Alert"


def title(alert: Alert) -> str:
    """Return the alert's title as one line, or the default made of its name."""
    return subject_line(alert.title or "") or default_title(alert.name)


def message(alert: Alert) -> str:
    """Return the alert's text, at most 100,000 characters: what is longer travels as an attachment."""
    return shorten(clean(alert.message).strip("\n"), MAX_MESSAGE_CHARS)


def rows(data: Mapping[str, Any]) -> tuple[list[Row], int]:
    """Return the rows of the data table, at most 100, and how many more there are."""
    shown = [_row(key, value) for key, value in list(data.items())[:MAX_ROWS]]
    return shown, len(data) - len(shown)


def local_time(at: datetime) -> str:
    """Return an aware time to the second with its zone: ``2026-11-23 18:26:05 CET``."""
    return f"{at:%Y-%m-%d %H:%M:%S} {at.tzname() or at.strftime('%z')}"


def variables(
    alert: Alert,
    *,
    severity: Severity,
    received_at: datetime,
    product: str,
    pictures: Sequence[Mapping[str, Any]] = (),
    files: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the variables of a template: fields of the alert win over keys of its data, ``mail`` over both.

    ``mail`` holds: subject, state and severity for people, time, rows and more_rows of the data table, pictures
    (cid, name, width or None) and files (name, size) that go along, preheader, version, text.
    """
    shown, more = rows(alert.data)
    subject, body = title(alert), message(alert)
    fields = {
        "title": subject,
        "message": body,
        "name": clean(alert.name),
        "topic": clean(alert.topic),
        "severity": severity,
        "state": alert.state,
        "received_at": received_at.replace(microsecond=0),
        "id": clean(alert.id),
        "labels": dict(alert.labels),
        "data": alert.data,
        "mail": {
            "subject": subject,
            "state": alert.state.capitalize(),
            "severity": severity.capitalize(),
            "tone": "resolved" if alert.state == "resolved" else severity,
            "time": local_time(received_at),
            "rows": shown,
            "more_rows": more,
            "pictures": list(pictures),
            "files": list(files),
            "preheader": single_line(body, MAX_PREHEADER_CHARS),
            "version": product,
            "text": None,
        },
    }
    return {**{key: value for key, value in alert.data.items() if key.isidentifier()}, **fields}


def _row(key: str, value: Any) -> Row:
    nested = isinstance(value, Mapping | list | tuple) and bool(value)
    try:
        lines = list(islice(_lines(value, 0), MAX_VALUE_LINES + 1))
    except (RecursionError, ValueError):  # ValueError: an integer of thousands of digits
        lines = ["(too deeply nested, or too long, to be shown)"]
    if len(lines) > MAX_VALUE_LINES:
        lines[MAX_VALUE_LINES:] = [ELLIPSIS]
    shown = clean(shorten("\n".join(lines), MAX_VALUE_CHARS)).strip("\n")
    return Row(key=single_line(key, MAX_KEY_CHARS) or EMPTY, value=shown or EMPTY, nested=nested)


def _lines(value: Any, depth: int) -> Iterator[str]:
    """Write a value for people: what is short stays on one line, as JSON; the rest is indented below its key."""
    if isinstance(value, str):
        yield from value[: MAX_VALUE_CHARS + 1].splitlines() or [""]
    elif (flat := _flat(value)) is not None or depth == MAX_DEPTH:
        yield flat or ELLIPSIS
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _below(f"{single_line(key, MAX_KEY_CHARS)}:", inner, depth)
    else:
        for inner in value:
            yield from _below("-", inner, depth)


def _below(head: str, value: Any, depth: int) -> Iterator[str]:
    lines = _lines(value, depth + 1)
    first = next(lines)
    if isinstance(value, str) or _flat(value) is not None or depth + 1 == MAX_DEPTH or head == "-":
        yield f"{head} {first}"
    else:
        yield head
        yield f"  {first}"
    yield from (f"  {line}" for line in lines)


def _flat(value: Any) -> str | None:
    """Return a value as one line of JSON if that is at most 60 characters, without writing all of a long one."""
    if not isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    text = ""
    for chunk in json.JSONEncoder(ensure_ascii=False, default=str).iterencode(value):
        text += chunk
        if len(text) > MAX_FLAT_CHARS:
            return None
    return text
