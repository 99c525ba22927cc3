"""Sends mails over the emulated chip and tells what each has cost on the bus."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from benchmarks.smtp_clients import HELO_NAME, LOOPBACK, PATIENCE_S, MailLostError
from benchmarks.smtp_servers import BuiltInServers, Server
from benchmarks.spi_count import CountingBus, CountingStream, Tally, tally
from plugin.smtp import Client, Envelope, Settings
from plugin.uplink import Fixed, Uplink, resolve_literal
from plugin.w5100 import Addressing, Chip
from plugin.w5100.bus import FRAME_BYTES
from plugin.w5100.emulator import Emulator

MAILS_BYTES: Final = (1024, 102_400)
LANES: Final = (1, 2, 3)
MOODS: Final = ("pipelining", "chunking")
LINE: Final = b"A line of a mail that says nothing and is as long as it has to be.\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one mail has cost: ``payload_bytes`` of TCP, both directions together, and what was counted for it."""

    payload_bytes: int
    counted: Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """The mail of median cost among ``runs``, and how far the octets of the others were from it."""

    server: str
    lanes: int
    mail_bytes: int
    cost: Cost
    runs: int
    octets_least: int
    octets_most: int

    @property
    def floor_octets(self) -> int:
        """The least that a W5100 can do with: one frame for each octet of payload."""
        return self.cost.payload_bytes * FRAME_BYTES

    @property
    def ratio(self) -> float:
        """Octets on the bus to the least."""
        return self.cost.counted.octets / self.floor_octets


def figure_of(costs: Sequence[Cost], *, server: str, lanes: int, mail_bytes: int) -> Figure:
    """Return the one of median octets among ``costs``, at least one, whole: its figures belong together."""
    octets = [one.counted.octets for one in costs]
    median = statistics.median_low(octets)
    return Figure(
        server=server,
        lanes=lanes,
        mail_bytes=mail_bytes,
        cost=costs[octets.index(median)],
        runs=len(costs),
        octets_least=min(octets),
        octets_most=max(octets),
    )


def content_of(size_bytes: int, server: Server) -> bytes:
    """Return a mail of exactly ``size_bytes`` octets, at least 256; no line of it begins with a dot."""
    head = (
        f"From: House <{server.sender}>\r\nTo: {server.recipient}\r\nSubject: [critical] Water leak\r\n"
        "Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <spi@example.net>\r\n\r\n"
    ).encode()
    lines, left = divmod(size_bytes - len(head), len(LINE))
    return head + LINE * (lines - 1) + LINE.rstrip() + b"." * left + b"\r\n"


class CountedChip:
    """The emulated chip set up for ``lanes``; mails go over the last lane, which has the smallest rings."""

    def __init__(self, lanes: int) -> None:
        addressing = Addressing(
            mac=bytes.fromhex("0208dc010203"),
            address=IPv4Address(LOOPBACK),
            subnet_mask=IPv4Address("255.0.0.0"),
            gateway=IPv4Address(0),
        )
        self._bus = CountingBus(Emulator())
        chip = Chip(self._bus)
        self._uplink = Uplink(chip, Fixed(addressing), lanes=lanes, resolve=resolve_literal)
        self._uplink.bring_up()
        for _ in range(lanes - 1):
            chip.tcp_socket()  # the other lanes have theirs

    def send(self, content: bytes, server: Server) -> Cost:
        """Send one mail on a connection of its own and return its cost from connect to close.

        Raises MailLostError, or what the chip raises.
        """
        streams: list[CountingStream] = []

        def connect() -> CountingStream:
            streams.append(CountingStream(self._uplink.connect(LOOPBACK, server.clear[1], PATIENCE_S)))
            return streams[-1]

        self._bus.take()
        client = Client(connect, Settings(host=LOOPBACK, helo_name=HELO_NAME))
        envelope = Envelope(sender=server.sender, recipients=(server.recipient,), content=content)
        for delivery in client.deliver([envelope]):
            if not all(recipient.accepted for recipient in delivery.recipients):
                raise MailLostError(f"not accepted: {'; '.join(delivery.transcript[-6:])}")
        client.close()
        if len(streams) != 1:
            raise MailLostError(f"{len(streams)} connections were made where there was to be one")
        return Cost(payload_bytes=streams[0].payload_bytes, counted=tally(self._bus.take()))

    def close(self) -> None:
        """Let go of the chip."""
        self._uplink.close()


def figures(servers: BuiltInServers, *, lanes: int, runs: int) -> Iterator[Figure]:
    """Send ``runs`` mails of each size to each server; yield a figure for each. Raises as ``CountedChip.send``."""
    chip = CountedChip(lanes)
    try:
        for mail_bytes in MAILS_BYTES:
            for server in servers.servers:
                content = content_of(mail_bytes, server)
                costs = [chip.send(content, server) for _ in range(runs)]
                servers.check_taken(server, [content] * runs, auth=False, tls=False)
                yield figure_of(costs, server=server.name, lanes=lanes, mail_bytes=mail_bytes)
    finally:
        chip.close()
