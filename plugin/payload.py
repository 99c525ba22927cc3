"""``decode``: a message from the broker becomes an Alert, or a Malformed that says why not.

Nothing else reads payloads. The function is pure; what it was given decides what comes out. Everything is
bounded, because anybody who may publish may send anything.
"""

from __future__ import annotations

import json
import mimetypes
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from plugin.alert import Alert, AlertState, Attachment, Malformed, Message, Priority, Severity

MAX_ID_CHARS: Final = 200
MAX_ADDRESSES: Final = 200
MAX_ATTACHMENTS: Final = 50  # that any configuration may allow
MAX_LABELS: Final = 50
MAX_NESTING: Final = 40

# What an image's texts may be: the rest of its user properties are labels only.
_TEXT_PROPERTIES: Final = frozenset(
    {"id", "title", "subject", "message", "to", "cc", "bcc", "reply_to", "severity", "priority", "state"}
    | {"thread", "template"}
)


def _text(value: object) -> object:
    """Let numbers and truth values pass as text: templates of automations often give them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _identity(value: object) -> object:
    value = _text(value)
    if isinstance(value, str) and not 1 <= len(value) <= MAX_ID_CHARS:
        raise ValueError(f"it has {len(value)} characters and may have 1 to {MAX_ID_CHARS}")
    return value


def _word(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _names(value: object) -> object:
    """Accept one name, several with commas between them, or a list; nothing at all is None."""
    if isinstance(value, str):
        value = value.split(",")
    if isinstance(value, list):
        return [one.strip() if isinstance(one, str) else one for one in value if one != ""] or None
    return value


def _octets(value: object) -> object:
    if not isinstance(value, str):
        return value
    encoded = re.sub(r"\s+", "", re.sub(r"\Adata:[^,]{0,200};base64,", "", value))
    try:
        return b64decode(encoded, validate=True)
    except (Base64Error, ValueError) as error:
        raise ValueError(f"this is not base64 ({error})") from None


Text = Annotated[str, BeforeValidator(_text)]
Names = Annotated[Annotated[list[str], Field(max_length=MAX_ADDRESSES)] | None, BeforeValidator(_names)]


class _Attachment(BaseModel):
    model_config = ConfigDict(extra="forbid")

    filename: str | None = None
    content_type: str | None = None
    data: Annotated[bytes, BeforeValidator(_octets)] | None = None
    path: str | None = None
    content_id: str | None = None


class _Payload(BaseModel):
    model_config = ConfigDict(extra="allow")

    id: Annotated[str, BeforeValidator(_identity)] | None = None
    title: Annotated[Text | None, Field(validation_alias=AliasChoices("title", "subject"))] = None
    message: Text | None = None
    html: str | None = None
    to: Names = None
    cc: Names = None
    bcc: Names = None
    reply_to: str | None = None
    severity: Annotated[Severity | None, BeforeValidator(_word)] = None
    priority: Annotated[Priority | None, BeforeValidator(_word)] = None
    state: Annotated[AlertState | None, BeforeValidator(_word)] = None
    thread: Text | None = None
    template: str | None = None
    data: dict[str, Any] | None = None
    attachments: Annotated[list[_Attachment], Field(max_length=MAX_ATTACHMENTS)] | None = None


class _NotAnAlert(ValueError):
    def __init__(self, key: str | None, reason: str) -> None:
        super().__init__(reason)
        self.key = key


def decode(
    message: Message,
    *,
    base: str,
    alert_id: str,
    payload_bytes: int,
    forbidden_responses: Sequence[str],
    max_attachments: int = MAX_ATTACHMENTS,
    attachments_bytes: int | None = None,
) -> Alert | Malformed:
    """Return what ``message`` says.

    ``base`` is the configured topic prefix, ``alert_id`` the identity of an alert that names none,
    ``payload_bytes`` the largest payload that is read, ``attachments_bytes`` what its attachments may have in all,
    decoded, and ``forbidden_responses`` are the topic prefixes below which no response may be asked for. Never
    raises.
    """
    name = message.topic.removeprefix(f"{base}/email").removeprefix("/")
    response_topic, warnings = _response_topic(message.properties.response_topic, forbidden_responses)
    fields: dict[str, Any] = {}
    state: AlertState = "firing"
    try:
        if len(message.payload) > payload_bytes:
            raise _NotAnAlert(
                None,
                f"The payload has {len(message.payload)} octets and limits.payload_bytes allows {payload_bytes}.",
            )
        if not name:
            raise _NotAnAlert(None, f"The topic lacks a name: publish to {base}/email/<name>.")
        fields, more = _read(message, name)
        payload = _Payload.model_validate(fields)
        state = payload.state or "firing"
        attachments = tuple(
            _attachment(one, f"attachments[{index}]") for index, one in enumerate(payload.attachments or ())
        )
        _limit(attachments, max_attachments, attachments_bytes)
    except (ValidationError, _NotAnAlert) as error:
        key, reason = _fault(error)
        given = fields.get("id")
        return Malformed(
            id=str(given)[:MAX_ID_CHARS] if isinstance(given, str | int) and given != "" else alert_id,
            topic=message.topic,
            name=name,
            state=state,
            key=key,
            reason=reason,
            response_topic=response_topic,
            correlation=message.properties.correlation_data,
            received_at=message.received_at,
        )
    return Alert(
        id=payload.id or alert_id,
        topic=message.topic,
        name=name,
        state=state,
        severity=payload.severity,
        title=payload.title or None,
        message=payload.message or "",
        html=payload.html or None,
        to=None if payload.to is None else tuple(payload.to),
        cc=tuple(payload.cc or ()),
        bcc=tuple(payload.bcc or ()),
        reply_to=payload.reply_to or None,
        priority=payload.priority,
        thread=payload.thread or None,
        template=payload.template or None,
        data={**(payload.model_extra or {}), **(payload.data or {})},
        attachments=attachments,
        labels=message.properties.user_properties[:MAX_LABELS],
        response_topic=response_topic,
        correlation=message.properties.correlation_data,
        warnings=(*warnings, *more),
        received_at=message.received_at,
    )


def _read(message: Message, name: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the payload's keys, and warnings."""
    content_type = (message.properties.content_type or "").partition(";")[0].strip().lower()
    if content_type.startswith("image/"):
        return _image(message, content_type, name), ()
    text = message.payload.decode("utf-8-sig", "replace")
    start = text.lstrip()[:1]
    if start not in ("{", "["):
        return {"message": _clean(text)}, ()
    try:
        value = json.loads(text)
        value = _clean(value)
    except RecursionError:
        raise _NotAnAlert(None, f"The payload is nested deeper than {MAX_NESTING} levels.") from None
    except ValueError as error:
        # Better the raw text in a mail than no mail: an automation with a slip in its template still warns.
        return {"message": _clean(text)}, (f"the payload looks like JSON but is none ({error}); sent as text",)
    if not isinstance(value, dict):
        raise _NotAnAlert(None, "The payload is a JSON array; an alert is a JSON object or plain text.")
    return value, ()


