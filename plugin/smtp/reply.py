"""Octets to replies (RFC 5321 §4.2), bounded in every direction. A reply is judged by its first digit alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from plugin.smtp.errors import ProtocolError, printable

MAX_LINE_BYTES: Final = 4096
"""RFC 5321 §4.5.3.1.5 has 512; longer lines are seen in the wild."""
MAX_LINES: Final = 100
MAX_REPLY_BYTES: Final = 32 * 1024
MAX_TEXT_CHARS: Final = 1000
"""Bound of ``Reply.text``, which travels on into outcomes and logs."""

_LINE: Final = re.compile(rb"([1-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_ENHANCED: Final = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:\s+|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One reply: ``code`` 100 to 599, ``lines`` the text of each line without the code, always at least one.

    The texts are decoded as UTF-8 and hold neither control characters nor line breaks.
    """

    code: int
    lines: tuple[str, ...]

    @property
    def first(self) -> int:
        """The first digit, which alone decides (RFC 5321 §4.3.2): 2 done, 3 go on, 4 not now, 5 no."""
        return self.code // 100

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code "x.y.z" (RFC 3463) that the text begins with, if its class fits the code."""
        found = _ENHANCED.match(self.lines[0])
        if found is None or found[1][0] != str(self.first):
            return None
        return found[1]

    @property
    def text(self) -> str:
        """The words in one line, without the enhanced status code; at most ``MAX_TEXT_CHARS`` characters."""
        enhanced = self.enhanced
        return printable(" ".join(_words(self.lines, enhanced)), max_chars=MAX_TEXT_CHARS)

    def __str__(self) -> str:
        return " ".join(part for part in (str(self.code), self.enhanced, self.text) if part)


def _words(lines: tuple[str, ...], enhanced: str | None) -> Iterator[str]:
    for line in lines:
        # RFC 2034 §4 repeats the enhanced status code on every line of the reply.
        found = _ENHANCED.match(line) if enhanced else None
        words = (line[found.end() :] if found and found[1] == enhanced else line).strip()
        if words:
            yield words


class ReplyParser:
    """Takes octets as they come, gives replies one at a time.

    Line ends may be CRLF or a bare LF. What is held never exceeds the limits of this module plus what was fed
    last. A ``ProtocolError`` is raised by ``next_reply`` only once the replies in front of the fault have been
    taken, so that good news is not lost to the junk behind it; afterwards the parser is of no use. ``conceal``
    takes secrets out of what such an error quotes.
    """

    def __init__(self, *, conceal: Callable[[str], str] = str) -> None:
        self._conceal = conceal
        self._buffer = bytearray()
        self._searched = 0
        self._code = 0
        self._lines: list[str] = []
        self._reply_bytes = 0

    def feed(self, data: bytes) -> None:
        """Take ``data`` as it was received."""
        self._buffer += data

    @property
    def pending(self) -> bool:
        """Whether anything was fed that no reply has used up."""
        return bool(self._buffer or self._lines)

    def next_reply(self) -> Reply | None:
        """Return the next whole reply, or None until there is more; raises ProtocolError."""
        while (line := self._next_line()) is not None:
            reply = self._take(line)
            if reply is not None:
                return reply
        return None

    def _next_line(self) -> bytes | None:
        end = self._buffer.find(b"\n", self._searched)
        # Judged with or without the line end, so that the verdict does not depend on how TCP cut the octets.
        if (end if end >= 0 else len(self._buffer)) > MAX_LINE_BYTES:
            raise ProtocolError(f"a reply line of more than {MAX_LINE_BYTES} octets")
        if end < 0:
            self._searched = len(self._buffer)
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line.rstrip(b"\r")

    def _take(self, line: bytes) -> Reply | None:
        found = _LINE.fullmatch(line)
        if found is None:
            # Concealed before it is cut: half a secret would not be found any more.
            shown = printable(self._conceal(line.decode("utf-8", "replace")), max_chars=80)
            raise ProtocolError(f"not a reply line: {shown!r}")
        code = int(found[1])
        if self._lines and code != self._code:
            raise ProtocolError(f"code {code} within a reply of code {self._code}")
        self._reply_bytes += len(line)
        if len(self._lines) >= MAX_LINES or self._reply_bytes > MAX_REPLY_BYTES:
            raise ProtocolError(f"a reply of more than {MAX_LINES} lines or {MAX_REPLY_BYTES} octets")
        self._code = code
        self._lines.append(printable((found[3] or b"").decode("utf-8", "replace"), max_chars=MAX_LINE_BYTES))
        if found[2] == b"-":
            return None
        reply = Reply(code=code, lines=tuple(self._lines))
        self._lines = []
        self._reply_bytes = 0
        return reply
