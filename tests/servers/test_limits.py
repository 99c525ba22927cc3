"""Servers that have had enough: of connections, of letters, of silence, of errors."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import ExitStack

import pytest

from tests.servers.conftest import HOST, PATIENCE_S, NewClient
from tests.servers.letters import ALERTS, NOBODY, letter, token_of
from tests.servers.mailboxes import Mailbox
from tests.servers.matrix import ACCEPTED, TWO_CONNECTIONS, TWO_SECONDS
from tests.servers.rig import Rig
from tests.servers.test_matrix import end_of, in_order


def hear(connection: socket.socket, code: bytes) -> None:
    """Read until the server has said ``code``, or fail at the end of PATIENCE_S or of the connection."""
    connection.settimeout(PATIENCE_S)
    heard = b""
    while code not in heard:
        data = connection.recv(4096)
        assert data, heard
        heard += data


def test_letters_a_minute(new_client: NewClient, mailboxes: Mapping[str, Mailbox]) -> None:
    """Five a minute: of twelve at least one is put off, even if a new minute begins between them."""
    client = new_client("POSTFIX_LIMITS", {}, timeouts={})
    ends: list[str] = []
    while "mail 4" not in ends and len(ends) < 12:
        sent = letter(body=b"short\r\n")
        (one,) = client.deliver([sent])
        ends.append(end_of(one))
        assert not one.relay_refused, one.transcript
        arrive = [ALERTS] if ends[-1] == ACCEPTED else []
        assert mailboxes["POSTFIX"].await_recipients(token_of(sent), arrive) == arrive, one.transcript
    assert ends == [ACCEPTED] * (len(ends) - 1) + ["mail 4"]


def test_letters_a_connection(new_client: NewClient, mailboxes: Mapping[str, Mailbox]) -> None:
    """Three a connection, then 421: the letter that meets it goes over a new one, and is sent once."""
    letters = [letter() for _ in range(8)]
    deliveries = in_order(letters, new_client("EXIM_LIMITS", {}, timeouts={}).deliver(letters))
    transcript = "\n".join(line for one in deliveries for line in one.transcript)
    assert [end_of(one) for one in deliveries] == [ACCEPTED] * 8, transcript
    assert transcript.count("= connected") == 3, transcript
    for sent, one in zip(letters, deliveries, strict=True):
        assert mailboxes["EXIM"].await_recipients(token_of(sent), [ALERTS]) == [ALERTS]
        mailboxes["EXIM"].assert_intact(sent, one)


@pytest.mark.parametrize("port", TWO_CONNECTIONS)
def test_connections_at_once(port: str, rig: Rig, new_client: NewClient, mailboxes: Mapping[str, Mailbox]) -> None:
    letters = [letter(), letter()]
    with ExitStack() as held:
        for _ in range(2):
            hear(held.enter_context(socket.create_connection((HOST, rig.port(port)), PATIENCE_S)), b"\r\n")
        deliveries = in_order(letters, new_client(port, {}, timeouts={}).deliver(letters))
    for sent, one in zip(letters, deliveries, strict=True):
        assert (end_of(one), one.relay_refused, one.greeting) == ("greeting 4", True, None), one.transcript
        assert one.reply is not None
        assert one.reply.code == 421
        assert mailboxes[port.partition("_")[0]].await_recipients(token_of(sent), []) == []


@pytest.mark.parametrize("port", TWO_SECONDS)
def test_a_connection_that_was_ended_meanwhile(
    port: str, rig: Rig, new_client: NewClient, mailboxes: Mapping[str, Mailbox]
) -> None:
    """Both servers say 421, unasked, after two seconds without a command; it is no answer to the next letter."""
    client = new_client(port, {}, timeouts={})
    letters = [letter(), letter()]
    (first,) = client.deliver(letters[:1])
    # A connection younger than ours that has come to its end tells that ours has, too.
    with socket.create_connection((HOST, rig.port(port)), PATIENCE_S) as younger:
        hear(younger, b"421")
    (second,) = client.deliver(letters[1:])
    assert [end_of(first), end_of(second)] == [ACCEPTED, ACCEPTED], second.transcript
    assert any(line.startswith("= connected") for line in second.transcript), second.transcript
    for sent, one in zip(letters, (first, second), strict=True):
        mailbox = mailboxes[port.partition("_")[0]]
        assert mailbox.await_recipients(token_of(sent), [ALERTS]) == [ALERTS]
        mailbox.assert_intact(sent, one)


def test_errors_a_connection(new_client: NewClient, mailboxes: Mapping[str, Mailbox]) -> None:
    """Three errors, then 421, unasked: the good letters behind them go over a new connection."""
    letters = [letter(to=(to,)) for to in (NOBODY, NOBODY, NOBODY, ALERTS, ALERTS)]
    deliveries = in_order(letters, new_client("POSTFIX_QUICK", {}, timeouts={}).deliver(letters))
    transcript = "\n".join(line for one in deliveries for line in one.transcript)
    assert [end_of(one) for one in deliveries] == ["rcpt 5"] * 3 + [ACCEPTED] * 2, transcript
    assert transcript.count("= connected") == 2, transcript
    for sent, one in zip(letters[3:], deliveries[3:], strict=True):
        assert mailboxes["POSTFIX"].await_recipients(token_of(sent), [ALERTS]) == [ALERTS]
        mailboxes["POSTFIX"].assert_intact(sent, one)
