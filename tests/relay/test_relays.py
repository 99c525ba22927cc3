"""Relays over a real server: in TLS through the emulated chip, the session resumed from letter to letter."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from ipaddress import IPv4Address

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink

from plugin.alert import Attempt, Letter
from plugin.relay import Relay, Relays
from plugin.smtp.settings import Security, Settings
from plugin.uplink import Fixed, Uplink, resolve_by_host
from plugin.w5100 import Addressing, Chip
from plugin.w5100.emulator import Emulator
from tests.smtp.tls_servers import AUTHORITY, server_context

ADDRESSING = Addressing(
    mac=bytes.fromhex("0208dc010203"),
    address=IPv4Address("127.0.0.1"),
    subnet_mask=IPv4Address("255.0.0.0"),
    gateway=IPv4Address(0),
)
LETTER = Letter(
    id=1,
    alert_ids=("a",),
    route="#",
    subject="s",
    message_id="<m@example.net>",
    sender="house@example.net",
    recipients=("alice@example.net",),
    content=b"Subject: s\r\n\r\ntext\r\n",
)


@pytest.fixture
def uplink() -> Iterator[Uplink]:
    link = Uplink(Chip(Emulator()), Fixed(ADDRESSING), lanes=1, resolve=resolve_by_host)
    yield link
    link.close()


@contextmanager
def serving(security: Security) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    context = server_context()
    controller = Controller(
        Sink(),
        hostname="127.0.0.1",
        port=port,
        ssl_context=context if security == "tls" else None,
        tls_context=context if security == "starttls" else None,
    )
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


def deliver(relays: Relays) -> Attempt:
    """One letter over a connection of its own."""
    ((letter, attempt),) = relays.deliver([LETTER])
    relays.close()
    assert letter is LETTER
    return attempt


def relay(port: int, security: Security) -> Relay:
    settings = Settings(host="localhost", helo_name="[127.0.0.1]", security=security, ca_file=AUTHORITY)
    return Relay(host="localhost", port=port, connect_timeout_s=10, settings=settings)


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_letters_go_in_tls_and_the_second_resumes_the_session(uplink: Uplink, security: Security) -> None:
    with serving(security) as port:
        relays = Relays([relay(port, security)], uplink.connect, now=lambda: datetime.now(UTC))
        first, second = deliver(relays), deliver(relays)
        greeted = list(relays.greet())
    for attempt in (first, second):
        assert [one.state for one in attempt.recipients] == ["accepted"]
        assert attempt.tls == "TLSv1.3"
    assert not any("resumed" in line for line in first.transcript)
    assert any("resumed" in line for line in second.transcript)
    ((_, problem, how),) = greeted
    assert problem is None
    assert "certificate of localhost until" in how


def test_a_relay_in_clear_text_is_passed_over_for_one_in_tls(uplink: Uplink) -> None:
    with serving("none") as plain, serving("tls") as secured:
        relays = Relays(
            [relay(plain, "starttls"), relay(secured, "tls")], uplink.connect, now=lambda: datetime.now(UTC)
        )
        attempt = deliver(relays)
    assert attempt.relay == f"localhost:{secured}"
    assert [one.state for one in attempt.recipients] == ["accepted"]
    assert "= the next relay is tried: localhost:" in "\n".join(attempt.transcript)
    assert not any(
        line.startswith("C: MAIL") for line in attempt.transcript[: attempt.transcript.index("C: QUIT")]
    )
