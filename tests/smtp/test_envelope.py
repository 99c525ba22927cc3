"""What may reach the wire, and what it looks like there."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugin.smtp.envelope import Envelope, check_address, check_content, check_helo_name, data_octets
from plugin.smtp.settings import Settings, Timeouts

HOSTILE = [
    "a\r\nDATA",
    "a\nb",
    "a\rb",
    "a\0b",
    "a b",
    "a>b",
    "<a",
    "a\tb",
    "a\x7f",
    "a\x1b",
    "",
    "a\u2028b",
    "ä\r\nDATA",
    "ä\x85b",
    "ä b",
    "ä\u00a0b",
    "ä\u3000b",
    "ä\u2028b",
    "ä>b",
    "ä\u203ab",  # brackets and quotes of other scripts
    "ä\uff1eb",
    "ä\u201db",
    'ä"b',
    "ä@b",
    "ä\uff20b",  # an @ once look-alikes are folded (NFKC) ...
    "ä\ufe64b",  # ... a bracket
    "ä\u00b4b",  # ... a blank and a mark
    "\u0338ä",  # makes another sign of the bracket before it
    "ä\u202eb",
    "ä\u200bb",
    "ä\0b",
    "ä\ud800",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_second_command_by_an_address(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        check_address(f"{text}@x.test" if text else text)
    with pytest.raises(ValueError, match="address"):
        Envelope(sender="a@x.test", recipients=("b@x.test", f"{text}@x.test" if text else text), content=b"")
    with pytest.raises(ValueError, match="address"):
        Envelope(sender=f"a@{text}.test" if text else "a b", recipients=("b@x.test",), content=b"")


@pytest.mark.parametrize(
    "address", ["jürgen@x.test", "用户@x.test", "संपर्क@xn--bcher-kva.test", "ä." * 15 + "b@x.test"]
)
def test_a_recipient_may_have_a_local_part_in_utf_8(address: str) -> None:
    check_address(address)
    assert Envelope(sender="a@x.test", recipients=(address,), content=b"").recipients == (address,)
    with pytest.raises(ValueError, match="must be ASCII"):
        Envelope(sender=address, recipients=("b@x.test",), content=b"")


@pytest.mark.parametrize("address", ["a@bücher.test", "ä@bücher.test", "ä", "@ä", "ä@", "ä@[192.0.2.1\u3000]"])
def test_a_domain_is_ascii(address: str) -> None:
    with pytest.raises(ValueError, match="ASCII domain"):
        check_address(address)


@given(st.text(st.characters(codec=None, exclude_categories=[]), max_size=12))
def test_what_passes_is_one_path_of_a_command(text: str) -> None:
    address = f"ä{text}@x.test"
    try:
        check_address(address)
    except ValueError:
        return
    for line in (f"RCPT TO:<{address}>", unicodedata.normalize("NFKC", f"RCPT TO:<{address}>")):
        assert len(line.split()) == 2
        assert len(line.splitlines()) == 1
        assert (line.count("<"), line.count(">"), line.count("@")) == (1, 1, 1)
        assert line.encode().decode().isprintable()


@pytest.mark.parametrize("text", HOSTILE)
def test_no_second_command_by_a_name(text: str) -> None:
    with pytest.raises(ValueError, match="EHLO"):
        check_helo_name(text)
    with pytest.raises(ValueError, match="EHLO"):
        Settings(host="relay.test", helo_name=text)


@pytest.mark.parametrize("name", ["client.test", "w5100", "[127.0.0.1]", "[IPv6:::1]"])
def test_names_that_servers_take(name: str) -> None:
    check_helo_name(name)


def test_lengths() -> None:
    check_address("a" * 64 + "@" + "b" * 189)
    check_address("ü" * 32 + "@" + "b" * 189)
    with pytest.raises(ValueError, match="254"):
        check_address("a" * 64 + "@" + "b" * 190)
    with pytest.raises(ValueError, match="254"):
        check_address("ü" * 32 + "@" + "b" * 190)
    check_helo_name("a" * 255)
    with pytest.raises(ValueError, match="EHLO"):
        check_helo_name("a" * 256)


def test_an_envelope_needs_a_recipient() -> None:
    with pytest.raises(ValueError, match="recipient"):
        Envelope(sender="", recipients=(), content=b"")


@pytest.mark.parametrize(
    "content",
    [b"a\nb", b"a\rb", b"\r", b"\n", b"a\r\r\nb", b"a\n.\nMAIL FROM:<>", b"a\r\n.\nb", b"a\n.\r\nb", b"\n\r\n"],
)
def test_bare_line_ends_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="CR or LF"):
        check_content(content)


@pytest.mark.parametrize("content", [b"\xe4", b"a\x00b", b"Subject: \xc3\xa4\r\n"])
def test_only_7_bit_data(content: bytes) -> None:
    with pytest.raises(ValueError, match="octet above 127 or a NUL"):
        check_content(content)


def test_line_length() -> None:
    longest = b"x" * 998
    for good in (longest, longest + b"\r\n", b"a\r\n" + longest, longest + b"\r\n" + longest + b"\r\n"):
        check_content(good)
    for bad in (longest + b"x", longest + b"x\r\n", b"a\r\n" + longest + b"x", longest + b"x\r\na"):
        with pytest.raises(ValueError, match="998"):
            check_content(bad)


LINES = st.lists(st.text(st.sampled_from(".a \t"), max_size=5).map(str.encode), max_size=8)


@given(LINES, st.booleans())
def test_what_the_server_undoes_is_what_was_given(lines: list[bytes], ended: bool) -> None:
    """A server of RFC 5321 §4.5.2: take lines to the lone dot, drop the first dot of each."""
    content = b"\r\n".join(lines) + (b"\r\n" if ended and lines else b"")
    wire = data_octets(content)
    assert wire.endswith(b".\r\n")
    received = wire.split(b"\r\n")[:-1]
    assert received.index(b".") == len(received) - 1
    taken = b"".join(line.removeprefix(b".") + b"\r\n" for line in received[:-1])
    complete = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
    assert taken == complete
    assert Envelope(sender="", recipients=("a@x.test",), content=content).size_bytes == len(complete)


@pytest.mark.parametrize(("username", "password"), [(None, None), ("alice", None), (None, "secret")])
def test_a_login_that_is_wanted_must_be_given(username: str | None, password: str | None) -> None:
    with pytest.raises(ValueError, match="a username, and a password"):
        Settings(host="r", helo_name="c", auth="preferred", username=username, password=password)


@pytest.mark.parametrize("bad", ["", "a\0b", "\ud800", "x" * 4097])
def test_logins_that_cannot_be_sent(bad: str) -> None:
    for username, password in ((bad, "secret"), ("alice", bad)):
        with pytest.raises(ValueError, match="for AUTH") as caught:
            Settings(host="r", helo_name="c", auth="required", username=username, password=password)
        assert not bad or bad not in str(caught.value)


def test_no_secret_in_a_repr() -> None:
    settings = Settings(host="r", helo_name="c", auth="required", username="alice", password="s3cret pass")
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in repr(settings.login(token=None))


def test_no_message_text_in_a_repr() -> None:
    assert "Hello" not in repr(Envelope(sender="", recipients=("a@x.test",), content=b"Hello"))


def test_timeouts_are_those_of_rfc_5321_and_positive() -> None:
    timeouts = Timeouts()
    assert [timeouts.reply_s(phase) for phase in ("greeting", "mail", "rcpt", "data", "content")] == [
        300,
        300,
        300,
        120,
        600,
    ]
    for bad in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="mail_s"):
            Timeouts(mail_s=bad)
