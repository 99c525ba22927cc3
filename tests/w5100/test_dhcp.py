"""The DHCP client: its messages, its times, and servers that misbehave; without a network, time passes by hand."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv4Interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugin.w5100 import registers as reg
from plugin.w5100.chip import Addressing
from plugin.w5100.dhcp import DhcpClient, Lease, State, obtain, renew
from plugin.w5100.dhcp.client import EVERYBODY, Send
from plugin.w5100.dhcp.message import (
    BOOTREPLY,
    MalformedMessage,
    Message,
    MessageType,
    Option,
    decode,
    encode,
)
from plugin.w5100.errors import LeaseLost, NoLease
from plugin.w5100.registers import Command, SocketInterrupt, Status
from tests.w5100.scripted import ScriptedChip, ready

MAC = bytes.fromhex("0208dc010203")
XID = 0x3903F326
SERVER, OTHER = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
ADDRESS = IPv4Address("192.0.2.50")
GRANTED: Mapping[int, bytes] = {
    Option.SERVER_ID: SERVER.packed,
    Option.LEASE_TIME: (3600).to_bytes(4, "big"),
    Option.SUBNET_MASK: bytes((255, 255, 255, 0)),
    Option.ROUTER: SERVER.packed,
    Option.DNS: SERVER.packed + OTHER.packed,
}


def client(**options: object) -> DhcpClient:
    return DhcpClient(MAC, xid=lambda: XID, jitter_s=lambda: 0.0, **options)  # type: ignore[arg-type]


def reply(kind: MessageType, options: Mapping[int, bytes] = GRANTED, **fields: object) -> bytes:
    """Return a server's message; an option of b"" is left out."""
    told = {Option.MESSAGE_TYPE: bytes((kind,)), **options}
    values: dict[str, object] = {"op": BOOTREPLY, "xid": XID, "chaddr": MAC, "yiaddr": ADDRESS, **fields}
    return encode(Message(options={code: value for code, value in told.items() if value}, **values))  # type: ignore[arg-type]


def sent(send: Send | None) -> tuple[MessageType, Message, IPv4Address]:
    assert send is not None
    message = decode(send.data)
    return MessageType(message.kind), message, send.address


def bound(now: float = 0.0, options: Mapping[int, bytes] = GRANTED) -> DhcpClient:
    one = client()
    one.step(now)
    one.receive(reply(MessageType.OFFER, options), now)
    one.step(now)
    one.receive(reply(MessageType.ACK, options), now)
    assert one.state is State.BOUND
    return one


# --- messages -------------------------------------------------------------------------------------------------


def test_discover_octet_by_octet() -> None:
    send = client(host_name="hardwire").step(5.0)
    assert send is not None
    assert send.address == EVERYBODY
    fixed = "01010600 3903f326 0000 8000" + "00000000" * 4 + MAC.hex() + "00" * (10 + 64 + 128) + "63825363"
    options = "350101 3d0701 0208dc010203 0c08 6861726477697265 3708 0103060f3336 3a3b ff"
    assert send.data.hex() == (fixed + options).replace(" ", "").ljust(600, "0")


def test_request_names_server_and_address() -> None:
    one = client()
    one.step(0.0)
    one.receive(reply(MessageType.OFFER), 0.5)
    kind, message, address = sent(one.step(0.5))
    assert (kind, address, message.broadcast) == (MessageType.REQUEST, EVERYBODY, True)
    assert message.addresses(Option.SERVER_ID) == (SERVER,)
    assert message.addresses(Option.REQUESTED_ADDRESS) == (ADDRESS,)
    assert message.ciaddr == IPv4Address(0)


@pytest.mark.parametrize("where", ["file", "sname", "parts"])
def test_options_are_found_where_the_rfc_lets_them_be(where: str) -> None:
    wire = bytearray(reply(MessageType.ACK, {**GRANTED, Option.DNS: b"", Option.OVERLOAD: b"\x03"}))
    names = bytes((Option.DNS, 4)) + SERVER.packed
    if where == "parts":
        end = wire.index(bytes((Option.OVERLOAD, 1, 3))) + 3
        split = bytes((Option.DNS, 2)) + SERVER.packed[:2] + bytes((Option.DNS, 2)) + SERVER.packed[2:]
        wire[end : end + len(split) + 1] = split + b"\xff"
    else:
        at = 108 if where == "file" else 44
        wire[at : at + 7] = names + b"\xff"
    assert decode(bytes(wire)).addresses(Option.DNS) == (SERVER,)


