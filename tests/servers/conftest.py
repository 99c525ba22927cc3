"""The servers, their mailboxes, and a chip to deliver through."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address
from typing import Any

import pytest

from plugin.smtp import Client, Settings, Stream, Timeouts
from plugin.uplink import Fixed, Uplink, resolve_by_host
from plugin.w5100 import Addressing, Chip
from plugin.w5100.emulator import Emulator
from tests.servers.edited import EditedStream
from tests.servers.mailboxes import SERVERS, Mailbox
from tests.servers.matrix import Edit
from tests.servers.rig import HINDRANCE, REQUIREMENT, Rig, find, required

HOST = "localhost"
ADDRESSING = Addressing(
    mac=bytes.fromhex("0208dc010203"),
    address=IPv4Address("127.0.0.1"),
    subnet_mask=IPv4Address("255.0.0.0"),
    gateway=IPv4Address(0),
)
PATIENCE_S = 15.0
TIMEOUTS: Mapping[str, float] = {
    f"{phase}_s": PATIENCE_S
    for phase in ("greeting", "hello", "tls", "auth", "mail", "rcpt", "data", "content", "block", "letter")
}

NewClient = Callable[..., Client]


@pytest.fixture(scope="session")
def rig() -> Rig:
    """Return the servers; without any the tests are left out, or fail where they are required."""
    found = find(os.environ)
    if found is None and required(os.environ):
        pytest.fail(f"HARDWIRE_REQUIRE: {REQUIREMENT}: {HINDRANCE}")
    if found is None:
        pytest.skip(HINDRANCE)
    return found


@pytest.fixture(scope="session")
def mailboxes(rig: Rig) -> Iterator[Mapping[str, Mailbox]]:
    """What each server has delivered; at the end of all tests every letter is still there as often as it was."""
    kept = {
        name: Mailbox(server=server, folder=rig.path(server.folder))
        for name, server in SERVERS.items()
        if server.folder in rig.values
    }
    yield kept
    assert {name: changed for name, mailbox in kept.items() if (changed := mailbox.changed())} == {}


@pytest.fixture
def uplink() -> Iterator[Uplink]:
    link = Uplink(Chip(Emulator()), Fixed(ADDRESSING), lanes=1, resolve=resolve_by_host)
    yield link
    link.close()


@pytest.fixture
def new_client(rig: Rig, uplink: Uplink) -> Iterator[NewClient]:
    """Make clients that go through the chip; all are closed at the end of the test."""
    clients: list[Client] = []

    def make(
        port: str, settings: Mapping[str, Any], *, timeouts: Mapping[str, float], edit: Edit | None = None
    ) -> Client:
        def connect() -> Stream:
            stream = uplink.connect(HOST, rig.port(port), PATIENCE_S)
            return EditedStream(stream, *edit) if edit else stream

        merged: dict[str, Any] = {"ca_file": rig.values["RIG_CA"], **settings}
        client = Client(
            connect,
            Settings(host=HOST, helo_name="[127.0.0.1]", timeouts=Timeouts(**{**TIMEOUTS, **timeouts}), **merged),
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()
