"""Mail addresses: Mailboxes of RFC 5321 §4.1.2 in ASCII, the local part a Dot-string; and allow-list patterns."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

MAX_LOCAL_PART_CHARS: Final = 64
MAX_DOMAIN_CHARS: Final = 255
MAX_ADDRESS_CHARS: Final = 254
MAX_DISPLAY_NAME_CHARS: Final = 200
MAX_QUOTED_CHARS: Final = 100

# RFC 5322 §3.2.3 atext, RFC 5321 §4.1.2 sub-domain; always used with fullmatch, because $ lets a final line
# feed through
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_DOTTED_QUAD = re.compile(r"[0-9]+(?:\.[0-9]+){3}")
_UNUSABLE = re.compile(r"[\x00-\x20\x7f<>]")


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


# (is it wrong?, what to say), on (text, local part, domain); the first that applies is said. Each rule may
# rely on the rules above it.
_RULES: Final[tuple[tuple[Callable[[str, str, str], bool], str], ...]] = (
    (lambda text, _l, _d: not text, "it is empty"),
    (
        lambda text, _l, _d: len(text) > MAX_LOCAL_PART_CHARS + 1 + MAX_DOMAIN_CHARS,
        f"it has more than {MAX_ADDRESS_CHARS} characters",
    ),
    (lambda text, _l, _d: "@" not in text, "it has no @"),
    (
        lambda text, _l, _d: bool(_UNUSABLE.search(text)),
        "it must not contain blanks, line breaks, control characters, < or >",
    ),
    (
        lambda text, _l, _d: not text.isascii(),
        "characters outside ASCII need SMTPUTF8 or IDN, which comes later",
    ),
    (lambda _t, local, domain: not local or not domain, "the part before or after the @ is missing"),
    (lambda _t, local, _d: '"' in local, "quoted local parts are not supported"),
    (lambda _t, local, _d: "@" in local, "it has more than one @"),
    (
        lambda _t, local, _d: len(local) > MAX_LOCAL_PART_CHARS,
        f"the part before the @ has more than {MAX_LOCAL_PART_CHARS} characters",
    ),
    (
        lambda _t, _l, domain: len(domain) > MAX_DOMAIN_CHARS,
        f"the domain has more than {MAX_DOMAIN_CHARS} characters",
    ),
    (lambda text, _l, _d: len(text) > MAX_ADDRESS_CHARS, f"it has more than {MAX_ADDRESS_CHARS} characters"),
    (
        lambda _t, local, _d: not _DOT_STRING.fullmatch(local),
        "the part before the @ is letters, digits and !#$%&'*+-/=?^_`{|}~, with single dots between them",
    ),
    (
        lambda _t, _l, domain: domain.startswith("[") and not _is_literal(domain),
        "an address literal is written [192.0.2.1] or [IPv6:2001:db8::1]",
    ),
    (
        lambda _t, _l, domain: bool(_DOTTED_QUAD.fullmatch(domain)),
        "an IP address stands in brackets after the @: [192.0.2.1]",
    ),
    (
        lambda _t, _l, domain: not domain.startswith("[") and not _DOMAIN.fullmatch(domain),
        "the domain is labels of letters, digits and inner hyphens (at most 63 characters) with single dots",
    ),
)


def parse_address(text: str) -> str:
    """Return the bare Mailbox ``text`` (local@domain, local@[address literal]) with its domain in lower case.

    Raises ValueError with a sentence for people.
    """
    local, _, domain = text.rpartition("@")
    for is_wrong, what in _RULES:
        if is_wrong(text, local, domain):
            raise ValueError(f"{quoted(text)} is no usable mail address: {what}")
    domain = domain.lower().replace("[ipv6:", "[IPv6:", 1)  # the tag as RFC 5321 §4.1.3 spells it
    return f"{local}@{domain}"


def parse_mailbox(text: str) -> tuple[str, str]:
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
    local, _, domain = text.partition("@")
    if text != "*" and (not local or not domain or "@" in domain):
        return "a pattern is an address with * and ?, such as *@example.net; * alone admits every address"
    if not text.isascii() or _UNUSABLE.search(text):
        return "a pattern must not contain blanks, control characters, < or >, or characters outside ASCII"
    return None


class Pattern:
    """One sound pattern of the allow-list; the case of letters does not matter."""

    __slots__ = ("_domain", "_local")

    def __init__(self, text: str) -> None:
        local, _, domain = ("*@*" if text == "*" else text).partition("@")
        self._local, self._domain = _glob(local), _glob(domain)

    def admits(self, address: str) -> bool:
        """Tell whether the pattern admits ``address``, which ``parse_address`` has let through."""
        local, _, domain = address.rpartition("@")
        return bool(self._local.match(local) and self._domain.match(domain))


def _glob(text: str) -> re.Pattern[str]:
    # A bracket is no wildcard here, it opens an address literal. What translate() gives must match to the very
    # end, line feeds included.
    return re.compile(translate(text.replace("[", "[[]")), re.IGNORECASE | re.ASCII)
