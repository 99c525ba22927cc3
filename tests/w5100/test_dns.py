"""The resolver on the emulated chip, against bad servers on loopback; time passes only while it sleeps."""

from __future__ import annotations

import contextlib
import logging
import socket as kernel
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugin.w5100.chip import Chip
from plugin.w5100.dns import Resolver
from plugin.w5100.dns.answers import Absent, Addresses, host_name, judge, question
from plugin.w5100.dns.cache import NAMES_AT_MOST, Cache
from plugin.w5100.emulator import Emulator, ExchangeError, UnansweredSend
from plugin.w5100.errors import (
    InvalidName,
    LookupFailed,
    NameNotFound,
    NoAddressError,
    NoAnswerError,
    NoSocketError,
)
from tests.w5100.scripted import ADDRESSING, FakeClock

FIRST, SECOND, STRANGER = "127.0.0.2", "127.0.0.3", "127.0.0.4"
NAME = "mail.example"
TCP = "tcp"  # in a script: answer over TCP with what follows; b"" ends the connection

Reply = bytes | tuple[str, bytes]
Script = Callable[[dns.message.Message], list[Reply]]


def answer(query: dns.message.Message, *records: str, rcode: int = 0, ttl: int = 300) -> dns.message.Message:
    """Answer with records "owner type data"; a bare address is an A record of the name."""
    message = dns.message.make_response(query, recursion_available=True)
    message.set_rcode(dns.rcode.Rcode.make(rcode))
    for record in records:
        owner, kind, data = record.split(" ", 2) if " " in record else (NAME, "A", record)
        message.answer.append(dns.rrset.from_text(owner + ".", ttl, "IN", kind, data))
    return message


def says(*records: str, rcode: int = 0, ttl: int = 300) -> Script:
    return lambda query: [answer(query, *records, rcode=rcode, ttl=ttl).to_wire()]


def silent(_query: dns.message.Message) -> list[Reply]:
    return []


def changed(change: Callable[[bytes], bytes]) -> Script:
    """Send a good answer with octets that are wrong."""
    return lambda query: [change(answer(query, "192.0.2.25").to_wire())]


def of_another_question(query: dns.message.Message) -> list[Reply]:
    other = dns.message.make_query("other.example.", "A", id=query.id)
    return [answer(other, "192.0.2.66").to_wire()]


def truncated(query: dns.message.Message) -> bytes:
    message = answer(query)
    message.flags |= dns.flags.TC
    return message.to_wire()


def over_tcp(
    *records: str, change: Callable[[bytes], bytes] = lambda wire: wire, cut: int | None = None
) -> Script:
    """Say over UDP that it does not fit, and over TCP what ``change`` makes of it, ``cut`` octets of that."""

    def script(query: dns.message.Message) -> list[Reply]:
        wire = change(answer(query, *records).to_wire())
        return [truncated(query), (TCP, (len(wire).to_bytes(2, "big") + wire)[:cut])]

    return script


class Server:
    """A DNS server on loopback that does what its script says; it lives in the driver's sleep."""

    def __init__(self, address: str, port: int, script: Script) -> None:
        self.script = script
        self.queries: list[dns.message.Message] = []
        self.ports: list[int] = []
        self.udp = kernel.socket(kernel.AF_INET, kernel.SOCK_DGRAM)
        self.udp.bind((address, port))
        self.udp.setblocking(False)
        self.listener = kernel.create_server((address, port))
        self.listener.setblocking(False)
        self.connections: list[kernel.socket] = []
        self.by_tcp = b""
        self.deaf = False

    def tick(self) -> None:
        with contextlib.suppress(BlockingIOError):
            wire, source = self.udp.recvfrom(4096)
            query = dns.message.from_wire(wire)
            self.queries.append(query)
            self.ports.append(source[1])
            for reply in self.script(query):
                if isinstance(reply, bytes):
                    self.udp.sendto(reply, source)
                elif reply[0] == TCP:
                    self.by_tcp = reply[1]
                else:
                    with kernel.socket(kernel.AF_INET, kernel.SOCK_DGRAM) as stranger:
                        stranger.bind((reply[0], self.udp.getsockname()[1] if reply[0] == STRANGER else 0))
                        stranger.sendto(reply[1], source)
        with contextlib.suppress(OSError):  # nobody there, or the listener is closed
            connection, _ = self.listener.accept()
            connection.setblocking(False)
            self.connections.append(connection)
        for connection in self.connections if not self.deaf else ():
            with contextlib.suppress(BlockingIOError, ConnectionError):
                if connection.recv(4096):
                    connection.sendall(self.by_tcp)
                    connection.shutdown(kernel.SHUT_WR)

    def close(self) -> None:
        for one in (self.udp, self.listener, *self.connections):
            one.close()


