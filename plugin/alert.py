"""The values that flow through the house. ``plugin.payload`` makes alerts of messages.

A ``Message`` is what the broker hands over, an ``Alert`` what it says, a ``Malformed`` why it says nothing
that could be mailed, a ``Letter`` sealed mail, an ``Attempt`` one try at the wire, an ``Outcome`` what became
of the alert. All are frozen; durations end in ``_s``, sizes in ``_bytes``; times are aware and in UTC.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

Severity = Literal["info", "warning", "critical"]
Priority = Literal["lowest", "low", "normal", "high", "highest"]
AlertState = Literal["firing", "resolved"]
EventType = Literal["success", "failure", "deferred"]
RecipientState = Literal["accepted", "refused", "expired", "deferred", "denied", "dropped"]
Phase = Literal[
    "decode",
    "route",
    "compose",
    "connect",
    "greeting",
    "hello",
    "tls",
    "auth",
    "mail",
    "rcpt",
    "data",
    "content",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """The MQTT 5 properties (§3.3.2.3) that mean something to us; all empty for MQTT 3.1.1."""

    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    user_properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One PUBLISH as the broker handed it over, not acknowledged yet.

    ``connection`` counts the connections of this process: a packet identifier means nothing on another one.
    """

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int
    connection: int
    properties: Properties = field(default_factory=Properties)
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file to go with the mail: ``data`` as it came, or ``path`` to read on this machine."""

    filename: str
    content_type: str
    data: bytes | None = None
    path: str | None = None
    content_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """What a message says. ``to`` None means: whom the route names. ``id`` and ``state`` are its identity."""

    id: str
    topic: str
    name: str
    state: AlertState = "firing"
    severity: Severity | None = None
    title: str | None = None
    message: str = ""
    html: str | None = None
    to: tuple[str, ...] | None = None
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    reply_to: str | None = None
    priority: Priority | None = None
    thread: str | None = None
    template: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    response_topic: str | None = None
    correlation: bytes | None = None
    warnings: tuple[str, ...] = ()
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """A message that is no alert: ``reason`` is one sentence for people and names the offending ``key``."""

    id: str
    topic: str
    name: str
    state: AlertState = "firing"
    key: str | None
    reason: str
    phase: Phase = "decode"
    response_topic: str | None = None
    correlation: bytes | None = None
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """Sealed mail: the octets never change again, and neither do the Date and Message-ID in them.

    ``content`` has CRLF line ends and 7-bit octets only; dot-stuffing is the SMTP client's. ``recipients``
    are those that are due now, bare addresses. ``notes`` say what had to be left out or replaced.
    """

    id: int
    alert_ids: tuple[str, ...]
    route: str
    subject: str
    message_id: str
    sender: str
    recipients: tuple[str, ...]
    content: bytes
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientOutcome:
    """The fate of one recipient so far; ``code``, ``enhanced`` and ``text`` are the server's own words."""

    address: str
    state: RecipientState
    phase: Phase
    code: int | None = None
    enhanced: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try to hand a letter to a relay: what came of it for each recipient, and the dialogue itself.

    ``fault`` is None or one sentence on what went wrong with the connection as a whole. ``transcript`` holds
    the SMTP dialogue, passwords masked.
    """

    relay: str | None
    recipients: tuple[RecipientOutcome, ...]
    phase: Phase
    fault: str | None = None
    greeting: str | None = None
    tls: str | None = None
    authenticated: bool = False
    possible_duplicate: bool = False
    started_at: datetime
    duration_s: float
    transcript: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an alert, as it is published. ``name`` and ``correlation`` steer, but are not part of it."""

    id: str
    name: str
    event_type: EventType
    topic: str
    route: str | None = None
    subject: str | None = None
    message_id: str | None = None
    reason: str | None = None
    recipients: tuple[RecipientOutcome, ...] = ()
    relay: str | None = None
    greeting: str | None = None
    tls: str | None = None
    authenticated: bool = False
    attempts: int = 0
    next_attempt_at: datetime | None = None
    possible_duplicate: bool = False
    received_at: datetime
    settled_at: datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the outcome with the keys and shapes that users build on (docs/contract.md)."""
        duration = (self.settled_at - self.received_at).total_seconds() if self.settled_at else None
        return {
            "id": self.id,
            "event_type": self.event_type,
            "topic": self.topic,
            "route": self.route,
            "subject": self.subject,
            "message_id": self.message_id,
            "reason": self.reason,
            "recipients": [
                {
                    "address": one.address,
                    "state": one.state,
                    "phase": one.phase,
                    "code": one.code,
                    "enhanced": one.enhanced,
                    "text": one.text,
                }
                for one in self.recipients
            ],
            "relay": self.relay,
            "greeting": self.greeting,
            "tls": self.tls,
            "authenticated": self.authenticated,
            "attempts": self.attempts,
            "next_attempt_at": timestamp(self.next_attempt_at),
            "possible_duplicate": self.possible_duplicate,
            "received_at": timestamp(self.received_at),
            "settled_at": timestamp(self.settled_at),
            "duration_s": None if duration is None else round(duration, 3),
        }

    def as_json(self) -> bytes:
        """Return ``as_dict`` as one line of JSON, UTF-8."""
        return json.dumps(self.as_dict(), ensure_ascii=False).encode("utf-8", "replace")


def timestamp(at: datetime | None) -> str | None:
    """Return ``at`` as RFC 3339 in UTC with milliseconds, or None."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