@pytest.mark.parametrize(
    ("wire", "words"),
    [
        (b"", "octets"),
        (bytes(239), "octets"),
        (bytes(1473), "octets"),
        (bytes(300), "cookie"),
        (reply(MessageType.ACK)[:1] + b"\x06" + reply(MessageType.ACK)[2:], "Ethernet"),
        (reply(MessageType.ACK)[:240] + b"\x35", "longer than"),
        (reply(MessageType.ACK)[:240] + b"\x35\x09\x01", "longer than"),
    ],
)
def test_what_is_no_message_is_refused(wire: bytes, words: str) -> None:
    with pytest.raises(MalformedMessage, match=words):
        decode(wire)


@given(changes=st.dictionaries(st.integers(0, 299), st.integers(0, 255)), size=st.integers(0, 300))
def test_no_octets_make_the_client_fail(changes: dict[int, int], size: int) -> None:
    for kind in (MessageType.OFFER, MessageType.ACK, MessageType.NAK):
        wire = bytearray(reply(kind).ljust(300, b"\0"))
        for at, octet in changes.items():
            wire[at] = octet
        one = client(remembered=ADDRESS) if kind is not MessageType.OFFER else client()
        one.step(0.0)
        one.receive(bytes(wire[:size]), 1.0)
        if one.lease is not None:
            assert one.lease.address.ip == ADDRESS


# --- what is granted ------------------------------------------------------------------------------------------


def test_the_lease_counts_from_the_request() -> None:
    one = client()
    one.step(0.0)
    one.receive(reply(MessageType.OFFER), 1.0)
    one.step(2.0)
    one.receive(reply(MessageType.ACK), 3.0)
    assert one.lease == Lease(
        address=IPv4Interface("192.0.2.50/24"),
        gateway=SERVER,
        dns=(SERVER, OTHER),
        server=SERVER,
        obtained_at=2.0,
        t1_s=1800.0,
        t2_s=3150.0,
        expires_s=3600.0,
    )
    assert one.lease.addressing(MAC) == Addressing(
        mac=MAC, address=ADDRESS, subnet_mask=IPv4Address("255.255.255.0"), gateway=SERVER
    )


def seconds(value: int) -> bytes:
    return value.to_bytes(4, "big")


@pytest.mark.parametrize(
    ("options", "times"),
    [
        ({Option.T1: seconds(100), Option.T2: seconds(200)}, (100, 200, 3600)),
        ({Option.T1: seconds(200), Option.T2: seconds(100)}, (1800, 3150, 3600)),
        ({Option.T1: seconds(0), Option.T2: seconds(100)}, (1800, 3150, 3600)),
        ({Option.T1: seconds(100), Option.T2: seconds(3600)}, (1800, 3150, 3600)),
        ({Option.T1: b"\0\x64", Option.T2: seconds(200)}, (1800, 3150, 3600)),
        ({Option.LEASE_TIME: seconds(0xFFFFFFFF)}, (math.inf, math.inf, math.inf)),
    ],
)
def test_times_that_make_no_sense_are_replaced(
    options: Mapping[int, bytes], times: tuple[float, float, float]
) -> None:
    lease = bound(options={**GRANTED, **options}).lease
    assert lease is not None
    assert (lease.t1_s, lease.t2_s, lease.expires_s) == times


def test_a_lease_without_gateway_and_with_many_dns_servers() -> None:
    names = b"".join(IPv4Address(f"192.0.2.{n}").packed for n in (9, 9, 0, 8, 7, 6, 5)) + bytes(4)
    lease = bound(options={**GRANTED, Option.ROUTER: b"", Option.DNS: names}).lease
    assert lease is not None
    assert lease.gateway is None
    assert [str(one) for one in lease.dns] == ["192.0.2.9", "192.0.2.0", "192.0.2.8", "192.0.2.7"]
    assert lease.addressing(MAC).gateway == IPv4Address(0)


