"""The mail clients that are compared, under one face: Hardwire over the emulated chip, smtplib, aiosmtplib.

Each connects when it has its first mails, through a proxy on loopback, and keeps the connection until it is
closed. All get the same octets and check the server's certificate in the same way.
"""

from __future__ import annotations

import asyncio
import smtplib
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final, Protocol

import aiosmtplib

from plugin.smtp import Client, Envelope, Settings
from plugin.uplink import Fixed, Uplink, resolve_literal
from plugin.w5100 import Addressing, Chip
from plugin.w5100.emulator import Emulator

LOOPBACK: Final = "127.0.0.1"
HELO_NAME: Final = "[127.0.0.1]"
PATIENCE_S: Final = 60.0
"""How long smtplib and aiosmtplib wait for a reply; Hardwire has RFC 5321's limits."""


class MailLostError(RuntimeError):
    """A mail was not accepted, so there is no figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a client gets to a server: by ``port`` on loopback, where the proxy is; ``host`` is in its certificate.

    ``ca_file`` None: the authorities of this host. ``username`` None: without AUTH.
    """

    host: str
    port: int
    tls: bool
    ca_file: str | None
    username: str | None
    password: str | None = field(repr=False)
    sender: str
    recipient: str


class Mailer(Protocol):
    """A mail client with at most one connection."""

    def send(self, contents: Sequence[bytes]) -> None:
        """Send each mail, and return when all have their 250; raises MailLostError, or what the client raises."""
        ...

    def close(self) -> None:
        """End the connection, with QUIT."""
        ...


class HardwireMailer:
    """``plugin.smtp.Client`` over one hardware socket of the emulated chip."""

    def __init__(self, access: Access, uplink: Uplink, *, eager: bool) -> None:
        self._access = access
        self._client = Client(
            lambda: uplink.connect(LOOPBACK, access.port, PATIENCE_S),
            Settings(
                host=access.host,
                helo_name=HELO_NAME,
                security="tls" if access.tls else "none",
                ca_file=access.ca_file,
                auth="none" if access.username is None else "required",
                username=access.username,
                password=access.password,
                eager=eager,
            ),
        )

    def send(self, contents: Sequence[bytes]) -> None:
        """Hand all mails over; the client takes as many at a time as the server allows."""
        access = self._access
        envelopes = (
            Envelope(sender=access.sender, recipients=(access.recipient,), content=content) for content in contents
        )
        accepted = 0
        for delivery in self._client.deliver(envelopes):
            if not all(recipient.accepted for recipient in delivery.recipients):
                raise MailLostError(f"not accepted: {'; '.join(delivery.transcript[-6:])}")
            accepted += 1
        if accepted != len(contents):
            raise MailLostError(f"{accepted} of {len(contents)} mails have a verdict")

    def close(self) -> None:
        """End the connection."""
        self._client.close()


class _Smtps(smtplib.SMTP_SSL):
    """smtplib connected to the proxy, with the name of the server behind it in the handshake."""

    def __init__(self, name: str, context: ssl.SSLContext) -> None:
        self._name = name
        super().__init__(local_hostname=HELO_NAME, timeout=PATIENCE_S, context=context)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        plain = socket.create_connection((host, port), timeout)
        return self.context.wrap_socket(plain, server_hostname=self._name)


class SmtplibMailer:
    """Python's own client."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._connected = False
        self._client: smtplib.SMTP
        if access.tls:
            self._client = _Smtps(access.host, ssl.create_default_context(cafile=access.ca_file))
        else:
            self._client = smtplib.SMTP(local_hostname=HELO_NAME, timeout=PATIENCE_S)

    def send(self, contents: Sequence[bytes]) -> None:
        """Send one mail after another; smtplib raises for a refused one."""
        access = self._access
        if not self._connected:
            self._client.connect(LOOPBACK, access.port)
            self._connected = True
            if access.username is not None and access.password is not None:
                self._client.login(access.username, access.password)
        for content in contents:
            self._client.sendmail(access.sender, [access.recipient], content)

    def close(self) -> None:
        """End the connection."""
        self._client.quit()


class AiosmtplibMailer:
    """aiosmtplib, in an event loop of its own."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._runner = asyncio.Runner()
        self._client: aiosmtplib.SMTP | None = None
        self._context = ssl.create_default_context(cafile=access.ca_file) if access.tls else None

    def send(self, contents: Sequence[bytes]) -> None:
        """Send one mail after another; aiosmtplib raises for a refused one."""
        self._runner.run(self._send(contents))

    async def _send(self, contents: Sequence[bytes]) -> None:
        access = self._access
        if self._client is None:
            self._client = await self._connect()
        for content in contents:
            await self._client.sendmail(access.sender, [access.recipient], content)

    async def _connect(self) -> aiosmtplib.SMTP:
        access = self._access
        client = aiosmtplib.SMTP(
            hostname=access.host,
            sock=socket.create_connection((LOOPBACK, access.port), PATIENCE_S),
            local_hostname=HELO_NAME,
            timeout=PATIENCE_S,
            use_tls=access.tls,
            start_tls=False,
            tls_context=self._context,
            username=access.username,
            password=access.password,
        )
        await client.connect()
        return client

    def close(self) -> None:
        """End the connection and the event loop."""
        if self._client is not None:
            self._runner.run(self._quit(self._client))
        self._runner.close()

    async def _quit(self, client: aiosmtplib.SMTP) -> None:
        await client.quit()


CLIENTS: Final = ("smtplib", "aiosmtplib", "Hardwire", "Hardwire, eager")
BASELINE: Final = CLIENTS[0]


class Clients:
    """Makes clients by their name; has the chip that Hardwire's share, one at a time."""

    def __init__(self) -> None:
        addressing = Addressing(
            mac=bytes.fromhex("0208dc010203"),
            address=IPv4Address(LOOPBACK),
            subnet_mask=IPv4Address("255.0.0.0"),
            gateway=IPv4Address(0),
        )
        self._uplink = Uplink(Chip(Emulator()), Fixed(addressing), lanes=1, resolve=resolve_literal)
        self._uplink.bring_up()

    def make(self, name: str, access: Access) -> Mailer:
        """Return a new client that is not connected yet."""
        match name:
            case "smtplib":
                return SmtplibMailer(access)
            case "aiosmtplib":
                return AiosmtplibMailer(access)
            case _:
                return HardwireMailer(access, self._uplink, eager=name == "Hardwire, eager")

    def close(self) -> None:
        """Let go of the chip."""
        self._uplink.close()
