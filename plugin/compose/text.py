"""Text from outside made fit for a mail: pure functions from str to str."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

ELLIPSIS: Final = "…"

_LINE_END: Final = re.compile(r"\r\n|\r|\x85|\u2028|\u2029")
# Form feeds and the like have no meaning in a mail; Unicode's non-characters are not for interchange.
_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufdd0-\ufdef\ufffe\uffff]")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_BLANK: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# Embeddings and overrides of direction let a name or a subject read as what it is not (photo[RLO]gnp.exe).
_DIRECTION: Final = re.compile(r"[\u202a-\u202e\u2066-\u2069]")
_JOINERS: Final = frozenset("\u200d\ufe0e\ufe0f")


def clean(text: str) -> str:
    """Return ``text`` with LF line ends alone, without control characters; lone surrogates become U+FFFD."""
    text = _LINE_END.sub("\n", text)
    return _SURROGATE.sub("\ufffd", _UNPRINTABLE.sub("", text))


def single_line(text: str, max_chars: int) -> str:
    """Return ``text`` as one line of at most ``max_chars``: runs of blanks and line breaks become one blank."""
    return shorten(_BLANK.sub(" ", clean(_BLANK.sub(" ", text))).strip(), max_chars)


def undirected(text: str) -> str:
    """Return ``text`` without embeddings and overrides of direction; right-to-left script itself stays."""
    return _DIRECTION.sub("", text)


def shorten(text: str, max_chars: int) -> str:
    """Return ``text``, cut to ``max_chars`` with an ellipsis at its end; an emoji's parts stay together."""
    if len(text) <= max_chars:
        return text
    end = max_chars - 1
    # Half an emoji, or a letter without its accent, reads worse than one character less.
    while end > 0 and (_joined(text[end]) or text[end - 1] == "\u200d"):
        end -= 1
    return text[: end or max_chars - 1].rstrip() + ELLIPSIS


def _joined(character: str) -> bool:
    return (
        character in _JOINERS or unicodedata.combining(character) != 0 or "\U0001f3fb" <= character <= "\U0001f3ff"
    )


def size(octets: int) -> str:
    """Return a number of octets as people read it: ``512 bytes``, ``12 KiB``, ``3.4 MiB``."""
    if octets < 1024:
        return f"{octets} bytes"
    if octets < 1024 * 1024:
        return f"{octets / 1024:.0f} KiB"
    return f"{octets / (1024 * 1024):.1f} MiB"
