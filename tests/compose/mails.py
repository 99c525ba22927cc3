"""What the tests of compose share: alerts, directions, a composer, and a strict reader of what it made."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Any

from plugin.alert import Alert
from plugin.compose import Composer, Sealed
from plugin.route import Directions
from plugin.smtp.envelope import Envelope

RECEIVED = datetime(2026, 11, 23, 17, 26, 5, 123000, tzinfo=UTC)
DATE = datetime(2026, 11, 23, 17, 26, 6, tzinfo=UTC)
CET = timezone(timedelta(hours=1), "CET")
MESSAGE_ID = "<0123456789abcdef@example.net>"
ALERT = Alert(
    id="7f3a",
    topic="alerts/email/cellar/water_leak",
    name="cellar/water_leak",
    title="Water leak",
    message="Water in the cellar.",
    received_at=RECEIVED,
)
ADDRESS_FIELDS = frozenset({"From", "Reply-To", "To", "Cc"})
DIRECTIONS = Directions(route="#", template="alert", severity="critical", to=("alice@example.net",))


def alert(**changes: Any) -> Alert:
    return replace(ALERT, **changes)


def directions(**changes: Any) -> Directions:
    return replace(DIRECTIONS, **changes)


def composer(templates_dir: Path | None = None, **changes: Any) -> Composer:
    given: dict[str, Any] = {
        "sender": "House <house@example.net>",
        "max_attachment_bytes": 10 * 1024 * 1024,
        "product_version": "1.2.3",
        "zone": CET,
    }
    return Composer(templates_dir=templates_dir, **{**given, **changes})


def seal(
    given: Alert, *, templates_dir: Path | None = None, way: Directions = DIRECTIONS, **changes: Any
) -> Sealed:
    return composer(templates_dir, **changes).seal(given, way, date=DATE, message_id=MESSAGE_ID)


def read(sealed: Sealed) -> EmailMessage:
    """Parse a mail and hold it to what every server takes: 7-bit, CRLF alone, bounded lines, no defects.

    Identifiers stay as they are, in one piece of at most 70 octets, and every address parses.
    """
    content = sealed.content
    Envelope(sender=sealed.sender, recipients=("alice@example.net",), content=content)
    assert content.endswith(b"\r\n")
    mail = message_from_bytes(content, policy=SMTP)
    for part in mail.walk():
        assert not part.defects
        for name, value in part.items():
            faults = (
                value.defects
                if name in ADDRESS_FIELDS
                else [one for one in value.defects if "encoded" in str(one)]
            )
            assert not faults
    section = content.partition(b"\r\n\r\n")[0]
    for field in (b"Message-ID", b"In-Reply-To", b"References"):
        assert re.search(rb"(?m)^" + field + rb": <[^\s<>]{1,68}>\r?$", section)
    return mail


def text_of(mail: EmailMessage) -> str:
    part = mail.get_body(("plain",))
    assert isinstance(part, EmailMessage)
    return str(part.get_content()).replace("\r\n", "\n")


def html_of(mail: EmailMessage) -> str:
    part = mail.get_body(("html",))
    assert isinstance(part, EmailMessage)
    return str(part.get_content()).replace("\r\n", "\n")


def shape(mail: EmailMessage) -> list[str]:
    return [part.get_content_type() for part in mail.walk()]


def png(width: int = 1, height: int = 1) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\x80\x10\x10" * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
