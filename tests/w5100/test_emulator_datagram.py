"""UDP and IPRAW through the emulator."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from plugin.w5100.emulator import Emulator, LinkDown
from tests.w5100 import emulated as emu
from tests.w5100.emulated import Clock, Host

ICMP = 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def host(clock: Clock) -> Iterator[Host]:
    emulator = Emulator(clock=clock)
    yield Host(emulator)
    emulator.close()


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(emu.DEADLINE_S)
        one.bind(("127.0.0.1", 0))
        yield one


def _header(peer: socket.socket, size: int) -> bytes:
    return emu.LOCAL + emu.port_of(peer).to_bytes(2, "big") + size.to_bytes(2, "big")


def test_send_and_receive_with_the_8_octet_header(host: Host, peer: socket.socket) -> None:
    port = emu.free_port(socket.SOCK_DGRAM)
    host.open(0, mode=emu.UDP, port=port)
    assert host.sr(0) == emu.SR_UDP
    host.aim(0, emu.port_of(peer))
    host.send(0, b"question")
    assert host.ir(0) == emu.IR_SEND_OK
    assert host.word(0x0422) == host.word(0x0424) == 8
    assert host.free(0) == 2048
    assert peer.recvfrom(100) == (b"question", ("127.0.0.1", port))
    peer.sendto(b"answer", ("127.0.0.1", port))
    host.until(lambda: host.received(0) == 14)
    assert host.ir(0) & emu.IR_RECV
    assert host.take(0) == _header(peer, 6) + b"answer"


def test_datagrams_keep_their_bounds_and_order(host: Host, peer: socket.socket) -> None:
    port = emu.free_port(socket.SOCK_DGRAM)
    host.open(3, mode=emu.UDP, port=port)
    for data in (b"one", b"", b"three"):
        peer.sendto(data, ("127.0.0.1", port))
    host.until(lambda: host.received(3) == 24 + 8)
    assert host.take(3) == _header(peer, 3) + b"one" + _header(peer, 0) + _header(peer, 5) + b"three"


def test_what_does_not_fit_is_lost_whole(host: Host, peer: socket.socket) -> None:
    port = emu.free_port(socket.SOCK_DGRAM)
    host.open(0, mode=emu.UDP, port=port)
    peer.sendto(bytes(1400), ("127.0.0.1", port))
    peer.sendto(bytes(641), ("127.0.0.1", port))  # 640 octets are left, 8 of them for the header
    peer.sendto(bytes(632), ("127.0.0.1", port))
    host.until(lambda: host.received(0) == 2048)
    host.take(0)
    assert host.received(0) == 0
    peer.sendto(b"next", ("127.0.0.1", port))
    host.until(lambda: host.received(0) == 12)
    assert host.take(0) == _header(peer, 4) + b"next"


def test_one_that_is_larger_than_the_window_is_lost(host: Host, peer: socket.socket) -> None:
    port = emu.free_port(socket.SOCK_DGRAM)
    host.open(0, mode=emu.UDP, port=port)
    peer.sendto(bytes(2041), ("127.0.0.1", port))
    peer.sendto(b"x", ("127.0.0.1", port))
    host.until(lambda: host.received(0) == 9)


def test_send_of_more_than_the_mss_is_split(host: Host, peer: socket.socket) -> None:
    host.open(0, mode=emu.UDP)
    host.aim(0, emu.port_of(peer))
    host.send(0, bytes(2000))
    assert [len(peer.recv(4096)), len(peer.recv(4096))] == [1472, 528]
    assert host.ir(0) == emu.IR_SEND_OK


def test_mssr_decides_where_it_is_split(host: Host, peer: socket.socket) -> None:
    host.write_word(0x0412, 100)
    host.open(0, mode=emu.UDP)
    host.aim(0, emu.port_of(peer))
    host.send(0, bytes(250))
    assert [len(peer.recv(4096)) for _ in range(3)] == [100, 100, 50]


def test_send_of_nothing_hangs_the_socket_until_it_is_opened_again(host: Host, peer: socket.socket) -> None:
    host.open(0, mode=emu.UDP)
    host.aim(0, emu.port_of(peer))
    host.command(0, emu.SEND)
    host.send(0, b"lost")
    assert host.ir(0) == 0
    assert host.word(0x0422) == 0
    host.command(0, emu.CLOSE)
    host.open(0, mode=emu.UDP)
    host.send(0, b"alive")
    assert host.ir(0) == emu.IR_SEND_OK
    assert peer.recv(100) == b"alive"


def test_send_mac_uses_the_given_hardware_address(host: Host, peer: socket.socket) -> None:
    host.open(0, mode=emu.UDP)
    host.aim(0, emu.port_of(peer))
    host.write(0x0406, b"\x00\x08\xdc\x01\x02\x03")
    host.put(0, b"no ARP")
    host.command(0, emu.SEND_MAC)
    assert host.ir(0) == emu.IR_SEND_OK
    assert host.read(0x0406, 6) == b"\x00\x08\xdc\x01\x02\x03"
    assert peer.recv(100) == b"no ARP"


def test_a_destination_that_does_not_answer_times_out(host: Host, clock: Clock) -> None:
    host.open(0, mode=emu.UDP)
    host.aim(0, 53, bytes(4))
    host.send(0, b"anyone?")
    assert host.sr(0) == emu.SR_ARP
    clock.now_s += 1.79
    assert host.ir(0) == 0
    clock.now_s += 0.02
    assert host.sr(0) == emu.SR_UDP
    assert host.ir(0) == emu.IR_TIMEOUT
    assert host.word(0x0422) == host.word(0x0424) == 7
    assert host.free(0) == 2048


def test_port_unreachable_is_reported(host: Host, peer: socket.socket) -> None:
    port = emu.free_port(socket.SOCK_DGRAM)
    host.open(1, mode=emu.UDP)
    host.aim(1, port)
    host.send(1, b"anyone?")
    host.until(lambda: host.read(0x0015) == bytes((0x42,)))  # UNREACH, and SEND_OK of socket 1
    assert host.read(0x002A, 4) == emu.LOCAL
    assert host.word(0x002E) == port
    host.write(0x0015, b"\x40")
    assert host.read(0x0015) == b"\x02"
    host.aim(1, emu.port_of(peer))
    host.clear(1)
    host.send(1, b"you there")
    assert host.ir(1) == emu.IR_SEND_OK
    assert peer.recv(100) == b"you there"


def test_sending_again_to_an_unreachable_port_goes_on(host: Host) -> None:
    port = emu.free_port(socket.SOCK_DGRAM)
    host.open(0, mode=emu.UDP)
    host.aim(0, port)
    for _ in range(5):
        host.clear(0)
        host.send(0, b"anyone?")
        assert host.ir(0) == emu.IR_SEND_OK


def test_a_broadcast_leaves_without_arp(host: Host) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.settimeout(emu.DEADLINE_S)
        listener.bind(("127.255.255.255", 0))
        host.open(0, mode=emu.UDP)
        host.aim(0, emu.port_of(listener), bytes((127, 255, 255, 255)))
        host.send(0, b"all of you")
        assert host.ir(0) == emu.IR_SEND_OK
        assert listener.recv(100) == b"all of you"


def test_two_sockets_on_one_port_do_not_share_it(host: Host, peer: socket.socket) -> None:
    port = emu.free_port(socket.SOCK_DGRAM)
    host.open(0, mode=emu.UDP, port=port)
    host.open(1, mode=emu.UDP, port=port)
    assert host.sr(1) == emu.SR_UDP
    peer.sendto(b"first", ("127.0.0.1", port))
    host.until(lambda: host.received(0) == 13)
    assert host.received(1) == 0


def test_a_link_that_comes_back_in_time_lets_the_datagram_leave(
    host: Host, peer: socket.socket, clock: Clock
) -> None:
    host.open(0, mode=emu.UDP)
    host.aim(0, emu.port_of(peer))
    host.chip.inject(LinkDown())
    host.send(0, b"late")
    clock.now_s += 1
    assert host.sr(0) == emu.SR_ARP
    host.chip.clear_faults()
    assert host.sr(0) == emu.SR_UDP
    assert host.ir(0) == emu.IR_SEND_OK
    assert peer.recv(100) == b"late"


def test_without_transmit_memory_no_send_is_done(host: Host, peer: socket.socket) -> None:
    host.write(0x041F, b"\x00")
    host.open(0, mode=emu.UDP)
    host.aim(0, emu.port_of(peer))
    host.send(0, b"x")
    assert host.ir(0) == 0
    assert host.sr(0) == emu.SR_UDP


def test_nothing_arrives_and_nothing_leaves_without_a_link(host: Host, peer: socket.socket, clock: Clock) -> None:
    port = emu.free_port(socket.SOCK_DGRAM)
    host.open(0, mode=emu.UDP, port=port)
    host.chip.inject(LinkDown())
    peer.sendto(b"lost", ("127.0.0.1", port))
    host.aim(0, emu.port_of(peer))
    host.send(0, b"lost too")
    assert host.sr(0) == emu.SR_ARP
    clock.now_s += 1.9
    assert host.ir(0) == emu.IR_TIMEOUT
    host.chip.clear_faults()
    peer.sendto(b"heard", ("127.0.0.1", port))
    host.until(lambda: host.received(0) == 13)
    assert host.take(0) == _header(peer, 5) + b"heard"
    host.send(0, b"sent")
    assert peer.recv(100) == b"sent"


# --- IPRAW ----------------------------------------------------------------------------------------------


def _icmp_is_possible() -> bool:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP):
            return True
    return False


@pytest.mark.skipif(not _icmp_is_possible(), reason="the host admits neither ping nor raw sockets")
def test_ipraw_pings_the_host(host: Host) -> None:
    host.write(0x0414, bytes((ICMP,)))
    host.open(0, mode=emu.IPRAW)
    assert host.sr(0) == emu.SR_IPRAW
    host.aim(0, 0)
    request = bytes.fromhex("0800 e5ca 1234 0001") + b"ping"  # checksum: 0800 + 1234 + 0001 + 7069 + 6e67
    host.send(0, _with_checksum(request))
    assert host.ir(0) & emu.IR_SEND_OK
    host.until(lambda: host.received(0) == 6 + 12)
    packet = host.take(0)
    assert packet[:6] == emu.LOCAL + b"\x00\x0c"
    assert packet[6:] == _with_checksum(b"\x00" + request[1:])


def _with_checksum(message: bytes) -> bytes:
    total = sum(int.from_bytes(message[at : at + 2], "big") for at in range(0, len(message), 2) if at != 2)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return message[:2] + (total ^ 0xFFFF).to_bytes(2, "big") + message[4:]


def test_ipraw_beyond_the_mss_is_dropped_yet_done(host: Host) -> None:
    host.write(0x0414, bytes((ICMP,)))
    host.write_word(0x0412, 100)
    host.open(0, mode=emu.IPRAW)
    host.aim(0, 0)
    host.send(0, bytes(101))
    assert host.ir(0) == emu.IR_SEND_OK
    assert host.word(0x0422) == host.word(0x0424) == 101


def test_ipraw_takes_an_echo_request_instead_of_the_chip(host: Host) -> None:
    host.write(0x0614, bytes((ICMP,)))
    host.open(2, mode=emu.IPRAW)
    assert host.chip.ping(b"data", identifier=0x0102, sequence=0x0304, source="10.1.2.3") is None
    packet = host.take(2)
    assert packet == bytes((10, 1, 2, 3)) + b"\x00\x0c" + _with_checksum(b"\x08\x00\x00\x00\x01\x02\x03\x04data")
    host.command(2, emu.CLOSE)
    assert host.chip.ping(b"data") is not None