BAD: list[tuple[Mapping[int, bytes], str, str]] = [
    ({Option.SERVER_ID: b""}, str(ADDRESS), "which server"),
    ({Option.SERVER_ID: b"\x01"}, str(ADDRESS), "which server"),
    ({Option.LEASE_TIME: b""}, str(ADDRESS), "no lease time"),
    ({Option.LEASE_TIME: seconds(0)}, str(ADDRESS), "0 s is less than 60"),
    ({Option.SUBNET_MASK: b""}, str(ADDRESS), "no subnet mask"),
    ({Option.SUBNET_MASK: bytes((255, 0, 255, 0))}, str(ADDRESS), "255.0.255.0"),
    ({Option.SUBNET_MASK: bytes((0, 0, 0, 255))}, str(ADDRESS), "0.0.0.255"),
    ({Option.SUBNET_MASK: bytes((255,) * 4)}, str(ADDRESS), "leading ones"),
    ({Option.SUBNET_MASK: bytes(4)}, str(ADDRESS), "leading ones"),
    ({Option.ROUTER: bytes((10, 0, 0, 1))}, str(ADDRESS), "gateway 10.0.0.1"),
    ({Option.ROUTER: ADDRESS.packed}, str(ADDRESS), "gateway 192.0.2.50"),
    ({}, "0.0.0.0", "none for a host"),
    ({}, "127.0.0.1", "none for a host"),
    ({}, "224.0.0.1", "none for a host"),
    ({}, "255.255.255.255", "none for a host"),
    ({}, "192.0.2.0", "none for a host"),
    ({}, "192.0.2.255", "none for a host"),
]


@pytest.mark.parametrize(("options", "address", "words"), BAD)
def test_a_bad_offer_is_passed_over_for_a_good_one(options: Mapping[int, bytes], address: str, words: str) -> None:
    bad = {**GRANTED, Option.ROUTER: b"", **options}
    one = client()
    one.step(0.0)
    one.receive(reply(MessageType.OFFER, bad, yiaddr=IPv4Address(address)), 0.1)
    assert one.state is State.SELECTING
    assert one.problem is not None
    assert words in one.problem
    one.receive(reply(MessageType.OFFER), 0.2)
    assert one.state.value == "requesting"


@pytest.mark.parametrize(
    "fields", [{"op": 1}, {"xid": XID ^ 1}, {"chaddr": bytes.fromhex("0208dc010204")}], ids=["op", "xid", "chaddr"]
)
@pytest.mark.parametrize("kind", [MessageType.OFFER, MessageType.ACK, MessageType.NAK, MessageType.DECLINE, 0, 99])
def test_what_is_for_others_changes_nothing(fields: dict[str, object], kind: MessageType) -> None:
    for one in (client(), client(remembered=ADDRESS), bound()):
        one.step(one.due_at if one.lease else 0.0)
        before = (one.state, one.lease, one.due_at, one.problem)
        one.receive(reply(kind, GRANTED, **fields), 1.0)
        assert (one.state, one.lease, one.due_at, one.problem) == before


def test_an_answer_of_a_server_that_was_not_asked_is_none() -> None:
    elsewhere = {**GRANTED, Option.SERVER_ID: OTHER.packed}
    one = client()
    one.step(0.0)
    one.receive(reply(MessageType.OFFER), 0.0)
    one.step(0.0)
    for kind in (MessageType.ACK, MessageType.NAK):
        one.receive(reply(kind, elsewhere), 0.0)
        assert one.state is State.REQUESTING
    one.receive(reply(MessageType.ACK, yiaddr=IPv4Address("192.0.2.51")), 0.0)
    assert (one.state, one.problem) == (
        State.REQUESTING,
        "the DHCP server 192.0.2.1 grants 192.0.2.51 instead of 192.0.2.50",
    )
    one.receive(reply(MessageType.ACK), 0.0)
    assert one.state is State.BOUND


# --- times ----------------------------------------------------------------------------------------------------


def test_discover_is_repeated_after_4_8_16_up_to_64_s() -> None:
    one, now, waits = client(), 0.0, []
    for _ in range(7):
        kind, message, _ = sent(one.step(now))
        assert (kind, message.secs) == (MessageType.DISCOVER, int(now))
        waits.append(one.due_at - now)
        assert one.step(one.due_at - 0.1) is None
        now = one.due_at
    assert waits == [4, 8, 16, 32, 64, 64, 64]


def test_waits_are_spread_by_a_second_either_way() -> None:
    waits = set()
    for _ in range(50):
        one = DhcpClient(MAC)
        one.step(0.0)
        waits.add(one.due_at)
    assert 3.0 <= min(waits) < max(waits) <= 5.0


