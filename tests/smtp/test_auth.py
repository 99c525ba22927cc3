"""The AUTH exchanges by themselves."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import replace
from typing import Any

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


TIM = Credentials(username="tim", password="tanstaaftanstaaf")
TOKEN = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="
BEARER = Credentials(username="user@example.com", token=TOKEN, host="server.example.com", port=587)
REFUSED = b64encode(
    b'{"status":"invalid_token","scope":"mail","openid-configuration":"https://a.example"}'
).decode()


def asked(text: str) -> Reply:
    return Reply(code=334, lines=(text,))


def test_cram_md5_is_rfc_2195s_example() -> None:
    one = Login(TIM)
    first = one.begin({"CRAM-MD5"})
    assert first is not None
    assert first.octets == first.shown == "AUTH CRAM-MD5"
    line = one.answer(asked("PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+"))
    assert line.octets == "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw"
    assert line.shown == "****"
    said = Reply(code=535, lines=("tim B913A602C7EDA7A495B4E6E7334D3890", line.octets, "tanstaaftanstaaf"))
    assert one.without_secrets(said).lines == ("tim ****", "****", "****")
    assert one.answer(asked("PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+")).octets == "*"


@pytest.mark.parametrize("challenge", ["", "=", "no base64!", "YWJj ZGVm", "YWJ", "jürgen"])
def test_cram_md5_signs_no_broken_challenge(challenge: str) -> None:
    one = Login(TIM)
    one.begin({"CRAM-MD5"})
    assert one.answer(asked(challenge)).octets == "*"
    with pytest.raises(ProtocolError, match="cancelled"):
        one.answer(asked(challenge))


@pytest.mark.parametrize(
    ("mechanism", "credentials", "line"),
    [
        (  # RFC 7628 §4.1 and §4.3, with the port of submission
            "OAUTHBEARER",
            BEARER,
            (
                "bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9NTg3AWF1dGg9QmVhcmVyIHZGOWRmdDRxbVRj"
                "Mk52YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB"
            ),
        ),
        (  # Google's page on XOAUTH2
            "XOAUTH2",
            Credentials(username="someuser@example.com", token="vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg=="),
            (
                "dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB2RjlkZnQ0cW1UYzJOdmIzUmxja0JoZEhSaGRtbHpkR0V1WTI5dENn"
                "PT0BAQ=="
            ),
        ),
        (
            "OAUTHBEARER",
            Credentials(username="a=b,ü", token="t"),
            b64encode("n,a=a=3Db=2Cü,\x01auth=Bearer t\x01\x01".encode()).decode(),
        ),
    ],
)
def test_tokens_as_they_are_documented(mechanism: str, credentials: Credentials, line: str) -> None:
    first = Login(credentials).begin({mechanism})
    assert first is not None
    assert first.octets == f"AUTH {mechanism} {line}"
    assert first.shown == f"AUTH {mechanism} ****"
    assert TOKEN not in repr(credentials) + repr(first)


@pytest.mark.parametrize(("mechanism", "closing"), [("XOAUTH2", ""), ("OAUTHBEARER", "AQ==")])
def test_the_error_of_a_token_is_closed_and_told(mechanism: str, closing: str) -> None:
    one = Login(BEARER)
    one.begin({mechanism})
    line = one.answer(asked(REFUSED))
    assert (line.octets, line.shown) == (closing, closing)
    assert one.error == "status invalid_token, scope mail"
    assert one.answer(asked("")).octets == "*"
    with pytest.raises(ProtocolError, match="cancelled"):
        one.answer(asked(""))


@pytest.mark.parametrize(("mechanism", "closing"), [("XOAUTH2", ""), ("OAUTHBEARER", "AQ==")])
@pytest.mark.parametrize(("token", "prompt"), [(TOKEN, ""), ("x" * 2000, ""), ("x" * 2000, "R28gYWhlYWQ=")])
def test_a_token_that_is_asked_for_is_told(mechanism: str, closing: str, token: str, prompt: str) -> None:
    one = Login(Credentials(username="user@example.com", token=token))
    first = one.begin({mechanism})
    whole = one.answer(asked(prompt)).octets
    assert f"auth=Bearer {token}\1".encode() in b64decode(whole)
    assert first is not None
    assert first.octets == (f"AUTH {mechanism}" if len(token) > 500 else f"AUTH {mechanism} {whole}")
    assert one.answer(asked(REFUSED)).octets == closing
    assert one.without_secrets(Reply(code=535, lines=(f"no {token}", whole))).lines == ("no ****", "****")


@pytest.mark.parametrize(
    ("told", "error"),
    [
        (b'{"status":"401","schemes":"bearer","scope":"mail"}', "status 401, schemes bearer, scope mail"),
        (b'{"status":400,"scope":null}', "status 400"),
        (b'{"reason":"because"}', '{"reason":"because"}'),
        (b"[1]", "[1]"),
        (b"[" * 2500, "[" * 199 + "…"),
        (b"tired\r\n\x1b[2J of it\n", "tired  \N{REPLACEMENT CHARACTER}[2J of it"),
        (b"\xff", "\N{REPLACEMENT CHARACTER}"),
        (f'{{"status":"{TOKEN} is no token"}}'.encode(), "status **** is no token"),
        (b" \r\n", None),
        (None, "no base64!"),
    ],
)
def test_whatever_the_error_is(told: bytes | None, error: str | None) -> None:
    one = Login(BEARER)
    one.begin({"XOAUTH2"})
    one.answer(asked("no base64!" if told is None else b64encode(told).decode()))
    assert one.error == error


def test_a_challenge_that_repeats_the_token_is_not_shown() -> None:
    one = Login(BEARER)
    one.begin({"XOAUTH2"})
    echo = b64encode(f'{{"status":"401","seen":"{TOKEN}"}}'.encode()).decode()
    masked = one.without_secrets(asked(echo))
    assert masked.lines == ("****",)
    assert one.answer(masked).octets == "", "the exchange goes on all the same"


def test_the_mechanisms_are_those_that_fit_in_our_order_or_the_given_one() -> None:
    every = {"XOAUTH2", "OAUTHBEARER", "CRAM-MD5", "LOGIN", "PLAIN"}

    def tried(credentials: Credentials) -> list[str]:
        one = Login(credentials)
        return [line.octets.split()[1] for _ in every if (line := one.begin(every)) is not None]

    assert tried(TIM) == ["PLAIN", "LOGIN", "CRAM-MD5"]
    assert tried(BEARER) == ["OAUTHBEARER", "XOAUTH2"]
    assert tried(replace(TIM, mechanisms=("CRAM-MD5", "PLAIN"))) == ["CRAM-MD5", "PLAIN"]
    assert tried(replace(BEARER, mechanisms=("XOAUTH2",))) == ["XOAUTH2"]


@pytest.mark.parametrize(
    ("offered", "mechanisms", "password", "is_eager"),
    [
        ({"PLAIN", "LOGIN"}, (), "s3cret", True),
        ({"PLAIN", "LOGIN"}, ("PLAIN", "LOGIN"), "s3cret", True),
        ({"PLAIN"}, ("LOGIN", "PLAIN"), "s3cret", True),
        ({"PLAIN", "LOGIN"}, ("LOGIN", "PLAIN"), "s3cret", False),
        ({"LOGIN"}, (), "s3cret", False),
        ({"PLAIN"}, (), "x" * 400, False),
        (set(), (), "s3cret", False),
    ],
)
def test_plain_alone_is_eager(
    offered: set[str], mechanisms: tuple[str, ...], password: str, is_eager: bool
) -> None:
    credentials = Credentials(username="alice", password=password, mechanisms=mechanisms)
    one = Login(credentials)
    eager = one.eager_line(offered)
    plain = Login(credentials).begin(offered)
    assert eager == (plain if is_eager else None)
    again = one.begin({"PLAIN"})
    assert (again is None) is is_eager, "what was eager has been tried, what was not is still to be"
    assert Login(BEARER).eager_line({"PLAIN", "OAUTHBEARER"}) is None
    assert Login(None).eager_line({"PLAIN"}) is None


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "a password or a token, and not both"),
        ({"password": "SECRET", "token": "SECRET"}, "a password or a token, and not both"),
        ({"password": ""}, "password for AUTH is empty"),
        ({"password": "SECRET\0"}, "password for AUTH is empty or holds a NUL"),
        ({"password": "SECRET\ud800"}, "Unicode"),
        ({"password": "SECRET" * 1000}, "4096 octets"),
        ({"token": ""}, "token for AUTH must have"),
        ({"token": "SECRET 2"}, "no blanks"),
        ({"token": "SECRET\1"}, "visible"),
        ({"token": "SECRETé"}, "ASCII"),
        ({"token": "S" * 8193}, "1 to 8192"),
        ({"token": "S" * 8192, "username": "a" * 1024}, "9216 octets together"),
        ({"token": "SECRET", "username": "a\1auth=Bearer x"}, "Ctrl-A"),
        ({"token": "SECRET", "host": "a\1b"}, "host"),
        ({"token": "SECRET", "port": 0}, "port"),
        ({"password": "SECRET", "username": "a\0"}, "username for AUTH is empty or holds a NUL"),
        ({"password": "SECRET", "mechanisms": ("plain",)}, "plain for AUTH is not known: there are PLAIN, LOGIN"),
        ({"password": "SECRET", "mechanisms": ("PLAIN", "XOAUTH2")}, "XOAUTH2 for AUTH needs a token"),
        ({"token": "SECRET", "mechanisms": ("CRAM-MD5",)}, "CRAM-MD5 for AUTH needs a password"),
    ],
)
def test_logins_that_cannot_be_sent(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        Credentials(**({"username": "alice"} | given))
    assert "SECRET" not in str(caught.value)
