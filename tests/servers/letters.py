"""Letters that can be told from all others: each has a token in its reverse-path and in its Message-ID."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from typing import Final

from plugin.smtp import Envelope

TOKEN: Final = re.compile(r"[0-9a-f]{32}(?=@letter\.test)")

ALERTS: Final = "alerts@rig.test"
OPS: Final = "ops@rig.test"
NOBODY: Final = "nobody@rig.test"
GREYLISTED: Final = "grey@rig.test"
FULL: Final = "full@rig.test"
POLICY: Final = "policy@rig.test"
ABROAD: Final = "alerts@elsewhere.test"
"""A domain that the servers relay for nobody who has not authenticated; what they accept they throw away."""

TRICKY: Final = b"".join(
    (
        b"one\r\n.\r\n..\r\n.two\r\n\r\nQUIT\r\n",
        b"x" * 998 + b"\r\n",
        b"." + b"y" * 997 + b"\r\n",
        b"\t blanks \t\r\nFrom the first\r\n\r\n.\r\n",
    )
)
"""What the transport has to carry through: dots, a lone dot, empty lines, lines of full length, what looks like
a command or like the head of an mbox."""
LARGE: Final = b"".join(b".%069d\r\n" % number for number in range(7_000))
"""Some 500 kB, no two lines alike, a dot in front of each."""
TOO_LARGE: Final = LARGE * 3
"""More than the 1,048,576 octets that every server with a limit has."""


def letter(*, to: Sequence[str] = (ALERTS,), body: bytes = TRICKY, sender: str | None = None) -> Envelope:
    """Return a new letter, whole with a header to which no server needs to add anything."""
    token = uuid.uuid4().hex
    header = (
        f"Message-ID: <{token}@letter.test>\r\nDate: Wed, 01 Jan 2025 00:00:00 +0000\r\n"
        "From: House <house@letter.test>\r\nTo: alerts@rig.test\r\nSubject: real servers\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n"
    )
    return Envelope(
        sender=f"{token}@letter.test" if sender is None else sender,
        recipients=tuple(to),
        content=header.encode("ascii") + body,
    )


def nothing() -> Envelope:
    """Return a letter without a single octet of content; its token is in the reverse-path alone."""
    return Envelope(sender=f"{uuid.uuid4().hex}@letter.test", recipients=(ALERTS,), content=b"")


def token_of(envelope: Envelope) -> str:
    found = TOKEN.search(envelope.sender) or TOKEN.search(envelope.content[:100].decode("ascii"))
    assert found is not None, "no letter of ours"
    return found[0]
