"""The header section: threads, identifiers, priorities, addresses, and titles that want to be more."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugin.compose.headers import checked_message_id, id_domain, new_message_id, subject_line, thread_id
from plugin.compose.variables import default_title
from plugin.route import parse_mailbox
from tests.compose.mails import DATE, DIRECTIONS, MESSAGE_ID, alert, composer, directions, read, seal


def test_the_headers_of_a_mail_in_full() -> None:
    way = directions(
        to=("alice@example.net", "bob@example.net"),
        cc=("carol@example.net",),
        bcc=("dave@example.net",),
        reply_to="desk@example.net",
    )
    content = seal(alert(title="Wasser im Keller — jetzt"), way=way).content
    section = content.partition(b"Content-Type:")[0].decode()
    thread = thread_id("alerts/email/cellar/water_leak", "house@example.net")
    assert section == (
        "Date: Mon, 23 Nov 2026 18:26:06 +0100\r\n"
        'From: "House" <house@example.net>\r\n'
        "Reply-To: desk@example.net\r\n"
        "To: alice@example.net, bob@example.net\r\n"
        "Cc: carol@example.net\r\n"
        "Subject: =?utf-8?q?Wasser_im_Keller_=E2=80=94_jetzt?=\r\n"
        "Message-ID: <0123456789abcdef@example.net>\r\n"
        f"In-Reply-To: {thread}\r\n"
        f"References: {thread}\r\n"
        "Auto-Submitted: auto-generated\r\n"
        "X-Priority: 2 (High)\r\n"
        "Importance: high\r\n"
        "Priority: urgent\r\n"
        "User-Agent: Hardwire/1.2.3\r\n"
        "X-Hardwire-Alert-Id: 7f3a\r\n"
        "X-Hardwire-Topic: alerts/email/cellar/water_leak\r\n"
        "X-Hardwire-State: firing\r\n"
        "MIME-Version: 1.0\r\n"
    )
    assert b"dave@" not in content


def test_firing_and_resolved_share_subject_and_thread() -> None:
    firing, resolved = (read(seal(alert(state=state))) for state in ("firing", "resolved"))
    for name in ("Subject", "References", "In-Reply-To"):
        assert firing[name] == resolved[name]
    assert (firing["X-Hardwire-State"], resolved["X-Hardwire-State"]) == ("firing", "resolved")


def test_the_thread_is_the_topic_unless_the_alert_names_one() -> None:
    by_topic = read(seal(alert()))["References"]
    assert read(seal(alert(topic="alerts/email/other")))["References"] != by_topic
    named = [read(seal(alert(topic=topic, thread="leak")))["References"] for topic in ("alerts/a", "alerts/b")]
    assert named[0] == named[1] != by_topic


@pytest.mark.parametrize(
    ("priority", "severity", "expected"),
    [
        (None, "info", ("3 (Normal)", "normal", "normal")),
        (None, "warning", ("3 (Normal)", "normal", "normal")),
        (None, "critical", ("2 (High)", "high", "urgent")),
        ("lowest", "critical", ("5 (Lowest)", "low", "non-urgent")),
        ("low", "info", ("4 (Low)", "low", "non-urgent")),
        ("normal", "critical", ("3 (Normal)", "normal", "normal")),
        ("high", "info", ("2 (High)", "high", "urgent")),
        ("highest", "info", ("1 (Highest)", "high", "urgent")),
    ],
)
def test_priority_goes_before_severity(priority: str | None, severity: str, expected: tuple[str, ...]) -> None:
    mail = read(seal(alert(priority=priority), way=directions(severity=severity)))
    assert (mail["X-Priority"], mail["Importance"], mail["Priority"]) == expected


@pytest.mark.parametrize(
    ("title", "subject"),
    [
        ("Leak\r\nBcc: eve@example.net", "Leak Bcc: eve@example.net"),
        ("Leak\nX: 1\r\n\r\nbody", "Leak X: 1 body"),
        ("tab\there\x00\x0b\x85\u2028end", "tab here end"),
        ("=?utf-8?q?Leak=0D=0ABcc:_eve=40example.net?=", "=?utf-8?q?Leak=0D=0ABcc:_eve=40example.net?="),
        ("  \r\n ", "Cellar / Water leak"),
        ("", "Cellar / Water leak"),
        (None, "Cellar / Water leak"),
        ("Grün 🚰", "Grün 🚰"),
        ("تسرب مياه", "تسرب مياه"),
        ("photo\u202egnp.exe", "photognp.exe"),
        ("half \ud83d emoji", "half \ufffd emoji"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 199 + "…"),
        ("ü" * 500, "ü" * 199 + "…"),
    ],
)
def test_a_title_becomes_a_subject_and_nothing_else(title: str | None, subject: str) -> None:
    sealed = seal(alert(title=title))
    mail = read(sealed)
    assert sealed.subject == subject
    assert mail["Subject"] == subject
    assert mail["Bcc"] is None
    assert mail["X"] is None


def test_an_emoji_is_not_cut_in_two() -> None:
    family = "👨‍👩‍👧"
    assert subject_line("x" * 197 + family) == "x" * 197 + "…"
    assert subject_line("x" * 198 + "e\u0301y") == "x" * 198 + "…"


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=250))
def test_every_subject_is_read_back_as_it_was(title: str) -> None:
    sealed = composer().seal(alert(title=title), DIRECTIONS, date=DATE, message_id=MESSAGE_ID)
    assert read(sealed)["Subject"] == sealed.subject
    section = sealed.content.partition(b"MIME-Version")[0]
    assert not [word for word in re.findall(rb"=\?utf-8\?.*?\?=", section) if len(word) > 75]


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("water_leak", "Water leak"),
        ("garage/door", "Garage / Door"),
        ("garage//front-door_2", "Garage / Front door 2"),
        ("", "Alert"),
        ("/_/-", "Alert"),
        ("über/ß", "Über / SS"),
        ("NAS", "NAS"),
        ("a\r\nb", "A b"),
    ],
)
def test_an_alert_without_title_is_called_by_its_name(name: str, title: str) -> None:
    assert default_title(name) == title


@pytest.mark.parametrize(
    ("sender", "shown"),
    [
        ("house@example.net", ""),
        ("House <house@example.net>", "House"),
        ('"Miller, \\"Bob\\"" <house@example.net>', 'Miller, "Bob"'),
        ("Haus Müller <house@example.net>", "Haus Müller"),
        ("家" * 60 + " <house@example.net>", "家" * 60),
        ("=?x?= <house@example.net>", "=?x?="),
        ("Müller, Söhne; <house@example.net>", "Müller, Söhne;"),
        ("x" * 200 + " <house@example.net>", "x" * 200),
        ("a,b " * 50 + "<house@example.net>", ("a,b " * 50).strip()),
        ('"' + '\\"' * 200 + '" <house@example.net>', '"' * 200),
    ],
)
def test_the_senders_name_survives(sender: str, shown: str) -> None:
    sealed = seal(alert(), sender=sender)
    mail = read(sealed)
    assert sealed.sender == "house@example.net"
    (address,) = mail["From"].addresses
    assert address.addr_spec == "house@example.net"
    # Python 3.11 puts blanks between encoded words that belong together (RFC 2047 §6.2): left out here.
    assert address.display_name.replace(" ", "") == shown.replace(" ", "")
    assert max(map(len, sealed.content.partition(b"Date")[2].split(b"\r\n"))) <= 78


def test_many_recipients_are_folded_and_all_there() -> None:
    addresses = tuple(f"person.number.{n}@department.example.net" for n in range(150))
    sealed = seal(alert(), way=directions(to=addresses, cc=addresses[:3]))
    mail = read(sealed)
    assert tuple(one.addr_spec for one in mail["To"].addresses) == addresses
    assert tuple(one.addr_spec for one in mail["Cc"].addresses) == addresses[:3]
    assert max(map(len, sealed.content.split(b"\r\n"))) <= 78


def test_an_address_too_long_for_a_line_begins_on_the_line_of_its_field() -> None:
    longest = "x" * 64 + "@" + ".".join(["y" * 63] * 2 + ["z" * 61])
    content = seal(alert(), way=directions(to=(longest, "alice@example.net"))).content
    assert f"\r\nTo: {longest},\r\n alice@example.net\r\n".encode() in content


def test_blind_recipients_alone_are_not_named() -> None:
    sealed = seal(alert(), way=directions(to=(), bcc=("dave@example.net",)))
    assert read(sealed)["To"] == "undisclosed-recipients:;"
    assert b"dave" not in sealed.content


JUERGEN = "=?utf-8?q?j=C3=BCrgen=40example=2Enet?= :;"


@pytest.mark.parametrize(
    ("to", "line"),
    [
        (("jürgen@example.net",), f"To: {JUERGEN}"),
        (("jürgen@example.net", "alice@example.net"), f"To: {JUERGEN}, alice@example.net"),
        (("alice@example.net", "jürgen@example.net"), f"To: alice@example.net, {JUERGEN}"),
        (
            ("alice@example.net", "bob@example.net", "jürgen@example.net", "carol@example.net"),
            f"To: alice@example.net, bob@example.net,\r\n {JUERGEN}, carol@example.net",
        ),
    ],
)
def test_an_address_outside_ascii_is_the_name_of_an_empty_group(to: tuple[str, ...], line: str) -> None:
    sealed = seal(alert(), way=directions(to=to, cc=to))
    mail = read(sealed)
    assert f"\r\n{line}\r\nCc: ".encode() in sealed.content
    for field in (mail["To"], mail["Cc"]):
        shown = [one.display_name or one.addresses[0].addr_spec for one in field.groups]
        assert tuple(shown) == to
        assert [one.addr_spec for one in field.addresses] == [one for one in to if one.isascii()]


def test_the_longest_addresses_outside_ascii_are_folded() -> None:
    domain = ".".join(["x" * 63] * 2 + ["y" * 61])
    to = tuple(f"{local}@{domain}" for local in ("ü" * 32, "家" * 21, "a" * 62 + "é"))
    sealed = seal(alert(), way=directions(to=(*to, "alice@example.net")))
    groups = read(sealed)["To"].groups
    # Python 3.11 puts blanks between encoded words that belong together (RFC 2047 §6.2): left out here.
    assert tuple((one.display_name or "").replace(" ", "") for one in groups[:3]) == to
    assert [one.addr_spec for one in groups[3].addresses] == ["alice@example.net"]
    assert max(map(len, sealed.content.partition(b"\r\n\r\n")[0].split(b"\r\n"))) <= 76


def test_an_address_that_could_be_more_than_one_stays_out_of_the_headers() -> None:
    odd = ("a@example.net\r\nBcc: b@example.net", "ä@example.net\u2028", "a@x, b@y", "ä>@x", "alice@example.net")
    mail = read(seal(alert(), way=directions(to=odd, reply_to="x@y\r\nBcc: z@example.net")))
    assert mail["To"] == "alice@example.net"
    assert mail["Reply-To"] is None
    assert mail["Bcc"] is None


@pytest.mark.parametrize("odd", ["a\r\nBcc: x@y", "ü", "x" * 61, "=?utf-8?q?x?=", " x", ""])
def test_what_is_not_safe_in_a_header_is_left_out(odd: str) -> None:
    mail = read(seal(alert(id=odd, topic=odd)))
    assert mail["X-Hardwire-Alert-Id"] is None
    assert mail["X-Hardwire-Topic"] is None
    assert mail["Bcc"] is None


@pytest.mark.parametrize(
    ("sender", "domain"),
    [
        ("a@example.net", "example.net"),
        ("a@" + "department." * 5 + "example.net", "department.example.net"),
        ("a@" + "x" * 60, "hardwire.invalid"),
        ("Büro <a@bücher.example>", "xn--bcher-kva.example"),
        ("a@" + "ü" * 40 + ".bücher.example", "xn--bcher-kva.example"),
        ("a@[192.0.2.1]", "[192.0.2.1]"),
        ("a@[IPv6:2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]", "hardwire.invalid"),
    ],
)
def test_identifiers_stay_within_66_octets(sender: str, domain: str) -> None:
    bare = parse_mailbox(sender)[1]
    assert id_domain(bare) == domain
    for key in ("k" * 5000, "Küche\r\n\ud800"):
        for identifier in (new_message_id(bare), thread_id(key, bare)):
            assert len(identifier) <= 66
            assert identifier.endswith(f"@{domain}>")
        sealed = composer(sender=sender).seal(alert(thread=key), DIRECTIONS, date=DATE)
        mail = read(sealed)
        assert mail["Message-ID"] == sealed.message_id
        assert mail["References"] == mail["In-Reply-To"] == thread_id(key, bare)
        assert mail["From"].addresses[0].addr_spec == sealed.sender == bare


def test_a_sender_has_an_ascii_local_part() -> None:
    with pytest.raises(ValueError, match="before the @ must be ASCII"):
        composer(sender="Jürgen <jürgen@example.net>")


def test_a_message_id_given_is_kept_and_must_be_one() -> None:
    assert checked_message_id("a@b") == "<a@b>"
    assert seal(alert()).message_id == MESSAGE_ID
    for wrong in ("", "<a>", "<a@b>\r\nBcc: x", "a b@c", "<" + "x" * 67 + "@b>"):
        with pytest.raises(ValueError, match="is not a Message-ID"):
            checked_message_id(wrong)


def test_a_naive_reader_of_the_raw_octets_sees_one_header_a_field() -> None:
    sealed = seal(alert(title="a" * 150 + " " + "b" * 40))
    names = [line.partition(b":")[0] for line in sealed.content.partition(b"\r\n\r\n")[0].split(b"\r\n")]
    names = [name for name in names if not name.startswith(b" ")]
    assert len(names) == len(set(names))
