"""What each mood of each server has to lead to. A mood is a port; the names are those of the servers' file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from tests.servers.letters import ABROAD, ALERTS, FULL, GREYLISTED, NOBODY, OPS, POLICY, TOO_LARGE, TRICKY
from tests.servers.tokens import EXIM_BAD, EXIM_GOOD, EXPIRED, GOOD

ACCEPTED: Final = "content 2"
TLS: Final = "TLSv1.3"
STRANGER: Final = str(Path(__file__).parents[1] / "smtp" / "certificates" / "stranger.pem")

LOGIN: Final = {"auth": "required", "username": "alice", "password": "s3cret pass"}
WRONG: Final = LOGIN | {"password": "s3cret pas"}
STARTTLS: Final = {"security": "starttls"}
IMPLICIT: Final = {"security": "tls"}
PREFERRED: Final = {"auth": "preferred"}
HELO: Final = {"greeting": "helo"}

Edit = tuple[re.Pattern[bytes], bytes]
WITHOUT_SIZE: Final[Edit] = (re.compile(rb"^(250[ -])SIZE.*"), rb"\1XSIZE\r")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """``letters`` alike are sent in one go, and each of them has to end in the same way.

    ``end`` is how a letter ends: its phase, then the first digit of the reply or the kind of fault; ``others``
    are the recipients that end otherwise; ``grouped`` is how it may end as well where commands leave together.
    ``settings`` go on top of no TLS and no AUTH. ``edit`` changes what the
    server says. ``says`` stands in the transcript. Who is accepted has the letter in the mailbox, once, where
    the server keeps any; nobody else has it.
    """

    port: str
    name: str
    end: str = ACCEPTED
    grouped: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    timeouts: Mapping[str, float] = field(default_factory=dict)
    edit: Edit | None = None
    to: tuple[str, ...] = (ALERTS,)
    others: Mapping[str, str] = field(default_factory=dict)
    sender: str | None = None
    body: bytes = TRICKY
    letters: int = 3
    greeting: Literal["EHLO", "HELO"] | None = "EHLO"
    authenticated: bool = False
    tls: str | None = None
    relay_refused: bool = False
    possible_duplicate: bool = False
    says: str = ""


KEEP_NOTHING: Final = frozenset({"AIOSMTPD_FAST", "SINK_SOFTDATA", "SINK_DROPDATA", "SINK_NODOT", "SINK_SLOW"})
CLEAR: Final = (  # take letters for their own domain from anybody, after EHLO
    "POSTFIX_PLAIN", "POSTFIX_NOPIPE", "POSTFIX_PREGREET", "POSTFIX_NORMLF", "POSTFIX_REJLF", "POSTFIX_QUICK",
    "POSTFIX_LATE", "POSTFIX_NOCHUNK", "POSTFIX_STRICT", "EXIM_PLAIN", "EXIM_NOSYNC", "EXIM_QUICK", "EXIM_NOPIPE",
    "OPENSMTPD_PLAIN", "OPENSMTPD_BADTLS", "AIOSMTPD_PLAIN", "AIOSMTPD_FAST", "SINK_PLAIN", "SINK_NOPIPE",
)  # fmt: skip
NO_EHLO: Final = ("POSTFIX_NOEHLO", "EXIM_NOEHLO", "SINK_NOEHLO")
AUTH_IN_CLEAR: Final = (
    "POSTFIX_PLAIN",
    "POSTFIX_NOPIPE",
    "POSTFIX_STRICT",
    "EXIM_PLAIN",
    "EXIM_NOPIPE",
    "AIOSMTPD_PLAIN",
)
IN_STARTTLS: Final = ("POSTFIX_PLAIN", "POSTFIX_SUBMISSION", "EXIM_PLAIN", "EXIM_SUBMISSION", "AIOSMTPD_PLAIN")
IN_TLS: Final = ("POSTFIX_SUBMISSIONS", "EXIM_SUBMISSIONS", "AIOSMTPD_SMTPS")
NO_AUTH: Final = ("OPENSMTPD_PLAIN", "EXIM_SUBMISSION")  # the latter offers it in TLS only
NO_STARTTLS: Final = ("OPENSMTPD_PLAIN", "AIOSMTPD_FAST", "SINK_PLAIN")
WITH_SIZE: Final = (
    "POSTFIX_PLAIN",
    "POSTFIX_NOCHUNK",
    "EXIM_PLAIN",
    "EXIM_NOPIPE",
    "OPENSMTPD_PLAIN",
    "AIOSMTPD_PLAIN",
)
PARTICULAR: Final[Mapping[str, Mapping[str, str]]] = {  # about their recipients, and how
    "POSTFIX_PLAIN": {NOBODY: "rcpt 5", GREYLISTED: "rcpt 4", FULL: "rcpt 4", POLICY: "rcpt 5", ABROAD: "rcpt 5"},
    "POSTFIX_STRICT": {NOBODY: "rcpt 5", GREYLISTED: "rcpt 4", FULL: "rcpt 4", POLICY: "rcpt 5", ABROAD: "rcpt 5"},
    "POSTFIX_NOPIPE": {NOBODY: "rcpt 5", GREYLISTED: "rcpt 4"},
    "EXIM_PLAIN": {NOBODY: "rcpt 5", GREYLISTED: "rcpt 4", FULL: "rcpt 4", POLICY: "rcpt 5", ABROAD: "rcpt 5"},
    "EXIM_NOPIPE": {NOBODY: "rcpt 5", GREYLISTED: "rcpt 4"},
    "OPENSMTPD_PLAIN": {NOBODY: "rcpt 5", ABROAD: "rcpt 5"},
    "AIOSMTPD_PLAIN": {NOBODY: "rcpt 5", GREYLISTED: "rcpt 4", ABROAD: "rcpt 5"},
}
DOVECOT: Final = ("POSTFIX_PLAIN", "POSTFIX_STRICT")
_TOKEN: Final[dict[str, Any]] = {"auth": "required", "username": "alice"}
MECHANISMS: Final[Sequence[tuple[str, tuple[str, ...], Mapping[str, Any], Mapping[str, Any], str]]] = (
    # Which ports take it, with what it logs in, with what it cannot, and how that ends.
    ("PLAIN", AUTH_IN_CLEAR, LOGIN, WRONG, "auth 5"),
    ("LOGIN", AUTH_IN_CLEAR, LOGIN, WRONG, "auth 5"),
    ("CRAM-MD5", ("POSTFIX_PLAIN", "POSTFIX_STRICT", "EXIM_PLAIN", "EXIM_NOPIPE"), LOGIN, WRONG, "auth 5"),
    (
        "XOAUTH2",
        ("EXIM_PLAIN", "EXIM_NOPIPE"),
        _TOKEN | {"token": EXIM_GOOD},
        _TOKEN | {"token": EXIM_BAD},
        "auth 5",
    ),
    # Dovecot tells in a challenge what is wrong with a token, which an answer has to end before there is a reply.
    ("XOAUTH2", DOVECOT, _TOKEN | {"token": GOOD}, _TOKEN | {"token": EXPIRED}, "auth auth"),
    ("OAUTHBEARER", DOVECOT, _TOKEN | {"token": GOOD}, _TOKEN | {"token": EXPIRED}, "auth auth"),
)


def _hello() -> list[Row]:
    rows = [Row(port=port, name="plain") for port in CLEAR]
    rows += [Row(port=port, name="EHLO refused", greeting="HELO") for port in NO_EHLO]
    rows += [
        Row(port=port, name="HELO wanted", settings=HELO, greeting="HELO", says="C: HELO")
        for port in CLEAR
        if port not in ("POSTFIX_PREGREET", "POSTFIX_NORMLF", "POSTFIX_REJLF")
    ]
    refused: dict[str, Any] = {"greeting": None, "relay_refused": True, "says": "C: EHLO"}
    rows += [
        Row(port=port, name="EHLO refused, AUTH required", settings=LOGIN, end="hello auth", **refused)
        for port in NO_EHLO
    ]
    rows += [
        Row(port=port, name="EHLO refused, AUTH preferred", settings=LOGIN | PREFERRED, greeting="HELO")
        for port in NO_EHLO
    ]
    rows += [
        Row(port=port, name="EHLO refused, STARTTLS", settings=STARTTLS, end="hello tls", **refused)
        for port in NO_EHLO
    ]
    return rows


def _auth() -> list[Row]:
    rows = [
        Row(
            port=port,
            name=f"AUTH {mechanism}",
            settings={**good, "mechanisms": (mechanism,)},
            authenticated=True,
            says=f"C: AUTH {mechanism}",
        )
        for mechanism, ports, good, _, _ in MECHANISMS
        for port in ports
    ]
    rows += [
        Row(
            port=port,
            name=f"AUTH {mechanism} refused",
            settings={**bad, "mechanisms": (mechanism,)},
            end=end,
            relay_refused=True,
            says=f"C: AUTH {mechanism}",
        )
        for mechanism, ports, _, bad, end in MECHANISMS
        for port in ports
        if port.endswith("_PLAIN")
    ]
    rows += [
        Row(port=port, name="AUTH, to a foreign domain", settings=LOGIN, to=(ABROAD,), authenticated=True)
        for port in ("POSTFIX_PLAIN", "EXIM_PLAIN")
    ]
    rows += [
        Row(port=port, name="wrong password, AUTH preferred", settings=WRONG | PREFERRED, greeting="HELO")
        for port in ("POSTFIX_PLAIN", "EXIM_PLAIN", "AIOSMTPD_PLAIN")
    ]
    rows += [
        Row(port=port, name="no AUTH, AUTH required", settings=LOGIN, end="auth auth", relay_refused=True)
        for port in NO_AUTH
    ]
    rows += [
        Row(port="OPENSMTPD_PLAIN", name="no AUTH, AUTH preferred", settings=LOGIN | PREFERRED),
        # 530 speaks of us and not of the letter (RFC 4954 §6), whatever the command was.
        Row(port="EXIM_SUBMISSION", name="AUTH demanded", end="auth 5", relay_refused=True, says="S: 530"),
        Row(port="POSTFIX_SUBMISSION", name="STARTTLS demanded", end="auth 5", relay_refused=True, says="S: 530"),
    ]
    return rows


def _tls() -> list[Row]:
    rows = [
        Row(port=port, name="STARTTLS", settings=STARTTLS | LOGIN, tls=TLS, authenticated=True)
        for port in IN_STARTTLS
    ]
    rows += [Row(port=port, name="TLS", settings=IMPLICIT | LOGIN, tls=TLS, authenticated=True) for port in IN_TLS]
    rows += [
        Row(
            port=port,
            name=f"{name}, wrong password",
            settings=settings | WRONG,
            end="auth 5",
            tls=TLS,
            relay_refused=True,
        )
        for name, settings, ports in (("STARTTLS", STARTTLS, IN_STARTTLS), ("TLS", IMPLICIT, IN_TLS))
        for port in ports
    ]
    no_tls: dict[str, Any] = {"end": "tls tls", "relay_refused": True}
    rows += [Row(port=port, name="STARTTLS not offered", settings=STARTTLS, **no_tls) for port in NO_STARTTLS]
    rows += [
        Row(
            port=port,
            name="STARTTLS, a stranger's certificate",
            settings=STARTTLS | {"ca_file": STRANGER},
            **no_tls,
        )
        for port in ("POSTFIX_SUBMISSION", "EXIM_SUBMISSION", "AIOSMTPD_PLAIN")
    ]
    rows += [
        Row(
            port=port,
            name="TLS, a stranger's certificate",
            settings=IMPLICIT | {"ca_file": STRANGER},
            greeting=None,
            **no_tls,
        )
        for port in IN_TLS
    ]
    rows += [
        Row(port=port, name="TLS to a server in clear text", settings=IMPLICIT, greeting=None, **no_tls)
        for port in ("POSTFIX_PLAIN", "EXIM_PLAIN", "AIOSMTPD_PLAIN")
    ]
    rows += [
        Row(port="OPENSMTPD_BADTLS", name="STARTTLS broken", settings=STARTTLS, **no_tls),
        Row(port="OPENSMTPD_BADTLS_IMPLICIT", name="TLS broken", settings=IMPLICIT, greeting=None, **no_tls),
    ]
    rows += [
        Row(
            port=port,
            name="clear text to a server in TLS",
            timeouts={"greeting_s": 0.5},
            end="greeting timeout",
            greeting=None,
            relay_refused=True,
        )
        for port in ("POSTFIX_SUBMISSIONS", "AIOSMTPD_SMTPS")
    ]
    return rows


def _letters() -> list[Row]:
    """What servers say to recipients, senders and sizes."""
    rows = [
        Row(port=port, name="good ones beside", to=(*others, ALERTS, OPS), others=others)
        for port, others in PARTICULAR.items()
    ]
    rows += [
        Row(port=port, name=f"{address.partition('@')[0]} alone", to=(address,), end=end)
        for port, others in PARTICULAR.items()
        for address, end in others.items()
    ]
    rows += [
        Row(port=port, name="sender refused", sender="bad@sender.test", end=end)
        for port, end in (("POSTFIX_LATE", "mail 5"), ("EXIM_PLAIN", "mail 5"))
    ]
    rows += [Row(port=port, name="too large", body=TOO_LARGE, end="mail size") for port in WITH_SIZE]
    rows += [
        Row(
            port=port, name="too large, SIZE hidden", body=TOO_LARGE, edit=WITHOUT_SIZE, end="content 5", letters=2
        )
        for port in WITH_SIZE
    ]
    return rows


def _moods() -> list[Row]:
    return [
        # postscreen has a newcomer come back, however well it has behaved.
        Row(port="POSTFIX_SCREEN", name="newcomer", end="rcpt 4"),
        Row(port="SINK_SOFTDATA", name="DATA put off", end="data 4"),
        Row(port="SINK_DROPDATA", name="hangs up on DATA", end="data lost"),
        Row(port="SINK_NODOT", name="hangs up after the dot", end="content lost", possible_duplicate=True),
        Row(port="SINK_SLOW", name="patience", letters=1),
        # Three seconds before the reply to DATA; to a group of commands (RFC 2920) it replies to all at once.
        Row(
            port="SINK_SLOW",
            name="no patience",
            timeouts={"mail_s": 0.5, "rcpt_s": 0.5, "data_s": 0.5},
            end="data timeout",
            grouped="mail timeout",
            letters=1,
        ),
    ]


ROWS: Final = (*_hello(), *_auth(), *_tls(), *_letters(), *_moods())

# What is more than one verdict has a test of its own (test_limits.py, test_bursts.py).
TWO_CONNECTIONS: Final = ("POSTFIX_LIMITS", "EXIM_LIMITS")
TWO_SECONDS: Final = ("POSTFIX_QUICK", "EXIM_QUICK")
BURSTS: Final = (
    "POSTFIX_PLAIN", "POSTFIX_NOCHUNK", "POSTFIX_STRICT", "EXIM_PLAIN", "EXIM_NOPIPE", "OPENSMTPD_PLAIN",
    "AIOSMTPD_PLAIN",
)  # fmt: skip
COVERED: Final = frozenset({row.port for row in ROWS}.union(TWO_CONNECTIONS, TWO_SECONDS, BURSTS))
