"""What goes to the relay, guarded: nothing that is not an address, a name or 7-bit content gets any further.

An address or a name that carried a line break, a blank or an angle bracket would be a second command or a second
parameter; content with a bare LF would end the letter early at some servers and turn the rest into commands.
So both are refused here, at construction, and the session may rely on it.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Final

MAX_ADDRESS_BYTES: Final = 254  # RFC 5321 §4.5.3.1.3: 256 for the path, its angle brackets included
MAX_NAME_BYTES: Final = 255  # RFC 5321 §4.5.3.1.2
MAX_LINE_BYTES: Final = 998  # RFC 5322 §2.1.1: 1000 with its CRLF

_ATOM: Final = re.compile(r"[!-;=?-~]+")  # visible US-ASCII without "<" and ">"
_UTF8_LOCAL_PART: Final = re.compile(r"[!#-;=?A-~\x80-\U0010ffff]+")  # RFC 6531 §3.3; no quotes, no "@"
_BRACKETS_AND_QUOTES: Final = frozenset({"Ps", "Pe", "Pi", "Pf"})  # Unicode's general categories


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One letter for one mail transaction: bare addresses (no display names, no angle brackets) and content.

    ``sender`` is the reverse-path in ASCII, "" the null reverse-path; ``recipients`` are the forward-paths, at
    least one; their local parts may have characters outside ASCII, which takes a relay with SMTPUTF8 (RFC 6531).
    ``content`` is 7-bit data (RFC 2045 §2.7): octets 1 to 127, CR and LF only as CRLF, lines of at most 998
    octets; a missing CRLF at the end is added on the wire, as are the dots. ``envid`` is what a notification of
    the relay names the letter by (RFC 3461 §4.4), "" for nothing. Raises ValueError for anything else.
    """

    sender: str
    recipients: tuple[str, ...]
    content: bytes = field(repr=False)
    envid: str = ""

    def __post_init__(self) -> None:
        if self.sender:
            if not self.sender.isascii():
                raise ValueError(f"a sender's mail address must be ASCII: {self.sender[:80]!r}")
            check_address(self.sender)
        if not self.recipients:
            raise ValueError("an envelope needs at least one recipient")
        for recipient in self.recipients:
            check_address(recipient)
        check_content(self.content)

    @property
    def size_bytes(self) -> int:
        """Octets of the content with its last CRLF and without dot-stuffing, as SIZE counts (RFC 1870 §5)."""
        return len(self.content) + len(_missing_end(self.content))


def check_address(address: str) -> None:
    """Raise ValueError unless ``address`` can stand between angle brackets in a command without harm.

    Its local part may have characters outside ASCII, in UTF-8 on the wire (RFC 6531 §3.3); its domain may not.
    """
    local, _, domain = address.rpartition("@")
    sound = _ATOM.fullmatch(address) or (_ATOM.fullmatch(domain) and _is_utf8_local_part(local))
    if not sound:
        raise ValueError(f"not a bare mail address with an ASCII domain: {address[:80]!r}")
    if len(address.encode()) > MAX_ADDRESS_BYTES:
        raise ValueError(f"a mail address of more than {MAX_ADDRESS_BYTES} octets: {address[:40]!r}…")


def _is_utf8_local_part(local: str) -> bool:
    """Tell whether ``local`` has no blank, line end, bracket or quote of any script, nor anything unseen.

    A server may fold look-alikes before it reads (NFKC), and a combining mark alters the bracket before it.
    """
    return (
        local.isprintable()  # so there are no surrogates either, and it can be encoded
        and _UTF8_LOCAL_PART.fullmatch(unicodedata.normalize("NFKC", local)) is not None
        and not unicodedata.category(local[0]).startswith("M")
        and not any(unicodedata.category(char) in _BRACKETS_AND_QUOTES for char in local)
    )


def check_helo_name(name: str) -> None:
    """Raise ValueError unless ``name`` can stand behind EHLO: a domain or an address literal, no blanks."""
    if not _ATOM.fullmatch(name) or len(name) > MAX_NAME_BYTES:
        raise ValueError(f"not a name for EHLO (RFC 5321 §4.1.1.1): {name[:80]!r}")


def check_content(content: bytes) -> None:
    """Raise ValueError unless ``content`` is 7-bit data in lines that end in CRLF (RFC 2045 §2.7)."""
    line_ends = content.count(b"\r\n")
    if content.count(b"\r") != line_ends or content.count(b"\n") != line_ends:
        raise ValueError("content with a CR or LF that is not part of a CRLF")
    if not content.isascii() or b"\0" in content:
        raise ValueError("content with an octet above 127 or a NUL: it must be encoded first")
    if max(map(len, content.split(b"\r\n"))) > MAX_LINE_BYTES:
        raise ValueError(f"content with a line of more than {MAX_LINE_BYTES} octets")


def data_octets(content: bytes) -> bytes:
    """Return checked ``content`` as it follows a 354: dots stuffed (RFC 5321 §4.5.2), CRLF and final dot."""
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    return b"".join((b"." if content.startswith(b".") else b"", stuffed, _missing_end(content), b".\r\n"))


def bdat_octets(content: bytes) -> bytes:
    """Return checked ``content`` as BDAT takes it (RFC 3030 §2): as it is, with its last CRLF."""
    return content + _missing_end(content)


def _missing_end(content: bytes) -> bytes:
    return b"" if not content or content.endswith(b"\r\n") else b"\r\n"
