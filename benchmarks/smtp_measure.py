"""What is measured, and how one figure comes about."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from benchmarks.child import Child
from benchmarks.smtp_clients import BASELINE, CLIENTS, Access, Clients, Mailer, MailLostError
from benchmarks.smtp_servers import Server


@dataclass(frozen=True, slots=True, kw_only=True)
class First:
    """The first mail of a connection, from connect() to its 250."""

    key: str
    title: str
    auth: bool = False
    tls: bool = False


FIRSTS: Final = (
    First(key="first", title="first mail"),
    First(key="first_auth", title="first mail, AUTH", auth=True),
    First(key="first_tls_auth", title="first mail, TLS and AUTH", auth=True, tls=True),
)
NEXT: Final = "next"
BURST: Final = "burst"
CASES: Final = {one.key: one.title for one in FIRSTS} | {NEXT: "next mail", BURST: "burst"}


def cases_of(client: str) -> tuple[str, ...]:
    """Return the cases that ``client`` is measured in: eager concerns AUTH alone."""
    return tuple(one.key for one in FIRSTS if one.auth) if client == CLIENTS[-1] else tuple(CASES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """How many first mails, next mails and mails of a burst make a figure, and how often all of that is done."""

    firsts: int
    nexts: int
    burst: int
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """``seconds`` for one mail (of a burst: on average), and its round trips as the proxy has counted them."""

    seconds: float
    flights: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """The median of ``samples`` samples. ``rtt_s`` is the delay that the proxy adds, there and back."""

    server: str
    rtt_s: float
    client: str
    case: str
    seconds: float
    flights: int | None
    samples: int

    @property
    def round_trips(self) -> float | None:
        """The time in round trips; None without a delay."""
        return self.seconds / self.rtt_s if self.rtt_s else None


def figure_of(samples: Sequence[Sample], *, server: str, rtt_s: float, client: str, case: str) -> Figure:
    """Return the median of ``samples``, at least one."""
    flights = [one.flights for one in samples if one.flights is not None]
    return Figure(
        server=server,
        rtt_s=rtt_s,
        client=client,
        case=case,
        seconds=statistics.median(one.seconds for one in samples),
        flights=statistics.median_low(flights) if flights else None,
        samples=len(samples),
    )


def times_as_fast(figure: Figure, figures: Sequence[Figure]) -> float:
    """Return how many times as fast as smtplib ``figure`` is, in the same case of the same server."""
    place = (figure.server, figure.rtt_s, figure.case)
    baseline = next(
        one for one in figures if one.client == BASELINE and (one.server, one.rtt_s, one.case) == place
    )
    return baseline.seconds / figure.seconds


Check = Callable[[Server, Sequence[bytes], bool, bool], None]
"""Server, the mails sent, with AUTH, with TLS: raises MailLostError unless the server has taken exactly these."""


class Measurement:
    """Measures clients at servers through the proxy; ``mails`` counts, by server, the mails that were checked."""

    def __init__(self, proxy: Child, clients: Clients, check: Check, amounts: Amounts) -> None:
        self._proxy = proxy
        self._clients = clients
        self._check = check
        self._amounts = amounts
        self.mails: dict[str, int] = {}

    def figures(self, server: Server, rtt_s: float, client: str) -> Iterator[Figure]:
        """Measure ``client`` in every case that it and ``server`` admit."""
        samples: dict[str, list[Sample]] = {}
        for _ in range(self._amounts.runs):
            for first in FIRSTS:
                if first.key in cases_of(client) and _admits(server, first):
                    samples.setdefault(first.key, []).extend(self._firsts(server, rtt_s, client, first))
            if NEXT in cases_of(client):
                nexts, burst = self._kept(server, rtt_s, client)
                samples.setdefault(NEXT, []).extend(nexts)
                samples.setdefault(BURST, []).append(burst)
        for case, taken in samples.items():
            yield figure_of(taken, server=server.name, rtt_s=rtt_s, client=client, case=case)

    def _firsts(self, server: Server, rtt_s: float, client: str, first: First) -> Iterator[Sample]:
        for _ in range(self._amounts.firsts):
            with self._way(server, rtt_s, client, auth=first.auth, tls=first.tls) as way:
                yield way.send(1)

    def _kept(self, server: Server, rtt_s: float, client: str) -> tuple[list[Sample], Sample]:
        with self._way(server, rtt_s, client, auth=False, tls=False) as way:
            way.send(1)
            nexts = [way.send(1) for _ in range(self._amounts.nexts)]
            burst = way.send(self._amounts.burst)
        return nexts, Sample(seconds=burst.seconds, flights=None)

    @contextmanager
    def _way(self, server: Server, rtt_s: float, client: str, *, auth: bool, tls: bool) -> Iterator[_Way]:
        """Open one way to ``server`` and a client for it; check in the end that what it sent was taken."""
        host, port = server.tls if tls and server.tls else server.clear
        opened = self._proxy.ask(open={"host": host, "port": port, "delay_s": rtt_s / 2})
        access = Access(
            host=host,
            port=opened["port"],
            tls=tls,
            ca_file=server.ca_file,
            username=server.username if auth else None,
            password=server.password if auth else None,
            sender=server.sender,
            recipient=server.recipient,
        )
        mailer = self._clients.make(client, access)
        way = _Way(mailer, access, self._proxy)
        try:
            yield way
        except BaseException:
            with suppress(Exception):  # the first trouble is the one to tell
                mailer.close()
            raise
        mailer.close()
        self._proxy.ask(close=access.port)
        self._check(server, way.sent, auth, tls)
        self.mails[server.name] = self.mails.get(server.name, 0) + len(way.sent)


class _Way:
    """A client on its one connection through the proxy, and what it has sent."""

    def __init__(self, mailer: Mailer, access: Access, proxy: Child) -> None:
        self._mailer = mailer
        self._access = access
        self._proxy = proxy
        self.sent: list[bytes] = []
        self._round_trips = 0

    def send(self, mails: int) -> Sample:
        """Send ``mails`` mails and return the time for one of them."""
        contents = [alert_mail(sender=self._access.sender, recipient=self._access.recipient) for _ in range(mails)]
        begun = time.perf_counter()
        self._mailer.send(contents)
        seconds = time.perf_counter() - begun
        self.sent += contents
        seen = self._proxy.ask(seen=self._access.port)
        if seen["connections"] != 1:
            raise MailLostError(f"{seen['connections']} connections were made where there was to be one")
        before, self._round_trips = self._round_trips, seen["round_trips"]
        return Sample(seconds=seconds / mails, flights=self._round_trips - before)


def _admits(server: Server, first: First) -> bool:
    return (not first.auth or server.username is not None) and (not first.tls or server.tls is not None)


def alert_mail(*, sender: str, recipient: str) -> bytes:
    """Return the octets of a small alert, about 740, no two of them the same."""
    text = (
        "Water under the washing machine. The valve has been closed.\r\n\r\n"
        "Sensor:    binary_sensor.laundry_leak\r\nState:     wet, for 12 seconds\r\nSeverity:  critical\r\n"
    )
    lines = (
        f"From: House <{sender}>",
        f"To: {recipient}",
        "Subject: [critical] Water leak in the laundry",
        "Date: Mon, 23 Nov 2026 10:00:00 +0000",
        f"Message-ID: <{uuid4().hex}@example.net>",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 7bit",
        "Auto-Submitted: auto-generated",
        "X-Priority: 1",
        "",
        text,
        "This mail was sent by the house itself; nobody reads what is sent back to it.\r\n" * 3,
    )
    return "\r\n".join(lines).encode()