def test_a_server_that_offers_and_then_is_silent_is_left_after_four_requests() -> None:
    one = client()
    one.step(0.0)
    one.receive(reply(MessageType.OFFER), 0.0)
    kinds = [sent(one.step(one.due_at))[0] for _ in range(5)]
    assert kinds == [MessageType.REQUEST] * 4 + [MessageType.DISCOVER]


def test_a_server_that_refuses_what_it_offers_is_asked_ever_more_seldom() -> None:
    one, now, pauses = client(), 0.0, []
    for _ in range(3):
        assert sent(one.step(now))[0] is MessageType.DISCOVER
        one.receive(reply(MessageType.OFFER), now)
        one.step(now)
        words: dict[int, bytes] = {Option.SERVER_ID: SERVER.packed, Option.MESSAGE: b"no\r\n such \xff lease"}
        one.receive(reply(MessageType.NAK, words), now)
        assert one.problem == "a DHCP server refuses 192.0.2.50 (NAK: no such  lease)"
        pauses.append(one.due_at - now)
        now = one.due_at
    assert pauses == [4, 8, 16]


def test_the_life_of_a_lease_that_nobody_renews() -> None:
    one = bound()
    assert one.due_at == 1800
    assert one.step(1799.9) is None
    kind, message, address = sent(one.step(1800.0))
    assert (kind, address, message.ciaddr) == (MessageType.REQUEST, SERVER, ADDRESS)
    assert not message.broadcast
    assert not {Option.SERVER_ID, Option.REQUESTED_ADDRESS} & set(message.options)
    told, now = [(1800.0, address)], 1800.0
    while one.lease is not None:
        now = one.due_at
        if (send := one.step(now)) is not None:
            told.append((now, send.address))
    assert told == [
        (1800, SERVER),
        (2475, SERVER),
        (2812.5, SERVER),
        (2981.25, SERVER),
        (3065.625, SERVER),
        (3125.625, SERVER),
        (3150, EVERYBODY),
        (3375, EVERYBODY),
        (3487.5, EVERYBODY),
        (3547.5, EVERYBODY),
    ]
    assert now == 3600
    assert one.problem == "the lease of 192.0.2.50 has expired, 192.0.2.1 did not renew it"
    assert sent(one.step(now))[0] is MessageType.DISCOVER


@pytest.mark.parametrize(
    ("at", "server", "kept"), [(1800, SERVER, True), (1800, OTHER, False), (3200, OTHER, True)]
)
def test_a_lease_is_renewed_by_its_server_and_rebound_by_any(at: float, server: IPv4Address, kept: bool) -> None:
    one = bound()
    one.step(at)
    one.receive(reply(MessageType.ACK, {**GRANTED, Option.SERVER_ID: server.packed}), at + 1)
    assert (one.state is State.BOUND) == kept
    assert one.lease is not None
    assert one.lease.obtained_at == (at if kept else 0)


@pytest.mark.parametrize("at", [1800, 3200])
def test_a_lease_that_is_taken_back_is_lost_at_once(at: float) -> None:
    one = bound()
    one.step(at)
    one.receive(reply(MessageType.NAK, {Option.SERVER_ID: SERVER.packed}), at + 1)
    assert (one.lease, one.state, one.due_at) == (None, State.INIT, at + 1)
    assert sent(one.step(at + 1))[0] is MessageType.DISCOVER


def test_a_lease_without_end_is_never_renewed() -> None:
    one = bound(options={**GRANTED, Option.LEASE_TIME: seconds(0xFFFFFFFF)})
    assert one.due_at == math.inf
    assert one.step(1e12) is None
    assert one.lease is not None


def test_an_earlier_address_is_asked_for_first_and_twice() -> None:
    one = client(remembered=ADDRESS)
    for _ in range(2):
        kind, message, address = sent(one.step(max(0.0, one.due_at)))
        assert (kind, address) == (MessageType.REQUEST, EVERYBODY)
        assert message.addresses(Option.REQUESTED_ADDRESS) == (ADDRESS,)
        assert Option.SERVER_ID not in message.options
    assert sent(one.step(one.due_at))[0] is MessageType.DISCOVER
    one = client(remembered=ADDRESS)
    one.step(0.0)
    one.receive(reply(MessageType.NAK), 1.0)
    assert sent(one.step(1.0))[0] is MessageType.DISCOVER
    one = bound()
    one.restart()
    assert sent(one.step(7.0))[1].addresses(Option.REQUESTED_ADDRESS) == (ADDRESS,)


