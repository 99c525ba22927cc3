"""Octets to replies: well formed, odd, broken, endless."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugin.smtp.errors import ProtocolError
from plugin.smtp.reply import MAX_LINE_BYTES, MAX_LINES, MAX_REPLY_BYTES, MAX_TEXT_CHARS, Reply, ReplyParser


def parse(octets: bytes, *, chunk_bytes: int = 0) -> list[Reply]:
    parser = ReplyParser()
    replies = []
    step = chunk_bytes or max(1, len(octets))
    for start in range(0, len(octets), step):
        parser.feed(octets[start : start + step])
        while (reply := parser.next_reply()) is not None:
            replies.append(reply)
    return replies


@pytest.mark.parametrize(
    ("octets", "code", "lines"),
    [
        (b"250 OK\r\n", 250, ("OK",)),
        (b"250\r\n", 250, ("",)),
        (b"250 \r\n", 250, ("",)),
        (b"250 OK\n", 250, ("OK",)),
        (b"250 OK\r\r\n", 250, ("OK",)),
        (b"250-a\r\n250-\r\n250 b\r\n", 250, ("a", "", "b")),
        (b"250-a\n250\n", 250, ("a", "")),
        (b"599  odd\r\n", 599, (" odd",)),
        (b"250 \xe4\r\n", 250, ("\ufffd",)),
        ("250 größer\r\n".encode(), 250, ("größer",)),
        (b"250 a\x00b\x1b[2Jc\x7f\r\n", 250, ("a\ufffdb\ufffd[2Jc\ufffd",)),
        (b"250 a\tb\rc\r\n", 250, ("a b c",)),
        ("250 \u202eevil\u2028x\u0085y\r\n".encode(), 250, ("\ufffdevil x y",)),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [0, 1, 3])
def test_well_formed(octets: bytes, code: int, lines: tuple[str, ...], chunk_bytes: int) -> None:
    assert parse(octets, chunk_bytes=chunk_bytes) == [Reply(code=code, lines=lines)]


@pytest.mark.parametrize(
    "octets",
    [
        b"\r\n",
        b"25\r\n",
        b"2500\r\n",
        b"250OK\r\n",
        b"250\tOK\r\n",
        b"250_OK\r\n",
        b"050 x\r\n",
        b"600 x\r\n",
        b" 250 x\r\n",
        b"abc\r\n",
        "\u0662\u0665\u0660 x\r\n".encode(),
        b"250-a\r\n251 b\r\n",
        b"250-a\r\nb\r\n",
        b"220-a\r\n554 b\r\n",
    ],
)
@pytest.mark.parametrize("chunk_bytes", [0, 1])
def test_junk_is_a_protocol_error(octets: bytes, chunk_bytes: int) -> None:
    with pytest.raises(ProtocolError):
        parse(octets, chunk_bytes=chunk_bytes)


def test_replies_in_front_of_junk_are_not_lost() -> None:
    parser = ReplyParser()
    parser.feed(b"250 taken\r\njunk\r\n")
    assert parser.next_reply() == Reply(code=250, lines=("taken",))
    with pytest.raises(ProtocolError, match="junk"):
        parser.next_reply()


def test_half_a_reply_is_none_yet() -> None:
    assert parse(b"250-a\r\n250 b\r") == []
    assert parse(b"250-a\r\n") == []


@pytest.mark.parametrize("chunk_bytes", [1, 500, 0])
def test_a_line_has_a_bound(chunk_bytes: int) -> None:
    longest = b"250 " + b"x" * (MAX_LINE_BYTES - 5) + b"\r\n"
    assert len(parse(longest, chunk_bytes=chunk_bytes)[0].lines[0]) == MAX_LINE_BYTES - 5
    with pytest.raises(ProtocolError, match="octets"):
        parse(b"250 " + b"x" * MAX_LINE_BYTES + b"\r\n", chunk_bytes=chunk_bytes)
    with pytest.raises(ProtocolError, match="octets"):
        parse(b"250 " + b"x" * 2 * MAX_LINE_BYTES, chunk_bytes=chunk_bytes)


def test_the_number_of_lines_has_a_bound() -> None:
    assert len(parse(b"250-x\r\n" * (MAX_LINES - 1) + b"250 x\r\n")[0].lines) == MAX_LINES
    with pytest.raises(ProtocolError, match="lines"):
        parse(b"250-x\r\n" * MAX_LINES + b"250 x\r\n")


def test_a_reply_has_a_bound() -> None:
    line = b"250-" + b"x" * 3996 + b"\r\n"
    assert len(line) * (MAX_REPLY_BYTES // len(line)) <= MAX_REPLY_BYTES
    assert parse(line * (MAX_REPLY_BYTES // len(line)) + b"250 x\r\n")
    with pytest.raises(ProtocolError, match="octets"):
        parse(line * (MAX_REPLY_BYTES // len(line) + 1) + b"250 x\r\n")


def test_bounds_are_for_one_reply_not_for_all() -> None:
    assert len(parse(b"250-x\r\n250 x\r\n" * MAX_LINES)) == MAX_LINES


@pytest.mark.parametrize(
    ("code", "lines", "enhanced", "text"),
    [
        (250, ("2.0.0 Ok: queued as 1",), "2.0.0", "Ok: queued as 1"),
        (250, ("OK id=1",), None, "OK id=1"),
        (
            550,
            ("5.7.26 not aligned", "5.7.26 see below", "5.7.1 other"),
            "5.7.26",
            "not aligned see below 5.7.1 other",
        ),
        (503, ("All RCPT commands were rejected", "", "no"), None, "All RCPT commands were rejected no"),
        (550, ("2.1.5 strange",), None, "2.1.5 strange"),
        (354, ("3.0.0 go",), None, "3.0.0 go"),
        (550, ("5.1.1",), "5.1.1", ""),
        (550, ("5.1 x",), None, "5.1 x"),
        (550, ("5.1.1x",), None, "5.1.1x"),
        (550, ("5.1.1000 x",), None, "5.1.1000 x"),
        (550, ("5.999.123 x",), "5.999.123", "x"),
        (250, ("",), None, ""),
    ],
)
def test_enhanced_status_code(code: int, lines: tuple[str, ...], enhanced: str | None, text: str) -> None:
    reply = Reply(code=code, lines=lines)
    assert (reply.first, reply.enhanced, reply.text) == (code // 100, enhanced, text)
    assert str(reply) == " ".join(filter(None, (str(code), enhanced, text)))


def test_the_text_has_a_bound() -> None:
    text = Reply(code=550, lines=("x" * 4000,) * 8).text
    assert len(text) == MAX_TEXT_CHARS
    assert text.endswith("…")


@given(st.lists(st.binary(max_size=80) | st.sampled_from([b"250 a\r\n", b"250-a\r\n", b"\r\n", b"\n", b"421 "])))
def test_any_octets(chunks: list[bytes]) -> None:
    """The verdict does not depend on how the octets were cut, and nothing but ProtocolError is raised."""

    def verdict(pieces: list[bytes]) -> tuple[list[Reply], bool]:
        parser, replies = ReplyParser(), []
        try:
            for piece in pieces:
                parser.feed(piece)
                while (reply := parser.next_reply()) is not None:
                    replies.append(reply)
        except ProtocolError:
            return replies, True
        return replies, False

    whole = b"".join(chunks)
    expected = verdict([whole])
    assert verdict(chunks) == expected
    assert verdict([whole[i : i + 1] for i in range(len(whole))]) == expected
    assert all(line.isprintable() for reply in expected[0] for line in (*reply.lines, reply.text))