class World(FakeClock):
    """The clock, the chip, its resolver, and two servers that are silent unless told otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.emulator = Emulator(clock=self)
        self.chip = Chip(self, clock=self, sleep=self.sleep)
        with kernel.socket(kernel.AF_INET, kernel.SOCK_DGRAM) as one:
            one.bind((FIRST, 0))
            port = one.getsockname()[1]
        self.first, self.second = Server(FIRST, port, silent), Server(SECOND, port, silent)
        self.resolver = Resolver(
            self.chip.udp_socket,
            self.chip.tcp_socket,
            [IPv4Address(FIRST), IPv4Address(SECOND)],
            self,
            port=port,
        )
        self.chip.reset()
        self.chip.configure(ADDRESSING)

    def exchange(self, frames: bytes, /) -> bytes:
        return self.emulator.exchange(frames)

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.first.tick()
        self.second.tick()

    def asked(self) -> tuple[int, int]:
        return len(self.first.queries), len(self.second.queries)

    def resolve(self, name: str = NAME) -> list[str]:
        found = [str(one) for one in self.resolver.resolve(name)]
        self.chip.udp_socket().close()  # the one hardware socket has been given back
        return found

    def close(self) -> None:
        self.emulator.close()
        self.first.close()
        self.second.close()


@pytest.fixture
def world() -> Iterator[World]:
    with contextlib.closing(World()) as one:
        yield one


# --- answers that help ----------------------------------------------------------------------------------------


def test_addresses_come_in_the_servers_order(world: World) -> None:
    world.first.script = says("192.0.2.9", "192.0.2.1", "192.0.2.9", "192.0.2.5")
    assert world.resolve() == ["192.0.2.9", "192.0.2.1", "192.0.2.5"]
    (query,) = world.first.queries
    assert [(str(one.name), one.rdtype) for one in query.question] == [(f"{NAME}.", dns.rdatatype.A)]
    assert query.flags == dns.flags.RD


def test_cnames_are_followed_within_the_answer(world: World) -> None:
    world.first.script = says(f"{NAME} CNAME a.example.", "a.example CNAME b.example.", "b.example A 192.0.2.7")
    assert world.resolve() == ["192.0.2.7"]


@pytest.mark.parametrize("size", [40, 250])
def test_what_does_not_fit_a_datagram_comes_over_tcp(world: World, size: int) -> None:
    world.first.script = over_tcp(*(f"192.0.2.{n}" for n in range(1, 9)), *([f"x.example TXT {'y' * 200}"] * size))
    assert world.resolve() == [f"192.0.2.{n}" for n in range(1, 9)]


def test_a_silent_server_costs_its_time_and_the_next_one_is_asked(world: World) -> None:
    world.second.script = says("192.0.2.25")
    started = world.now
    assert world.resolve() == ["192.0.2.25"]
    assert 2.0 <= world.now - started < 2.1


def test_an_answer_behind_strays_is_found(world: World) -> None:
    def script(query: dns.message.Message) -> list[Reply]:
        good = answer(query, "192.0.2.25").to_wire()
        forged = answer(query, "192.0.2.66").to_wire()
        return [(STRANGER, forged), (FIRST, forged), b"", b"x", *of_another_question(query), good]

    world.first.script = script
    assert world.resolve() == ["192.0.2.25"]


def test_ids_and_ports_are_new_each_time(world: World) -> None:
    world.first.script = says("192.0.2.25")
    for n in range(8):
        with contextlib.suppress(LookupFailed):
            world.resolve(f"{n}.example")
    assert len({query.id for query in world.first.queries}) > 4
    assert len(set(world.first.ports)) > 4


@pytest.mark.parametrize("address", ["192.0.2.1", "127.0.0.1"])
def test_an_address_needs_no_server(world: World, address: str) -> None:
    assert world.resolve(address) == [address]
    assert world.asked() == (0, 0)


# --- answers that do not --------------------------------------------------------------------------------------

HEADER_BYTES = 12
FLOOD = 500


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (silent, "no answer within 2 s"),
        (says(rcode=dns.rcode.SERVFAIL), "SERVFAIL"),
        (says(rcode=dns.rcode.REFUSED), "REFUSED"),
        (says(rcode=dns.rcode.NOTIMP), "NOTIMP"),
        (changed(lambda wire: bytes((wire[0] ^ 1,)) + wire[1:]), "other datagrams"),  # id
        (changed(lambda wire: wire[:2] + bytes((wire[2] & 0x7F,)) + wire[3:]), "other datagrams"),  # QR
        (changed(lambda wire: wire[:HEADER_BYTES]), "other datagrams"),
        (changed(lambda wire: wire[:-3]), "malformed"),
        (changed(lambda wire: wire + b"x"), "malformed"),
        (changed(lambda _wire: b"\xff" * 1472), "other datagrams"),
        (of_another_question, "other datagrams"),
        (lambda query: [(STRANGER, answer(query, "192.0.2.66").to_wire())], "other datagrams"),
        (lambda query: [(FIRST, answer(query, "192.0.2.66").to_wire())], "other datagrams"),  # another port
        (lambda _query: [b"x"] * FLOOD, "other datagrams"),
        (says(f"{NAME} CNAME a.example.", f"a.example CNAME {NAME}."), "circle"),
        (says(*(f"{n or NAME} CNAME {n + 1}." for n in range(17)), "17 A 192.0.2.1"), "too many names"),
        (says("192.0.2.1", rcode=dns.rcode.NXDOMAIN), "malformed"),
        (lambda query: [dns.message.make_response(query).to_wire()], "RA is 0"),
        (lambda query: [truncated(query), (TCP, b"")], "ended after 0 of 2"),
        (over_tcp("192.0.2.25", cut=1), "ended after 1 of 2"),
        (over_tcp("192.0.2.25", cut=20), "ended after 18 of"),
        (over_tcp("192.0.2.25", change=lambda wire: b"\0\0" + wire[2:]), "over TCP is none"),
        (over_tcp("192.0.2.25", change=lambda wire: wire[:2] + bytes((wire[2] | 2,)) + wire[3:]), "over TCP is"),
    ],
)
def test_a_bad_server_ends_in_a_sentence_and_in_time(world: World, script: Script, words: str) -> None:
    world.resolver.use([IPv4Address(FIRST)])
    world.first.script = script
    started = world.now
    with pytest.raises(NoAnswerError, match=words) as caught:
        world.resolve()
    assert str(caught.value).startswith(f"{NAME} cannot be looked up: {FIRST}: ")
    assert "chip.network.dns" in str(caught.value)
    assert world.now - started < 21
    world.resolver.use([IPv4Address(FIRST), IPv4Address(SECOND)])
    world.second.script = says("192.0.2.25")
    assert world.resolve() == ["192.0.2.25"]


@pytest.mark.parametrize(("refused", "words"), [(True, "refused"), (False, "nothing received")])
def test_tcp_that_is_refused_or_silent_ends_in_time(world: World, refused: bool, words: str) -> None:
    world.first.script = lambda query: [truncated(query)]
    world.first.deaf = True
    if refused:
        world.first.listener.close()
    started = world.now
    with pytest.raises(NoAnswerError, match=words):
        world.resolve()
    assert world.now - started < 21


@pytest.mark.parametrize("servers", [[], [SECOND] * 9])
def test_however_many_servers_are_silent_it_ends(world: World, servers: list[str]) -> None:
    world.resolver.use([IPv4Address(one) for one in servers])
    started = world.now
    with pytest.raises(NoAnswerError):
        world.resolve()
    assert world.now - started < 21
    assert world.asked() == (0, 8 if servers else 0)  # four at most, twice


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        (says(rcode=dns.rcode.NXDOMAIN), NameNotFound, "does not exist"),
        (says(), NoAddressError, "no IPv4 address"),
        (says(f"{NAME} CNAME a.example."), NoAddressError, "no IPv4 address"),
        (says(f"{NAME} AAAA 2001:db8::1"), NoAddressError, "no IPv4 address"),
        (says("0.0.0.0", "224.0.0.1", "255.255.255.255"), NoAddressError, "blocks"),
    ],
)
def test_that_there_is_no_address_is_believed_at_once_and_for_a_short_time(
    world: World, script: Script, error: type[Exception], words: str
) -> None:
    world.first.script = script
    for _ in range(2):
        with pytest.raises(error, match=words):
            world.resolve()
    assert world.asked() == (1, 0)
    world.now += 61
    world.first.script = says("192.0.2.25")
    assert world.resolve() == ["192.0.2.25"]


@pytest.mark.parametrize(
    "name",
    ["", ".", "a..example", "a" * 64, "a." * 128 + "example", "büro.example", "a b", "a\n", "a\0b", "..", "\\"],
)
def test_what_is_no_name_is_never_asked_for(world: World, name: str) -> None:
    with pytest.raises(InvalidName, match="no host name"):
        world.resolve(name)
    assert world.asked() == (0, 0)


# --- what the chip does wrong ---------------------------------------------------------------------------------


def test_a_chip_that_fails_is_told_and_keeps_no_socket(world: World) -> None:
    world.first.script = says("192.0.2.25")
    world.emulator.inject(ExchangeError(first_exchange=4))
    with pytest.raises(OSError, match="SPI transfer"):
        world.resolve()
    world.emulator.inject(UnansweredSend())
    with pytest.raises(NoAnswerError):
        world.resolve()
    world.emulator.clear_faults()
    assert world.resolve() == ["192.0.2.25"]


def test_without_a_free_hardware_socket_nobody_is_asked(world: World) -> None:
    with contextlib.closing(world.chip.tcp_socket()), pytest.raises(NoSocketError):
        world.resolver.resolve(NAME)


# --- the memory -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ttl", "fresh_s"), [(0, 5), (300, 300), (10_000_000, 86_400)])
def test_an_answer_is_kept_for_its_ttl_within_bounds(world: World, ttl: int, fresh_s: int) -> None:
    world.first.script = says("192.0.2.25", ttl=ttl)
    world.resolve()
    world.now += fresh_s - 2
    world.resolve()
    world.resolve(NAME.upper() + ".")
    assert world.asked() == (1, 0)
    world.now += 3
    world.resolve()
    assert world.asked() == (2, 0)


def test_what_is_out_of_date_is_better_than_nothing_for_a_day(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.first.script = says("192.0.2.25")
    world.resolve()
    world.first.script = silent
    world.now += 300 + 3600
    with caplog.at_level(logging.WARNING, "hardwire.w5100"):
        assert world.resolve() == ["192.0.2.25"]
    assert "going on with what was known before: 192.0.2.25" in caplog.text
    asked = world.asked()
    assert world.resolve() == ["192.0.2.25"]
    assert world.asked() == asked  # not again within 30 s
    world.now += 31
    assert world.resolve() == ["192.0.2.25"]
    assert world.asked() > asked
    world.now += 86_400
    with pytest.raises(NoAnswerError):
        world.resolve()


def test_a_name_that_is_gone_is_not_remembered(world: World) -> None:
    world.first.script = says("192.0.2.25")
    world.resolve()
    world.now += 301
    world.first.script = says(rcode=dns.rcode.NXDOMAIN)
    with pytest.raises(NameNotFound):
        world.resolve()
    world.now += 61
    world.first.script = silent
    with pytest.raises(NoAnswerError):
        world.resolve()


def test_the_memory_is_bounded_and_forgets_what_was_not_asked_for() -> None:
    cache = Cache()
    one = Addresses(addresses=(IPv4Address("192.0.2.1"),), ttl_s=300)
    for n in range(NAMES_AT_MOST):
        cache.keep(f"{n}", one, 0.0)
    assert cache.fresh("0", 1.0) == one
    cache.keep("new", Absent(kind="nxdomain", ttl_s=3600), 2.0)
    assert cache.fresh("1", 3.0) is None
    assert cache.stale("1", 3.0) is None
    assert cache.fresh("0", 3.0) == one
    assert cache.fresh("new", 63.0) is None
    assert cache.stale("new", 63.0) is None


# --- anything at all ------------------------------------------------------------------------------------------


@given(data=st.data())
def test_no_octets_make_the_judge_fail_or_believe_what_was_not_asked(data: st.DataObject) -> None:
    query = question(host_name(NAME))
    wire = bytearray(answer(query, f"{NAME} CNAME a.example.", "a.example A 192.0.2.25").to_wire())
    for at, octet in data.draw(st.dictionaries(st.integers(0, len(wire) - 1), st.integers(0, 255))).items():
        wire[at] = octet
    verdict = judge(bytes(wire[: data.draw(st.integers(0, len(wire)))]), query)
    if isinstance(verdict, Addresses):
        assert wire[:2] == query.id.to_bytes(2, "big")
        assert len(verdict.addresses) == 1
