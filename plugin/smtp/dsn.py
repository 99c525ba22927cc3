"""What a relay is asked to tell the sender of a letter later, by mail: notifications of RFC 3461."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

from plugin.smtp.envelope import Envelope

Notify = Literal["NEVER", "SUCCESS", "FAILURE", "DELAY"]

MAX_ENVID_BYTES: Final = 100  # RFC 3461 §4.4

_NOT_XTEXT: Final = re.compile(rb"[^!-*,-<>-~]")  # RFC 3461 §4: visible US-ASCII but "+" and "="


def check_notify(notify: Sequence[Notify]) -> None:
    """Raise ValueError unless ``notify`` can stand behind NOTIFY= (RFC 3461 §4.1): NEVER goes alone."""
    if "NEVER" in notify and len(notify) > 1:
        raise ValueError("NOTIFY is NEVER, or a choice of SUCCESS, FAILURE and DELAY")


def mail_parameters(envelope: Envelope, notify: Sequence[Notify]) -> list[str]:
    """Return the parameters for MAIL; none where nothing is asked for. Notifications bring the header, not all."""
    if not notify or notify[0] == "NEVER":
        return []
    envid = _xtext(envelope.envid)
    return ["RET=HDRS", *([f"ENVID={envid}"] if 0 < len(envid) <= MAX_ENVID_BYTES else [])]


def rcpt_parameters(address: str, notify: Sequence[Notify]) -> list[str]:
    """Return the parameters for RCPT; an address that is not ASCII would need a form of its own (RFC 6533)."""
    if not notify:
        return []
    original = [f"ORCPT=rfc822;{_xtext(address)}"] if address.isascii() and notify[0] != "NEVER" else []
    return [f"NOTIFY={','.join(notify)}", *original]


def _xtext(text: str) -> str:
    return _NOT_XTEXT.sub(lambda found: b"+%02X" % found[0][0], text.encode()).decode("ascii")
