"""Mail addresses and allow-list patterns, in the one form in which they are compared and sent.

An address is a Mailbox of RFC 5321 §4.1.2 whose local part is a Dot-string, also with characters outside ASCII
(RFC 6531 §3.3), in Unicode's form NFC. Its domain is ASCII always: an international one becomes A-labels
(IDNA 2008, RFC 5891), mapped as browsers do (UTS 46).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from fnmatch import translate
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

import idna

MAX_LOCAL_PART_BYTES: Final = 64
MAX_DOMAIN_CHARS: Final = 255
MAX_ADDRESS_BYTES: Final = 254
MAX_DISPLAY_NAME_CHARS: Final = 200
MAX_QUOTED_CHARS: Final = 100

# RFC 5322 §3.2.3 atext with RFC 6531's UTF8-non-ascii, RFC 5321 §4.1.2 sub-domain; always used with fullmatch,
# because $ lets a final line feed through
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+"
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_DOTTED_QUAD = re.compile(r"[0-9]+(?:\.[0-9]+){3}")
_UNUSABLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f<>]")
# What Unicode counts as letters, marks and symbols, and yet shows as nothing (Default_Ignorable_Code_Point), and
# the empty Braille cell: two addresses would look the same. isprintable() finds all other invisible characters.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_BRACKETS_AND_QUOTES: Final = frozenset({"Ps", "Pe", "Pi", "Pf"})  # Unicode's general categories


def quoted(text: str) -> str:
    """Return ``text`` in double quotes for a sentence: one line, no control characters, bounded."""
    short = text if len(text) <= MAX_QUOTED_CHARS else text[: MAX_QUOTED_CHARS - 1] + "…"
    return '"' + "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in short) + '"'


def _is_literal(domain: str) -> bool:
    """Tell whether ``domain`` is an address-literal of RFC 5321 §4.1.3 (IPv4 or IPv6)."""
    inner = domain[1:-1]
    try:
        if inner[:5].lower() == "ipv6:":
            IPv6Address(inner[5:])
        else:
            IPv4Address(inner)
    except AddressValueError:
        return False
    return domain[-1] == "]" and "%" not in inner  # a scope identifier means something on one machine only


def _cannot_be_seen(local: str) -> bool:
    return not local.isprintable() or _INVISIBLE.search(local) is not None


def _has_brackets_or_quotes(local: str) -> bool:
    return any(unicodedata.category(char) in _BRACKETS_AND_QUOTES for char in local if not char.isascii())


def _begins_with_mark(local: str) -> bool:
    return unicodedata.category(local[0]).startswith("M")  # it would alter the bracket or blank before it


def _is_mistakable(local: str) -> bool:
    """Tell whether ``local`` is no Dot-string to a program that folds look-alikes (NFKC): U+FF20 is an @ then."""
    return not _DOT_STRING.fullmatch(unicodedata.normalize("NFKC", local))


# (is it wrong?, what to say): the first that applies is said, and each rule may rely on the rules above it.
# These are about the text as it was written ...
_TEXT_RULES: Final[tuple[tuple[Callable[[str], bool], str], ...]] = (
    (lambda text: not text, "it is empty"),
    (
        lambda text: len(text) > MAX_LOCAL_PART_BYTES + 1 + MAX_DOMAIN_CHARS,
        f"it has more than {MAX_ADDRESS_BYTES} octets",
    ),
    (lambda text: "@" not in text, "it has no @"),
    (
        lambda text: _UNUSABLE.search(text) is not None,
        "it must not contain blanks, line breaks, control characters, < or >",
    ),
    (lambda text: text.startswith("@") or text.endswith("@"), "the part before or after the @ is missing"),
)
# ... and these about local part and domain in the form that is sent.
_PART_RULES: Final[tuple[tuple[Callable[[str, str], bool], str], ...]] = (
    (lambda local, _d: '"' in local, "quoted local parts are not supported"),
    (lambda local, _d: "@" in local, "it has more than one @"),
    (
        lambda local, _d: _cannot_be_seen(local),
        "the part before the @ must not contain characters that cannot be seen",
    ),
    (
        lambda local, _d: _has_brackets_or_quotes(local),
        "the part before the @ must not contain brackets or quotes of any script",
    ),
    (
        lambda local, _d: _begins_with_mark(local),
        "the part before the @ must not begin with a mark that belongs to the letter before it",
    ),
    (
        lambda local, _d: len(local.encode()) > MAX_LOCAL_PART_BYTES,
        f"the part before the @ has more than {MAX_LOCAL_PART_BYTES} octets",
    ),
    (
        lambda _l, domain: len(domain) > MAX_DOMAIN_CHARS,
        f"the domain has more than {MAX_DOMAIN_CHARS} characters",
    ),
    (
        lambda local, domain: len(local.encode()) + 1 + len(domain) > MAX_ADDRESS_BYTES,
        f"it has more than {MAX_ADDRESS_BYTES} octets",
    ),
    (
        lambda local, _d: not _DOT_STRING.fullmatch(local),
        "the part before the @ is letters, digits and !#$%&'*+-/=?^_`{|}~, with single dots between them",
    ),
    (
        lambda local, _d: _is_mistakable(local),
        "the part before the @ has a character that can be taken for a blank, a dot, an @ or a bracket",
    ),
    (
        lambda _l, domain: domain.startswith("[") and not _is_literal(domain),
        "an address literal is written [192.0.2.1] or [IPv6:2001:db8::1]",
    ),
    (
        lambda _l, domain: bool(_DOTTED_QUAD.fullmatch(domain)),
        "an IP address stands in brackets after the @: [192.0.2.1]",
    ),
    (
        lambda _l, domain: not domain.startswith("[") and not _DOMAIN.fullmatch(domain),
        "the domain is labels of letters, digits and inner hyphens (at most 63 characters) with single dots",
    ),
)


def _ascii_domain(domain: str) -> str:
    """Return ``domain`` in lower case, an international one as A-labels; ValueError: IDNA 2008 refuses it.

    What is ASCII is not asked of IDNA, which refuses labels that are in use, such as r3---sn and those of emoji.
    """
    if domain.startswith("["):
        return domain.lower().replace("[ipv6:", "[IPv6:", 1)  # the tag as RFC 5321 §4.1.3 spells it
    if domain.isascii():
        return domain.lower()
    try:
        return idna.encode(domain, uts46=True, std3_rules=True).decode("ascii")
    except UnicodeError:  # what it says may hold any character, and be long
        raise ValueError(
            f"{quoted(domain)} is no international domain (IDNA 2008: letters and digits, no symbols, labels of "
            "at most 63 octets); if it is in use nevertheless, write its xn-- form"
        ) from None


@lru_cache(maxsize=256)
def parse_address(text: str) -> str:
    """Return the bare Mailbox ``text`` (local@domain, local@[address literal]) in the form that is sent.

    The local part is in NFC, and at most 64 octets in UTF-8; the domain is ASCII and in lower case. So two
    addresses that mean the same are equal. Raises ValueError with a sentence for people.
    """
    try:
        for is_wrong, what in _TEXT_RULES:
            if is_wrong(text):
                raise ValueError(what)
        local, _, domain = text.rpartition("@")
        local, domain = unicodedata.normalize("NFC", local), _ascii_domain(domain)
        for are_wrong, what in _PART_RULES:
            if are_wrong(local, domain):
                raise ValueError(what)
    except ValueError as fault:
        raise ValueError(f"{quoted(text)} is no usable mail address: {fault}") from None
    return f"{local}@{domain}"


def parse_mailbox(text: str) -> tuple[str, str]:
    """Return (display name, address) of one who writes or is answered: of a sender, or a reply_to.

    As ``parse_recipient``, but the local part is ASCII: relays without SMTPUTF8 could not take any other
    reverse-path, and a 7-bit header could not hold it. Raises ValueError with a sentence.
    """
    name, address = parse_recipient(text)
    if not address.isascii():
        raise ValueError(
            f"{quoted(address)} can be written to, but not be a sender or reply_to: there the part before the @ "
            "must be ASCII, so that every relay takes the mail"
        )
    return name, address


def parse_recipient(text: str) -> tuple[str, str]:
    """Return (display name, address) of ``House <house@example.net>`` or of a bare address (then the name is "").

    The display name may be quoted, and may have characters outside ASCII. Raises ValueError with a sentence.
    """
    if "<" not in text:
        return "", parse_address(text)
    name, _, rest = text.partition("<")
    name = name.strip(" ")
    if not rest.endswith(">"):
        raise ValueError(f'{quoted(text)} is no mailbox: write one, as in "House <house@example.net>"')
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    if len(name) > MAX_DISPLAY_NAME_CHARS:
        raise ValueError(f"{quoted(text)}: the display name has more than {MAX_DISPLAY_NAME_CHARS} characters")
    if not name.isprintable():
        raise ValueError(f"{quoted(text)}: the display name must not contain line breaks or control characters")
    return name, parse_address(rest[:-1])


def check_pattern(text: str) -> str | None:
    """Return what is wrong with the ``allow_recipients`` pattern ``text``, or None.

    A pattern is an address in which ``*`` stands for any characters and ``?`` for one, neither for an ``@``;
    ``*`` alone admits every address.
    """
    try:
        _pattern_parts(text)
    except ValueError as fault:
        return str(fault)
    return None


def _pattern_parts(text: str) -> tuple[str, str]:
    """Return local part and domain of a pattern in the form of ``parse_address``; ValueError says what is wrong.

    A domain is converted label by label, so that ``*@*.bücher.example`` is a pattern; IDNA has no wildcards.
    """
    local, _, domain = ("*@*" if text == "*" else text).partition("@")
    if not local or not domain or "@" in domain:
        raise ValueError(
            "a pattern is an address with * and ?, such as *@example.net; * alone admits every address"
        )
    if _UNUSABLE.search(text) or _cannot_be_seen(local):
        raise ValueError("a pattern must not contain blanks, characters that cannot be seen, < or >")
    labels = domain.split(".")
    for label in labels:
        if not label.isascii() and re.search("[*?]", label):
            raise ValueError(
                f"{quoted(label)} has a wildcard beside characters outside ASCII: write the label in its xn-- form"
            )
    return unicodedata.normalize("NFC", local), ".".join(map(_ascii_domain, labels))


class Pattern:
    """One sound pattern of the allow-list; the case of letters does not matter. ValueError: it is not sound."""

    __slots__ = ("_domain", "_local")

    def __init__(self, text: str) -> None:
        local, domain = _pattern_parts(text)
        self._local, self._domain = _glob(local), _glob(domain)

    def admits(self, address: str) -> bool:
        """Tell whether the pattern admits ``address``, which ``parse_address`` has let through."""
        local, _, domain = address.lower().rpartition("@")
        return bool(self._local.match(local) and self._domain.match(domain))


def _glob(text: str) -> re.Pattern[str]:
    # A bracket is no wildcard here, it opens an address literal. What translate() gives must match to the very
    # end, line feeds included. Both sides are in lower case: re.IGNORECASE would take a long s for an s.
    return re.compile(translate(text.lower().replace("[", "[[]")))
