"""Addresses of RFC 5321 §4.1.2 and §4.5.3.1, mailboxes, and patterns of the allow-list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugin.route import check_pattern, parse_address, parse_mailbox, quoted
from plugin.route.address import Pattern

LABEL_63 = "a" * 63
DOMAIN_189 = f"{LABEL_63}.{LABEL_63}.{'b' * 61}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alice@example.net", "alice@example.net"),
        ("Alice@Example.NET", "Alice@example.net"),
        ("a.b+tag@x-y.example", "a.b+tag@x-y.example"),
        ("!#$%&'*+-/=?^_`{|}~@example.net", "!#$%&'*+-/=?^_`{|}~@example.net"),
        ("root@localhost", "root@localhost"),
        ("a@1.2.example", "a@1.2.example"),
        ("a@[192.0.2.1]", "a@[192.0.2.1]"),
        ("a@[IPv6:2001:DB8::1]", "a@[IPv6:2001:db8::1]"),
        ("x" * 64 + "@" + DOMAIN_189, "x" * 64 + "@" + DOMAIN_189),
    ],
)
def test_addresses(text: str, expected: str) -> None:
    assert parse_address(text) == expected
    assert parse_address(expected) == expected, "parsing again changes nothing"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        ("alice", "no @"),
        ("@example.net", "missing"),
        ("alice@", "missing"),
        ("a@b@example.net", "more than one @"),
        ('"a b"@example.net', "blanks"),
        ('"ab"@example.net', "quoted"),
        (".a@example.net", "single dots"),
        ("a.@example.net", "single dots"),
        ("a..b@example.net", "single dots"),
        ("a,b@example.net", "letters, digits"),
        ("a(b)@example.net", "letters, digits"),
        ("a@example..net", "labels"),
        ("a@example.net.", "labels"),
        ("a@-x.example", "labels"),
        ("a@x-.example", "labels"),
        ("a@under_score.example", "labels"),
        (f"a@{'x' * 64}.example", "labels"),
        ("a@192.0.2.1", "brackets"),
        ("a@[192.0.2.256]", "literal"),
        ("a@[192.0.2.1", "literal"),
        ("a@[IPv6:fe80::1%eth0]", "literal"),
        ("a@[2001:db8::1]", "literal"),
        ("a@[]", "literal"),
        ("a@example.net\r\nBcc: b@example.net", "line breaks"),
        ("a@example.net\n", "line breaks"),
        ("a\n@example.net", "line breaks"),
        (" a@example.net", "blanks"),
        ("a@example.net ", "blanks"),
        ("a\t@example.net", "control"),
        ("a\x00@example.net", "control"),
        ("a\x7f@example.net", "control"),
        ("<a@example.net>", "<"),
        ("ä@example.net", "SMTPUTF8"),
        ("a@exämple.net", "IDN"),
        ("a@example.net\u2028", "SMTPUTF8"),
        ("x" * 65 + "@example.net", "64"),
        ("x" * 64 + "@" + DOMAIN_189 + "c", "254"),
        ("a@" + "x." * 130 + "net", "domain has more than 255"),
        ("a@" + "x" * 1_000_000, "254"),
    ],
)
def test_no_addresses(text: str, word: str) -> None:
    with pytest.raises(ValueError, match="is no usable mail address") as caught:
        parse_address(text)
    sentence = str(caught.value)
    assert word in sentence.partition("address: ")[2]
    assert sentence.isprintable(), "what is said fits into one line of a log"
    assert len(sentence) < 400


@given(st.text(max_size=60))
def test_what_passes_cannot_break_a_command(text: str) -> None:
    for candidate in (text, f"{text}@example.net", f"a@{text}", f"a@[{text}]"):
        try:
            address = parse_address(candidate)
        except ValueError:
            continue
        assert address.isascii()
        assert address.isprintable()
        assert not set(address) & set("<> \r\n\0")
        assert address.count("@") == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("house@Example.net", ("", "house@example.net")),
        ("<house@example.net>", ("", "house@example.net")),
        ("House <house@example.net>", ("House", "house@example.net")),
        ('"House, big" <house@example.net>', ("House, big", "house@example.net")),
        (r'"The \"House\"" <house@example.net>', ('The "House"', "house@example.net")),
        ("Zuhaus Ümläut <house@example.net>", ("Zuhaus Ümläut", "house@example.net")),
    ],
)
def test_mailboxes(text: str, expected: tuple[str, str]) -> None:
    assert parse_mailbox(text) == expected


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("House", "no @"),
        ("House <house>", "no @"),
        ("House <house@example.net", "write one"),
        ("House <house@example.net> x", "write one"),
        ("A <a@example.net>, B <b@example.net>", "blanks"),
        ("House\r\nBcc: x <house@example.net>", "line breaks"),
        ("House\u2028 <house@example.net>", "line breaks"),
        ("x" * 201 + " <house@example.net>", "200"),
        ("House <ho use@example.net>", "blanks"),
    ],
)
def test_no_mailboxes(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word) as caught:
        parse_mailbox(text)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("pattern", "address", "expected"),
    [
        ("*@example.net", "alice@example.net", True),
        ("*@example.net", "Alice@Example.NET", True),
        ("*@EXAMPLE.net", "alice@example.net", True),
        ("*@example.net", "alice@sub.example.net", False),
        ("*@example.net", "alice@example.net.evil.example", False),
        ("*@example.net", "alice@notexample.net", False),
        ("*@example.net", "x@evil@example.net", False),
        ("*@example.net", "alice@example.net\n", False),
        ("*@example.net", "alice\n@example.net\nx", False),
        ("*@*.example.net", "a@b.c.example.net", True),
        ("*@*.example.net", "a@example.net", False),
        ("alice+*@example.net", "alice+tag@example.net", True),
        ("alice+*@example.net", "alice@example.net", False),
        ("?@example.net", "a@example.net", True),
        ("?@example.net", "ab@example.net", False),
        ("a.b@example.net", "aXb@example.net", False),
        ("*@[192.0.2.1]", "a@[192.0.2.1]", True),
        ("*@[192.0.2.1]", "a@1", False),
        ("*", "anyone@anywhere.example", True),
        ("*@*", "anyone@anywhere.example", True),
        ("alice*", "alice@example.net", False),
    ],
)
def test_patterns(pattern: str, address: str, expected: bool) -> None:
    sound = check_pattern(pattern) is None
    try:
        parse_address(address)
    except ValueError:
        assert not expected, "an address that cannot be used never comes to the patterns"
        return
    assert (sound and Pattern(pattern).admits(address)) is expected


@pytest.mark.parametrize(
    "pattern", ["", "example.net", "*@", "@example.net", "*@a@b", "a b@*", "*@ex\n", "ä@*", "<*@*>"]
)
def test_wrong_patterns(pattern: str) -> None:
    assert check_pattern(pattern)


def test_a_pattern_of_many_stars_does_not_take_for_ever() -> None:
    assert not Pattern("*a" * 30 + "b@*").admits("a" * 64 + "@example.net")


def test_quoted_is_one_bounded_line() -> None:
    assert quoted('a\r\nb"') == '"a\\x0d\\x0ab""'
    assert len(quoted("x" * 10_000)) == 102