def _image(message: Message, content_type: str, name: str) -> dict[str, Any]:
    texts = dict(message.properties.user_properties)
    extension = mimetypes.guess_extension(content_type) or ""
    picture = _Attachment(
        filename=texts.get("filename") or name.rpartition("/")[2] + extension,
        content_type=content_type,
        data=message.payload,
    )
    fields = {key: value for key, value in texts.items() if key in _TEXT_PROPERTIES}
    return {**fields, "attachments": [picture]}


def _clean(value: Any, depth: int = 0) -> Any:
    """Return ``value`` with lone surrogates replaced: they can be neither mailed nor stored as UTF-8."""
    if depth > MAX_NESTING:
        raise RecursionError
    match value:
        case str():
            return value.encode("utf-8", "replace").decode("utf-8") if not value.isascii() else value
        case dict():
            return {_clean(key): _clean(one, depth + 1) for key, one in value.items()}
        case list():
            return [_clean(one, depth + 1) for one in value]
        case _:
            return value


def _attachment(given: _Attachment, key: str) -> Attachment:
    if (given.data is None) == (given.path is None):
        raise _NotAnAlert(key, f"{key} needs either data (base64) or path.")
    filename = given.filename or (given.path or "").rpartition("/")[2] or "attachment"
    content_type = given.content_type or mimetypes.guess_type(filename)[0] or "application/octet-stream"
    if not re.fullmatch(r"[A-Za-z0-9.+-]{1,100}/[A-Za-z0-9.+-]{1,100}", content_type.partition(";")[0].strip()):
        raise _NotAnAlert(f"{key}.content_type", f"{key}.content_type is no media type such as image/jpeg.")
    return Attachment(
        filename=filename,
        content_type=content_type.partition(";")[0].strip().lower(),
        data=given.data,
        path=given.path,
        content_id=given.content_id or None,
    )


def _limit(attachments: Sequence[Attachment], count: int, total_bytes: int | None) -> None:
    """Refuse more than the configuration allows; what lies in files is weighed when the mail is made."""
    if len(attachments) > count:
        raise _NotAnAlert(
            "attachments", f"attachments has {len(attachments)} entries and limits.attachments allows {count}."
        )
    size_bytes = sum(len(one.data or b"") for one in attachments)
    if total_bytes is not None and size_bytes > total_bytes:
        raise _NotAnAlert(
            "attachments",
            f"attachments have {size_bytes} octets in all and limits.attachments_bytes allows {total_bytes}.",
        )


_EXPECTED: Final[dict[str, str]] = {
    "string_type": "must be text",
    "list_type": "must be text or a list of texts",
    "attachments:list_type": "must be a list of objects",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "bytes_type": "must be base64 text",
    "extra_forbidden": "is not a key of an attachment",
    "too_long": "has too many entries",
}


def _fault(error: ValidationError | _NotAnAlert) -> tuple[str | None, str]:
    """Return the offending key and one sentence."""
    if isinstance(error, _NotAnAlert):
        return error.key, str(error)
    first = error.errors(include_url=False)[0]
    key = ""
    for part in first["loc"]:
        if isinstance(part, int):
            key += f"[{part}]"
        elif not part.startswith("function-"):
            key += f".{part}" if key else part
    if first["type"] == "literal_error":
        what = f"must be {first['ctx']['expected']}"
    elif first["type"] == "value_error":
        what = f"is wrong: {first['ctx']['error']}"
    else:
        what = _EXPECTED.get(f"{key}:{first['type']}") or _EXPECTED.get(first["type"], first["msg"])
    return key, f"{key} {what}."


def _response_topic(topic: str | None, forbidden: Sequence[str]) -> tuple[str | None, tuple[str, ...]]:
    """Return ``topic`` if it may be answered to (no loops, no borrowed voice), else None and the warning."""
    if not topic:
        return None, ()
    why: Literal["", "has wildcards", "is reserved"] = ""
    if set(topic) & set("+#\0"):
        why = "has wildcards"
    elif topic.startswith("$") or any(topic == one or topic.startswith(f"{one}/") for one in forbidden):
        why = "is reserved"
    return (None, (f"the response topic {topic!r} {why}; no response is sent",)) if why else (topic, ())