def test_decline_names_the_address_and_waits_ten_seconds() -> None:
    one = bound()
    kind, message, address = sent(one.decline(5.0))
    assert (kind, address) == (MessageType.DECLINE, EVERYBODY)
    assert message.addresses(Option.REQUESTED_ADDRESS) == (ADDRESS,)
    assert message.addresses(Option.SERVER_ID) == (SERVER,)
    assert (one.lease, one.due_at, one.decline(5.0)) == (None, 15.0, None)
    assert sent(one.step(15.0))[0] is MessageType.DISCOVER


@pytest.mark.parametrize("name", ["-a", "a-", "a.b", "a_b", "a" * 64, "bü", "a\n"])
def test_a_host_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no host name"):
        client(host_name=name)


# --- on the chip ----------------------------------------------------------------------------------------------


class Lan:
    """A scripted chip in a net with DHCP servers: ``answers`` tells what comes back for each message."""

    def __init__(self, bus: ScriptedChip, answers: Callable[[Message], list[bytes]]) -> None:
        self.bus = bus
        self.answers = answers
        self.heard: list[tuple[MessageType, IPv4Address, int]] = []
        self.configured: list[Addressing] = []
        self.chip = ready(bus)
        bus.on[Command.OPEN] = self.open
        bus.on[Command.SEND] = self.send

    def open(self, number: int) -> None:
        self.bus.do_open(number)
        self.bus.status(Status.UDP, number)

    def send(self, number: int) -> None:
        self.bus.sent = b""
        self.bus.do_send(number)
        message = decode(self.bus.sent)
        base = reg.socket_base(number)
        target = IPv4Address(bytes(self.bus.memory[base + reg.Sn_DIPR : base + reg.Sn_DIPR + 4]))
        self.heard.append((MessageType(message.kind), target, self.bus.get16(number, reg.Sn_DPORT)))
        for wire in self.answers(message):
            header = SERVER.packed + (67).to_bytes(2, "big") + len(wire).to_bytes(2, "big")
            self.bus.clock.at(0.01, lambda data=header + wire: self.bus.peer_sends(data))  # type: ignore[misc]

    def configure(self, addressing: Addressing) -> None:
        self.configured.append(addressing)
        self.chip.configure(addressing)

    def obtain(self, one: DhcpClient, timeout_s: float = 60.0) -> Lease:
        return obtain(self.chip, one, self.configure, clock=self.bus.clock, timeout_s=timeout_s)

    def renew(self, one: DhcpClient) -> Lease:
        return renew(self.chip, one, self.configure, clock=self.bus.clock)


def good(message: Message) -> list[bytes]:
    return [reply(MessageType.OFFER if message.kind == MessageType.DISCOVER else MessageType.ACK)]


def nobody(_message: Message) -> list[bytes]:
    return []


def test_obtain_and_renew(bus: ScriptedChip) -> None:
    lan, one = Lan(bus, good), client()
    lease = lan.obtain(one)
    assert lease.address.ip == ADDRESS
    assert lan.heard == [(MessageType.DISCOVER, EVERYBODY, 67), (MessageType.REQUEST, EVERYBODY, 67)]
    assert [str(addressing.address) for addressing in lan.configured] == ["0.0.0.0", "192.0.2.50"]
    assert lan.chip.holds(lease.addressing(MAC))
    bus.forget_frames()
    assert lan.renew(one) is lease
    assert not bus.exchanges  # nothing is due
    bus.clock.now = one.due_at
    renewed = lan.renew(one)
    assert renewed.obtained_at > lease.obtained_at
    assert lan.heard[2:] == [(MessageType.REQUEST, SERVER, 67)]
    assert len(lan.configured) == 2
    lan.chip.udp_socket(68).close()  # the hardware socket has been given back


def test_other_addresses_in_a_renewed_lease_reach_the_chip(bus: ScriptedChip) -> None:
    lan, one = Lan(bus, good), client()
    lan.obtain(one)
    lan.answers = lambda _message: [reply(MessageType.ACK, {**GRANTED, Option.ROUTER: OTHER.packed})]
    bus.clock.now = one.due_at
    lease = lan.renew(one)
    assert lan.chip.holds(lease.addressing(MAC))
    assert lease.gateway == OTHER


