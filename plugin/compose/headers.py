"""The header section (RFC 5322 §3.6) as ready ASCII lines.

The email package parses what it is given as a header: it takes encoded words in a title apart, and turns long
identifiers into encoded words, which breaks threads. So its ``Header`` encodes (RFC 2047) the phrases, and the
lines are put together here, where every value is either made by us or checked.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from email.header import Header
from email.utils import format_datetime
from typing import Final

from plugin.alert import Alert, Priority, Severity
from plugin.compose.text import single_line, undirected
from plugin.route import parse_address

MAX_SUBJECT_CHARS: Final = 200
MAX_LINE_CHARS: Final = 76  # RFC 2047 §2, of a line with encoded words; RFC 5322 §2.1.1 would like 78 of any other
# With "Message-ID: " in front it fits into a line of 78; from 77 octets on, some software encodes identifiers.
MAX_ID_CHARS: Final = 66
MAX_GIVEN_ID_CHARS: Final = 70
MAX_TOKEN_CHARS: Final = 60
MAX_GROUP_LINE_CHARS: Final = 64  # what is left of a line by "To: " and by the end of a group

_MESSAGE_ID: Final = re.compile(r"<[!-;=?-~]+@[!-;=?-~]+>")
_PRINTABLE: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")

# X-Priority has numbers, Importance (RFC 2156) and Priority (RFC 2156) words; mail programs read one or another.
_PRIORITIES: Final[dict[Priority, tuple[str, str, str]]] = {
    "highest": ("1 (Highest)", "high", "urgent"),
    "high": ("2 (High)", "high", "urgent"),
    "normal": ("3 (Normal)", "normal", "normal"),
    "low": ("4 (Low)", "low", "non-urgent"),
    "lowest": ("5 (Lowest)", "low", "non-urgent"),
}


def subject_line(text: str) -> str:
    """Return ``text`` as a subject: one line, at most 200 characters, no control characters."""
    return single_line(undirected(text), MAX_SUBJECT_CHARS)


def new_message_id(sender: str) -> str:
    """Return a new Message-ID (RFC 5322 §3.6.4) below the domain of ``sender``, at most 66 octets."""
    return f"<{uuid.uuid4().hex}@{id_domain(sender)}>"


def checked_message_id(text: str) -> str:
    """Return ``text`` in angle brackets; ValueError when it is no Message-ID of at most 70 octets."""
    given = text if text.startswith("<") else f"<{text}>"
    if not _MESSAGE_ID.fullmatch(given) or len(given) > MAX_GIVEN_ID_CHARS:
        raise ValueError(f"{text!r} is not a Message-ID (RFC 5322 §3.6.4) of at most {MAX_GIVEN_ID_CHARS} octets")
    return given


def thread_id(key: str, sender: str) -> str:
    """Return the identifier that all mails of one thread refer to; the same for ever for the same ``key``."""
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return f"<thread.{digest}@{id_domain(sender)}>"


def id_domain(sender: str) -> str:
    """Return the right side for identifiers: the sender's domain, or as many of its last labels as fit."""
    domain = sender.rpartition("@")[2]
    room = MAX_ID_CHARS - len("<@>") - 32  # a UUID in hexadecimal; a thread's left side has 31
    while len(domain) > room and "." in domain and not domain.startswith("["):
        domain = domain.partition(".")[2]
    return domain if len(domain) <= room else "hardwire.invalid"


def header_section(
    *,
    alert: Alert,
    severity: Severity,
    sender: tuple[str, str],
    to: Sequence[str],
    cc: Sequence[str],
    reply_to: str | None,
    subject: str,
    date: datetime,
    identifier: str,
    product: str,
) -> bytes:
    """Return the header lines with CRLF ends, MIME-Version last; the MIME headers of the content follow it.

    Every line is printable ASCII; blind recipients are not in it. Addresses outside ASCII are written as names of
    empty groups, what is no address is left out: the envelope alone decides who gets the mail.
    """
    thread = thread_id(alert.thread or alert.topic, sender[1])
    number, importance, urgency = _PRIORITIES[alert.priority or ("high" if severity == "critical" else "normal")]
    fields: list[tuple[str, str | None]] = [
        ("Date", format_datetime(date)),
        ("From", _mailbox(*sender)),
        ("Reply-To", _addresses("Reply-To", [reply_to] if reply_to else [])),
        ("To", _addresses("To", to) or (None if cc else "undisclosed-recipients:;")),
        ("Cc", _addresses("Cc", cc)),
        ("Subject", _unstructured(subject, "Subject")),
        ("Message-ID", identifier),
        ("In-Reply-To", thread),
        ("References", thread),
        ("Auto-Submitted", "auto-generated"),
        ("X-Priority", number),
        ("Importance", importance),
        ("Priority", urgency),
        ("User-Agent", _token(f"Hardwire/{product}")),
        ("X-Hardwire-Alert-Id", _token(alert.id)),
        ("X-Hardwire-Topic", _token(alert.topic)),
        ("X-Hardwire-State", alert.state),
        ("MIME-Version", "1.0"),
    ]
    return "".join(f"{name}: {value}\r\n" for name, value in fields if value).encode("ascii")


def _unstructured(text: str, name: str) -> str:
    """Return ``text`` as it is, folded; encoded if it must be, looks so already, or is too long to be folded."""
    plain = text.isascii() and "=?" not in text and max(map(len, text.split())) <= MAX_TOKEN_CHARS
    if not plain:
        return _encoded(text, name)
    return Header(text, "us-ascii", maxlinelen=MAX_LINE_CHARS, header_name=name).encode(linesep="\r\n")


def _encoded(text: str, name: str | None = None, *, max_line_chars: int = MAX_LINE_CHARS) -> str:
    """Return ``text`` in encoded words (RFC 2047), folded; good for a phrase as well."""
    return Header(text, "utf-8", maxlinelen=max_line_chars, header_name=name).encode(linesep="\r\n")


def _mailbox(name: str, address: str) -> str:
    if not name:
        return address
    shown = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if not name.isascii() or "=?" in name or len(f"From: {shown}") > MAX_LINE_CHARS:
        shown = _encoded(name, "From")
    return f"{shown} <{address}>" if len(shown) + len(address) < 60 else f"{shown}\r\n <{address}>"


def _addresses(name: str, addresses: Iterable[str]) -> str | None:
    """Fold a list of bare addresses: as many on a line as fit into it."""
    shown = [one for one in map(_address, addresses) if one]
    lines = [f"{name}:"]
    for one in [*(f"{one}," for one in shown[:-1]), *shown[-1:]]:
        first, *more = one.split("\r\n")
        if lines != [f"{name}:"] and len(lines[-1]) + 1 + len(first) > MAX_LINE_CHARS:
            lines.append("")
        lines[-1] += f" {first}"
        lines += more
    return "\r\n".join(lines).partition(": ")[2] or None


def _address(address: str) -> str | None:
    """Return an address as it stands in a list, or None for what is none.

    One outside ASCII is written as RFC 6857 §3 downgrades it, since a 7-bit header cannot hold it: as the name,
    encoded, of a group without members (RFC 6854). People can read it; no parser finds a broken address.
    """
    try:
        address = parse_address(address)
    except ValueError:
        return None
    return address if address.isascii() else f"{_encoded(address, max_line_chars=MAX_GROUP_LINE_CHARS)} :;"


def _token(text: str) -> str | None:
    """Return ``text`` if it is short printable ASCII that no mail program can misread, else None."""
    safe = len(text) <= MAX_TOKEN_CHARS and "=?" not in text and _PRINTABLE.fullmatch(text)
    return text if safe else None
