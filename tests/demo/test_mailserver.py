"""The demo's mail server, spoken to by Python's own client."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator

import pytest

from plugin.demo import mailserver
from plugin.demo.mailserver import DOMAIN, MailServer

ALICE = f"alice@{DOMAIN}"
MAIL = b"Subject: x\r\n\r\ntext\r\n"


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer(users=(ALICE,), login="house", password="right") as running:
        yield running


@pytest.fixture
def client(server: MailServer) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP(server.host, server.port, timeout=30) as connection:
        yield connection


def test_a_mail_is_kept_octet_for_octet(server: MailServer, client: smtplib.SMTP) -> None:
    assert client.sendmail("a@b.test", [ALICE], MAIL) == {}
    assert server.mails == (MAIL,)


def test_a_stranger_is_refused(server: MailServer, client: smtplib.SMTP) -> None:
    refused = client.sendmail("a@b.test", [ALICE, f"nobody@{DOMAIN}"], MAIL)
    assert refused[f"nobody@{DOMAIN}"][0] == 550
    assert len(server.mails) == 1


@pytest.mark.parametrize(("login", "password"), [("house", "wrong"), ("other", "right"), ("house", "")])
def test_a_wrong_login_is_refused(client: smtplib.SMTP, login: str, password: str) -> None:
    with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        client.login(login, password)
    assert refused.value.smtp_code == 535


def test_the_right_login_is_taken(client: smtplib.SMTP) -> None:
    assert client.login("house", "right")[0] == 235


def test_ehlo_is_forgotten_and_recalled(server: MailServer, client: smtplib.SMTP) -> None:
    server.forget_ehlo()
    assert client.ehlo()[0] == 502
    assert client.helo()[0] == 250
    server.recall_ehlo()
    assert client.ehlo()[0] == 250


def test_what_it_keeps_is_bounded(
    server: MailServer, client: smtplib.SMTP, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailserver, "MAX_KEPT_BYTES", len(MAIL))
    client.sendmail("a@b.test", [ALICE], MAIL)
    with pytest.raises(smtplib.SMTPDataError) as refused:
        client.sendmail("a@b.test", [ALICE], MAIL)
    assert refused.value.smtp_code == 452
    assert server.mails == (MAIL,)


def test_a_port_that_is_taken_is_told(server: MailServer) -> None:
    with pytest.raises(OSError, match="in use"):
        MailServer(users=(), login="", password="", port=server.port)