def test_a_server_that_is_gone_costs_the_lease_only_at_its_end(bus: ScriptedChip) -> None:
    lan, one = Lan(bus, good), client()
    lease = lan.obtain(one)
    lan.answers = nobody
    while (now := one.due_at) < lease.obtained_at + lease.expires_s:
        bus.clock.now = now
        assert lan.renew(one) is lease
        assert bus.clock.now - now < 5.1
    bus.clock.now = now
    with pytest.raises(LeaseLost, match="expired"):
        lan.renew(one)
    assert int(lan.configured[-1].address) == 0
    with pytest.raises(LeaseLost):
        lan.renew(one)
    lan.answers = good
    assert lan.obtain(one).address.ip == ADDRESS


def test_a_lease_that_is_taken_back_leaves_the_chip_without_address(bus: ScriptedChip) -> None:
    lan, one = Lan(bus, good), client()
    lan.obtain(one)
    lan.answers = lambda _message: [reply(MessageType.NAK, {Option.SERVER_ID: SERVER.packed})]
    bus.clock.now = one.due_at
    with pytest.raises(LeaseLost, match="NAK: no reason given"):
        lan.renew(one)
    assert int(lan.configured[-1].address) == 0


def test_an_address_that_another_host_has_is_declined(bus: ScriptedChip) -> None:
    lan, one = Lan(bus, good), client()
    configure = lan.configure

    def configured(addressing: Addressing) -> None:
        configure(addressing)
        first = len(lan.configured) == 2  # the address is in the chip, for the first time
        bus.reads[reg.IR] = deque([0x80] * 100 if first else [])

    lease = obtain(lan.chip, one, configured, clock=bus.clock)
    kinds = [kind for kind, _, _ in lan.heard]
    assert kinds == [MessageType.DISCOVER, MessageType.REQUEST, MessageType.DECLINE, *kinds[:2]]
    addresses = [str(addressing.address) for addressing in lan.configured]
    assert addresses == ["0.0.0.0", "192.0.2.50", "0.0.0.0", "192.0.2.50"]
    assert lan.chip.holds(lease.addressing(MAC))


def offering(options: Mapping[int, bytes]) -> Callable[[Message], list[bytes]]:
    return lambda _message: [reply(MessageType.OFFER, {**GRANTED, **options})]


def refusing(message: Message) -> list[bytes]:
    return good(message) if message.kind == MessageType.DISCOVER else [reply(MessageType.NAK)]


HUGE = {code: bytes(255) for code in (128, 129, 130, 131)}


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (nobody, "none answered"),
        (lambda _message: [b"x"], "cannot be read"),
        (lambda _message: [bytes(1472)], "cannot be read"),
        (lambda _message: [reply(MessageType.OFFER, xid=1)] * 5, "none answered"),
        (lambda _message: [reply(MessageType.NAK)], "none answered"),
        (offering({Option.SERVER_ID: b""}), "which server"),
        (offering({Option.LEASE_TIME: seconds(0)}), "0 s is less"),
        (offering({Option.SUBNET_MASK: b"", **HUGE}), "no subnet mask"),
        (refusing, "refuses 192.0.2.50"),
    ],
)
def test_a_bad_server_ends_in_a_sentence_and_in_time(
    bus: ScriptedChip, answers: Callable[[Message], list[bytes]], words: str
) -> None:
    lan, one = Lan(bus, answers), client()
    started = bus.clock.now
    with pytest.raises(NoLease, match=words) as caught:
        lan.obtain(one)
    assert "no DHCP server gave an address within 60 s" in str(caught.value)
    assert bus.clock.now - started < 60.1
    assert len(lan.heard) < 12
    lan.answers = good
    assert lan.obtain(one).address.ip == ADDRESS


def test_a_chip_that_sends_nothing_ends_in_time(bus: ScriptedChip) -> None:
    lan, one = Lan(bus, good), client()
    bus.on[Command.SEND] = lambda number: bus.event(SocketInterrupt.TIMEOUT, number)
    started = bus.clock.now
    with pytest.raises(NoLease):
        lan.obtain(one)
    bus.on[Command.SEND] = lambda _number: None
    with pytest.raises(NoLease):
        lan.obtain(one)
    assert bus.clock.now - started < 2 * 64.1
    with contextlib.closing(lan.chip.tcp_socket()) as socket:
        assert socket.number == 0
