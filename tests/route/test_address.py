"""Addresses of RFC 5321 §4.1.2 and §4.5.3.1, international ones, mailboxes, and patterns of the allow-list."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugin.route import check_pattern, parse_address, parse_mailbox, parse_recipient, quoted
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
        # international domains, mapped as browsers map them (UTS 46)
        ("info@bücher.example", "info@xn--bcher-kva.example"),
        ("info@BÜCHER.Example", "info@xn--bcher-kva.example"),
        ("info@bu\u0308cher.example", "info@xn--bcher-kva.example"),
        ("info@bücher。example", "info@xn--bcher-kva.example"),
        ("info@XN--Bcher-KVA.example", "info@xn--bcher-kva.example"),
        ("info@faß.example", "info@xn--fa-hia.example"),
        ("info@bü\u00adcher.example", "info@xn--bcher-kva.example"),
        ("info@\uff45xample.net", "info@example.net"),
        ("info@\u0646\u0627\u0645\u0647\u200c\u0627\u06cc.example", "info@xn--mgba3gch31f060k.example"),
        ("info@xn--ls8h.example", "info@xn--ls8h.example"),  # in use, whatever IDNA says
        ("info@r3---sn.example", "info@r3---sn.example"),
        # local parts outside ASCII (RFC 6531), in NFC
        ("jürgen@example.net", "jürgen@example.net"),
        ("ju\u0308rgen@Example.net", "jürgen@example.net"),
        ("Jürgen.O'Neil+x@bücher.example", "Jürgen.O'Neil+x@xn--bcher-kva.example"),
        ("用户@例え.テスト", "用户@xn--r8jz45g.xn--zckzah"),
        ("संपर्क@example.net", "संपर्क@example.net"),
        ("\u212alaus@example.net", "Klaus@example.net"),  # the sign for kelvin
        ("ü" * 32 + "@example.net", "ü" * 32 + "@example.net"),
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
        ("a@example.net\u2028", "line breaks"),
        ("a\x85@example.net", "line breaks"),
        ("ä\u3000b@example.net", "blanks"),
        ("ä\u00a0@example.net", "blanks"),
        ("a@ä\u2003b.example", "blanks"),
        ("ä\u202e@example.net", "cannot be seen"),
        ("ä\u200b@example.net", "cannot be seen"),
        ("ä\ufeff@example.net", "cannot be seen"),
        ("ä\ufe0f@example.net", "cannot be seen"),
        ("ä\u3164@example.net", "cannot be seen"),
        ("ä\ue000@example.net", "cannot be seen"),
        ("ä\ud800@example.net", "cannot be seen"),
        ("ä\u2039@example.net", "brackets"),
        ("ä\u27e9@example.net", "brackets"),
        ("ä\uff1e@example.net", "taken for"),
        ("ä“@example.net", "quotes"),
        ("\u0338ä@example.net", "mark"),
        ("ä\uff20b@example.net", "taken for"),
        ("ä\u2026b@example.net", "taken for"),
        ("ä\ufdfab@example.net", "taken for"),
        ("ä\u037eb@example.net", "letters, digits"),
        ('"ä"@example.net', "quoted"),
        ("ä..b@example.net", "single dots"),
        ("ü" * 33 + "@example.net", "64 octets"),
        ("ü" * 32 + "@" + DOMAIN_189 + "c", "254"),
        ("a@☃.example", "xn-- form"),
        ("a@💩.example", "xn-- form"),
        ("a@exämple..net", "xn-- form"),
        ("a@ä\uff0fb.example", "xn-- form"),
        ("a@ä\ud800.example", "xn-- form"),
        ("a@\u00ad.example", "xn-- form"),
        ("a@" + "ö" * 60 + ".example", "63 octets"),
        ("a@" + "ö" * 300, "domain"),
        ("a@exämple.net.", "labels"),
        ("a@\uff1192.0.2.1", "brackets"),
        ("a@[\uff1192.0.2.1]", "literal"),
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


@given(st.text(st.characters(codec=None, exclude_categories=[]), max_size=60))
def test_what_passes_cannot_break_a_command(text: str) -> None:
    for candidate in (text, f"{text}@example.net", f"é{text}@example.net", f"a@{text}", f"a@é{text}.example"):
        try:
            address = parse_address(candidate)
        except ValueError:
            continue
        assert parse_address(address) == address
        assert address.isprintable()
        # also for a server that folds look-alikes before it reads
        for read in (address, unicodedata.normalize("NFKC", f"<{address}>")[1:-1]):
            assert not set(read) & set('<>" \r\n\0')
            assert read.count("@") == 1
        assert address.rpartition("@")[2].isascii()


@pytest.mark.parametrize(
    ("one", "other"),
    [("jürgen@bücher.example", "ju\u0308rgen@xn--bcher-kva.example"), ("Å@x.example", "\u212b@X.example")],
)
def test_one_mailbox_is_one_text(one: str, other: str) -> None:
    assert parse_address(one) == parse_address(other)


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
    assert parse_recipient(text) == expected


def test_only_a_recipient_may_have_a_local_part_outside_ascii() -> None:
    assert parse_recipient("Jürgen <jürgen@example.net>") == ("Jürgen", "jürgen@example.net")
    assert parse_mailbox("Bücher <info@bücher.example>") == ("Bücher", "info@xn--bcher-kva.example")
    with pytest.raises(ValueError, match=r"before the @ must be ASCII, so that every relay takes the mail"):
        parse_mailbox("Jürgen <jürgen@example.net>")


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
        ("*@bücher.example", "info@xn--bcher-kva.example", True),
        ("*@BÜCHER.example", "info@bücher.example", True),
        ("*@xn--bcher-kva.example", "info@bücher.example", True),
        ("*@*.bücher.example", "info@shop.bücher.example", True),
        ("*@*.bücher.example", "info@bücher.example", False),
        ("*@example.net", "jürgen@example.net", True),
        ("jürgen@*", "ju\u0308rgen@example.net", True),
        ("ju\u0308*@example.net", "jürgen@example.net", True),
        ("JÜRGEN@*", "jürgen@example.net", True),
        ("jürgen@*", "JÜRGEN@example.net", True),
        ("j?rgen@*", "jürgen@example.net", True),
        ("s@example.net", "\u017f@example.net", False),  # long s is another letter, unlike re.IGNORECASE
        ("gross@example.net", "groß@example.net", False),
    ],
)
def test_patterns(pattern: str, address: str, expected: bool) -> None:
    sound = check_pattern(pattern) is None
    try:
        address = parse_address(address)
    except ValueError:
        assert not expected, "an address that cannot be used never comes to the patterns"
        return
    assert (sound and Pattern(pattern).admits(address)) is expected


@pytest.mark.parametrize(
    ("pattern", "word"),
    [
        ("", "address with"),
        ("example.net", "address with"),
        ("*@", "address with"),
        ("@example.net", "address with"),
        ("*@a@b", "address with"),
        ("a b@*", "blanks"),
        ("*@ex\n", "blanks"),
        ("<*@*>", "blanks"),
        ("ä\u3000*@*", "blanks"),
        ("ä\u202e*@*", "cannot be seen"),
        ("*@bü*.example", "wildcard beside"),
        ("*@b?cher-ä.example", "wildcard beside"),
        ("*@☃.example", "xn-- form"),
    ],
)
def test_wrong_patterns(pattern: str, word: str) -> None:
    assert word in str(check_pattern(pattern))
    with pytest.raises(ValueError, match=word):
        Pattern(pattern)


def test_a_pattern_of_many_stars_does_not_take_for_ever() -> None:
    assert not Pattern("*a" * 30 + "b@*").admits("a" * 64 + "@example.net")


def test_quoted_is_one_bounded_line() -> None:
    assert quoted('a\r\nb"') == '"a\\x0d\\x0ab""'
    assert len(quoted("x" * 10_000)) == 102
