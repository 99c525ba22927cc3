"""Looking a name up: servers in their order, time-outs, TCP where UDP is too small, and the memory of it all."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from typing import Final

import dns.message
import dns.name

from plugin.w5100.dns.answers import (
    Absent,
    Addresses,
    Stray,
    Truncated,
    Useless,
    Verdict,
    host_name,
    judge,
    question,
)
from plugin.w5100.dns.cache import Cache
from plugin.w5100.errors import (
    ChipTimeout,
    ConnectionLost,
    LookupFailed,
    NameNotFound,
    NoAddressError,
    NoAnswerError,
    PeerTimeout,
    SocketTimeout,
)
from plugin.w5100.socket import TcpSocket
from plugin.w5100.udp_socket import UdpSocket

log = logging.getLogger("hardwire.w5100")

DNS_PORT: Final = 53
SERVERS_AT_MOST: Final = 4
ROUNDS: Final = 2
TRY_S: Final = 2.0
TCP_S: Final = 5.0
LONGEST_S: Final = 20.0  # for one name, whatever the servers do
CLOSE_S: Final = 0.5
ANSWER_BYTES: Final = 1472
STRAYS_AT_MOST: Final = 64  # datagrams that are no answer, while one is waited for


class Resolver:
    """Looks up the IPv4 addresses of names; thread-safe. A look-up takes one hardware socket and gives it back."""

    def __init__(
        self,
        udp: Callable[[], UdpSocket],
        tcp: Callable[[], TcpSocket],
        servers: Sequence[IPv4Address],
        clock: Callable[[], float],
        *,
        port: int = DNS_PORT,
    ) -> None:
        """``udp`` and ``tcp`` open a socket of the chip, each from a new random port: ``Chip.udp_socket``,
        ``Chip.tcp_socket``. ``servers`` are asked in this order, four at most. ``clock``: seconds, rising.
        """
        self._udp = udp
        self._tcp = tcp
        self._clock = clock
        self._port = port
        self._servers = tuple(servers)[:SERVERS_AT_MOST]
        self._cache = Cache()
        self._lock = threading.Lock()

    def use(self, servers: Sequence[IPv4Address]) -> None:
        """Ask ``servers`` from now on: a lease has brought others. What is known already stays."""
        self._servers = tuple(servers)[:SERVERS_AT_MOST]

    def resolve(self, name: str) -> tuple[IPv4Address, ...]:
        """Return the addresses of ``name`` (A-labels, or an address itself), in the server's order, at least one.

        What was looked up before is returned for as long as its TTL says; when no server answers, for a day more.
        Takes at most some 20 s. Raises InvalidName, NameNotFound (NXDOMAIN), NoAddressError (NODATA),
        NoAnswerError (nobody knows); NoSocketError when no hardware socket is free, ChipLost, BusError.
        """
        try:
            return (IPv4Address(name),)
        except ValueError:
            asked = host_name(name)
        key = asked.to_text(omit_final_dot=True)
        with self._lock:
            known = self._cache.fresh(key, self._clock())
        if known is None:
            known = self._ask_or_remember(key, asked)
        if isinstance(known, Addresses):
            return known.addresses
        raise _absence(key, known)

    def _ask_or_remember(self, key: str, asked: dns.name.Name) -> Addresses | Absent:
        try:
            answer = self._ask_all(key, asked)
        except NoAnswerError as error:
            with self._lock:
                stale = self._cache.stale(key, self._clock())
            if stale is None:
                raise
            what = f"{error}; going on with what was known before: {stale.addresses[0]}"
            log.warning("event=dns_problem problem=%r", what)
            return stale
        with self._lock:
            self._cache.keep(key, answer, self._clock())
        return answer

    def _ask_all(self, key: str, asked: dns.name.Name) -> Addresses | Absent:
        """Ask the servers in turn, and all of them once more; the first who knows is believed."""
        servers = self._servers
        if not servers:
            raise NoAnswerError(f"{key} cannot be looked up: no DNS server is known; name one in chip.network.dns")
        deadline = self._clock() + LONGEST_S
        reasons: dict[IPv4Address, str] = {}
        for _ in range(ROUNDS):
            for server in servers:
                left = deadline - self._clock()
                if left <= 0:
                    break
                verdict = self._ask(server, asked, left)
                if isinstance(verdict, Addresses | Absent):
                    return verdict
                reasons[server] = verdict.reason
        told = "; ".join(f"{server}: {reason}" for server, reason in reasons.items())
        raise NoAnswerError(
            f"{key} cannot be looked up: {told}; check chip.network.dns, and that the chip can reach it"
        )

    def _ask(self, server: IPv4Address, asked: dns.name.Name, left_s: float) -> Addresses | Absent | Useless:
        query = question(asked)
        verdict = self._ask_by_udp(query, server, min(TRY_S, left_s))
        if isinstance(verdict, Truncated):
            verdict = self._ask_by_tcp(query, server, min(TCP_S, left_s))
        if isinstance(verdict, Addresses | Absent | Useless):
            return verdict
        return Useless("its answer over TCP is none to our question")

    def _ask_by_udp(self, query: dns.message.QueryMessage, server: IPv4Address, timeout_s: float) -> Verdict:
        deadline = self._clock() + timeout_s
        strays = 0
        socket = self._udp()
        try:
            socket.send_to(query.to_wire(), server, self._port, timeout_s=timeout_s)
            while strays < STRAYS_AT_MOST:
                wire, address, port = socket.receive_from(
                    ANSWER_BYTES, timeout_s=max(0.0, deadline - self._clock())
                )
                if (address, port) == (server, self._port):
                    verdict = judge(wire, query)
                    if not isinstance(verdict, Stray):
                        return verdict
                strays += 1
        except PeerTimeout:
            return Useless("no answer to ARP")
        except SocketTimeout:
            if not strays:
                return Useless(f"no answer within {timeout_s:g} s")
        except ChipTimeout as error:
            return Useless(str(error))
        finally:
            socket.close()
        return Useless(f"no answer to our question, but {strays} other datagrams")

    def _ask_by_tcp(self, query: dns.message.QueryMessage, server: IPv4Address, timeout_s: float) -> Verdict:
        """Ask over TCP, where two octets before each message tell its size (RFC 1035, section 4.2.2)."""
        deadline = self._clock() + timeout_s
        wire = query.to_wire()
        socket = self._tcp()
        try:
            socket.connect(server, self._port, timeout_s=timeout_s)
            socket.send_all(len(wire).to_bytes(2, "big") + wire, timeout_s=self._left_s(deadline))
            size = int.from_bytes(self._exactly(socket, 2, deadline), "big")
            return judge(self._exactly(socket, size, deadline), query)
        except (TimeoutError, ConnectionError) as error:
            return Useless(f"its answer is too long for UDP, and over TCP: {error}")
        finally:
            socket.close(timeout_s=CLOSE_S)

    def _exactly(self, socket: TcpSocket, count: int, deadline: float) -> bytes:
        data = b""
        while len(data) < count:
            more = socket.receive(count - len(data), timeout_s=self._left_s(deadline))
            if not more:
                raise ConnectionLost(f"{socket.peer}: ended after {len(data)} of {count} octets")
            data += more
        return data

    def _left_s(self, deadline: float) -> float:
        left = deadline - self._clock()
        if left <= 0:
            raise SocketTimeout("not all came in time")
        return left


def _absence(name: str, absent: Absent) -> LookupFailed:
    if absent.kind == "nxdomain":
        return NameNotFound(f"the name {name} does not exist (NXDOMAIN): check how it is spelt")
    if absent.kind == "nodata":
        return NoAddressError(f"the name {name} has no IPv4 address, and the W5100 speaks no IPv6")
    return NoAddressError(f"the name {name} has no address but 0.0.0.0: the DNS server blocks it; allow it there")
