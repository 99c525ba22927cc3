"""The AUTH exchanges by themselves."""

from __future__ import annotations

from base64 import b64decode, b64encode

import pytest

from plugin.smtp.auth import MAX_COMMAND_BYTES, Credentials, Login, may_try_another
from plugin.smtp.errors import ProtocolError
from plugin.smtp.reply import Reply

PROMPT = Reply(code=334, lines=("VXNlcm5hbWU6",))


def login(username: str = "alice", password: str = "s3cret pass") -> Login:
    return Login(Credentials(username=username, password=password))


def test_plain_is_rfc_4616s_example() -> None:
    line = login("tim", "tanstaaftanstaaf").begin({"PLAIN"})
    assert line is not None
    assert line.octets == "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm"
    assert line.shown == "AUTH PLAIN ****"
    assert "AHRp" not in repr(line)


def test_utf_8() -> None:
    line = login("jürgen", "pässword€").begin({"PLAIN"})
    assert line is not None
    assert b64decode(line.octets.split()[-1]) == "\0jürgen\0pässword€".encode()


def test_login_counts_the_prompts() -> None:
    one = login()
    first = one.begin({"LOGIN"})
    assert first is not None
    assert first.octets == first.shown == "AUTH LOGIN"
    lines = [one.answer(Reply(code=334, lines=(prompt,))) for prompt in ("any", "thing", "at all")]
    assert [line.octets for line in lines] == ["YWxpY2U=", b64encode(b"s3cret pass").decode(), "*"]
    assert [line.shown for line in lines] == ["****", "****", "*"]
    with pytest.raises(ProtocolError, match="cancelled"):
        one.answer(PROMPT)


def test_each_mechanism_once_in_our_order() -> None:
    one = login()
    offered = {"GSSAPI", "LOGIN", "PLAIN"}
    names = [
        line and line.octets.split()[1] for line in (one.begin(offered), one.begin(offered), one.begin(offered))
    ]
    assert names == ["PLAIN", "LOGIN", None]
    assert login().begin({"GSSAPI"}) is None
    assert Login(None).begin({"PLAIN"}) is None


def test_a_cancelled_mechanism_does_not_cancel_the_next() -> None:
    one = login()
    one.begin({"PLAIN", "LOGIN"})
    assert [one.answer(PROMPT).shown, one.answer(PROMPT).shown] == ["****", "*"]
    assert one.begin({"PLAIN", "LOGIN"}) is not None
    assert one.answer(PROMPT).octets == "YWxpY2U="


@pytest.mark.parametrize("octets", [360, 370, 371, 372, 373, 380, 2000])
def test_the_command_line_keeps_its_bound(octets: int) -> None:
    one = login("alice", "x" * octets)
    line = one.begin({"PLAIN"})
    assert line is not None
    whole = b64encode(b"\0alice\0" + b"x" * octets).decode()
    fits = len(f"AUTH PLAIN {whole}\r\n") <= MAX_COMMAND_BYTES
    assert line.octets == (f"AUTH PLAIN {whole}" if fits else "AUTH PLAIN")
    if not fits:
        assert one.answer(Reply(code=334, lines=("",))).octets == whole


def test_secrets_are_masked_in_what_the_relay_says() -> None:
    one = login()
    said = Reply(code=535, lines=("S3CRET PASS is wrong", "alice"))
    assert one.without_secrets(said) == said  # nothing was said in confidence yet
    one.begin({"LOGIN"})
    one.answer(PROMPT)
    one.answer(PROMPT)
    encoded = b64encode(b"s3cret pass").decode()
    masked = one.without_secrets(
        Reply(code=535, lines=("S3CRET PASS is wrong", f"<{encoded}>", "YWxpY2U=", "fine"))
    )
    assert masked == Reply(code=535, lines=("**** is wrong", "<****>", "****", "fine"))


def test_a_very_short_password_does_not_blot_out_the_words() -> None:
    one = login("alice", "a")
    one.begin({"PLAIN"})
    assert one.without_secrets(Reply(code=250, lines=("a fair answer",))).lines == ("a fair answer",)


@pytest.mark.parametrize("code", [500, 501, 502, 504])
def test_not_understood(code: int) -> None:
    assert may_try_another(Reply(code=code, lines=("",)))


@pytest.mark.parametrize("code", [503, 530, 534, 535, 538, 550, 554, 454, 432])
def test_understood_and_refused(code: int) -> None:
    assert not may_try_another(Reply(code=code, lines=("",)))
