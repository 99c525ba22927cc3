"""Latches, interrupts, buffer windows, and the timing of RTR and RCR."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from plugin.w5100.emulator import Emulator
from plugin.w5100.emulator.timing import arp_timeout_s, tcp_timeout_s
from tests.w5100 import emulated as emu
from tests.w5100.emulated import Host


@pytest.fixture
def host() -> Iterator[Host]:
    emulator = Emulator(initial_sequence=lambda: 0x1234FFEF)
    yield Host(emulator)
    emulator.close()


# --- latches --------------------------------------------------------------------------------------------


def test_latched_registers_read_the_value_in_force(host: Host) -> None:
    for offset, value in ((0x06, b"\x02\x01\x02\x03\x04\x05"), (0x0C, emu.LOCAL), (0x10, b"\x12\x34")):
        before = host.read(0x0400 + offset, len(value))
        host.write(0x0400 + offset, value)
        assert host.read(0x0400 + offset, len(value)) == before
    for offset in (0x12, 0x24, 0x28):
        host.write(0x0400 + offset, b"\x01\x23")
        assert host.read(0x0400 + offset, 2) == b"\x00\x00"


@pytest.mark.parametrize(
    ("mode", "written", "in_force"),
    [
        (emu.TCP, 0, 1460),
        (emu.TCP, 536, 536),
        (emu.TCP, 1461, 1460),
        (emu.UDP, 0, 1472),
        (emu.UDP, 1472, 1472),
        (emu.IPRAW, 9000, 1480),
        (emu.MACRAW, 0, 1514),
    ],
)
def test_open_takes_mssr_over_and_limits_it(host: Host, mode: int, written: int, in_force: int) -> None:
    host.write_word(0x0412, written)
    host.open(0, mode=mode)
    assert host.word(0x0412) == in_force
    host.open(0, mode=emu.TCP)  # the shadow still holds what was written
    assert host.word(0x0412) == min(written or 1460, 1460)


def test_connect_takes_the_destination_over(host: Host) -> None:
    with emu.listening() as server:
        host.open(1)
        host.aim(1, emu.port_of(server))
        assert host.read(0x050C, 6) == bytes(6)
        host.command(1, emu.CONNECT)
        assert host.read(0x050C, 4) == emu.LOCAL
        assert host.word(0x0510) == emu.port_of(server)
        host.until_sr(1, emu.SR_ESTABLISHED)
    assert host.read(0x0506, 6) == b"\x02\x00" + emu.LOCAL  # what ARP "found"


def test_multicast_open_takes_the_destination_over(host: Host) -> None:
    host.write(0x0406, b"\x01\x00\x5e\x01\x02\x03")
    host.aim(0, 5353, bytes((239, 1, 2, 3)))
    host.open(0, mode=0x80 | emu.UDP)
    assert host.read(0x0406, 12) == b"\x01\x00\x5e\x01\x02\x03" + bytes((239, 1, 2, 3)) + (5353).to_bytes(2, "big")


def test_tx_wr_and_rx_rd_move_nothing_until_a_command(host: Host) -> None:
    with emu.connected(host) as peer:
        assert host.word(0x0424) == host.word(0x0422) == 0xFFF0
        host.write_word(0x0424, 0xFFF0 + 100)
        assert host.word(0x0424) == 0xFFF0
        assert host.free(0) == 0x0800
        peer.sendall(b"four")
        host.until(lambda: host.received(0) == 4)
        host.write_word(0x0428, 4)
        assert host.word(0x0428) == 0
        assert host.received(0) == 4
        host.command(0, emu.RECV)
        assert host.word(0x0428) == 4
        assert host.received(0) == 0


# --- IR, IMR, /INT --------------------------------------------------------------------------------------


def test_ir_follows_the_sockets_and_clears_there_only(host: Host) -> None:
    with emu.listening() as server:
        host.connect(2, emu.port_of(server))
        host.until_sr(2, emu.SR_ESTABLISHED)
    host.until_ir(2, emu.IR_CON)
    assert host.read(0x0015)[0] & 0x04
    host.write(0x0015, b"\xff")
    assert host.read(0x0015)[0] & 0x04
    host.until_ir(2, emu.IR_DISCON)  # the listener is gone, and with it the connection that no one accepted
    host.clear(2, emu.IR_DISCON)
    assert host.ir(2) & emu.IR_CON
    assert host.read(0x0015)[0] & 0x04
    host.clear(2)
    assert host.read(0x0015) == b"\x00"


def test_conflict_is_cleared_by_writing_one(host: Host) -> None:
    host.write(0x000F, b"\x0a\x00\x00\x07")
    host.chip.arp_request("10.0.0.8")
    assert host.read(0x0015) == b"\x00"
    host.chip.arp_request("10.0.0.7")
    assert host.read(0x0015) == b"\x80"
    host.write(0x0015, b"\x7f")
    assert host.read(0x0015) == b"\x80"
    host.write(0x0015, b"\x80")
    assert host.read(0x0015) == b"\x00"


def _int_low(host: Host) -> bool:
    return host.chip.interrupt_asserted


def test_int_is_low_while_an_unmasked_bit_is_set(host: Host) -> None:
    host.write(0x000F, b"\x0a\x00\x00\x07")
    host.chip.arp_request("10.0.0.7")
    assert not _int_low(host)
    host.write(0x0016, b"\x40")
    assert not _int_low(host)
    host.write(0x0016, b"\xc0")
    assert _int_low(host)
    host.write(0x0015, b"\x80")
    assert not _int_low(host)


def test_open_leaves_sn_ir_alone(host: Host) -> None:
    with emu.listening() as server:
        host.connect(0, emu.port_of(server))
        host.until_ir(0, emu.IR_CON)
        host.open(0)
        assert host.ir(0) == emu.IR_CON


# --- ping -----------------------------------------------------------------------------------------------


def test_ping_is_answered_and_can_be_blocked(host: Host) -> None:
    reply = host.chip.ping(b"abcdefgh", identifier=0x1234, sequence=7)
    assert reply == bytes.fromhex("0000 5c2f 1234 0007") + b"abcdefgh"
    host.write(0x0000, b"\x10")
    assert host.chip.ping(b"abcdefgh") is None
    host.write(0x0000, b"\x00")
    assert host.chip.ping(b"") is not None


def test_a_long_ping_comes_back_corrupt(host: Host) -> None:
    right = bytes(range(111))
    assert host.chip.ping(right, identifier=0, sequence=0) == _echo_reply(right)
    reply = host.chip.ping(bytes(range(200)), identifier=0, sequence=0)
    assert reply is not None
    assert reply[:119] == _echo_reply(bytes(range(200)))[:119]
    assert reply[119:] == bytes((208 - 12,)) * 89


def _echo_reply(data: bytes) -> bytes:
    blank = bytes(8) + data
    total = sum(int.from_bytes(blank[at : at + 2].ljust(2, b"\x00"), "big") for at in range(0, len(blank), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return b"\x00\x00" + (total ^ 0xFFFF).to_bytes(2, "big") + bytes(4) + data


# --- windows --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("register", "sizes"),
    [
        (0x55, [2048, 2048, 2048, 2048]),
        (0x0A, [4096, 4096, 1024, 1024]),
        (0x03, [8192, 1024, 1024, 1024]),
        (0x06, [4096, 2048, 1024, 1024]),
        (0xE4, [1024, 2048, 4096, 8192]),
    ],
)
def test_tmsr_gives_each_socket_its_size(host: Host, register: int, sizes: list[int]) -> None:
    host.write(0x001B, bytes((register,)))
    assert [host.free(number) for number in range(4)] == sizes
    assert [host.read(host.base(number) + 0x1F)[0] for number in range(4)] == [size // 1024 for size in sizes]
    assert [host.read(host.base(number) + 0x1E)[0] for number in range(4)] == [2, 2, 2, 2]


def test_the_sockets_own_size_registers_deal_out_anew(host: Host) -> None:
    host.write(0x041F, b"\x04")
    host.write(0x051F, b"\x00")
    host.write(0x061F, b"\x03")  # no such size: 8 KiB
    assert [host.free(number) for number in range(3)] == [4096, 0, 8192]


def test_windows_lie_in_socket_order(host: Host) -> None:
    host.write(0x001A, b"\x06")  # RX: 4, 2, 1, 1 KiB
    host.write(0x001B, b"\x09")  # TX: 2, 4, 1, 1 KiB
    with emu.listening() as server:
        for number, tx_base, rx_base in ((0, 0x4000, 0x6000), (1, 0x4800, 0x7000), (2, 0x5800, 0x7800)):
            host.connect(number, emu.port_of(server))
            peer, _ = server.accept()
            with peer:
                host.until_sr(number, emu.SR_ESTABLISHED)
                size = (2048, 4096, 1024)[number]
                start = 0xFFF0 & (size - 1)
                host.write(tx_base + start, b"0123456789abcdef")
                host.write(tx_base, b"wrapped")
                host.write_word(host.base(number) + 0x24, 0xFFF0 + 23)
                host.command(number, emu.SEND)
                assert emu.receive_exactly(peer, 23) == b"0123456789abcdefwrapped"
                peer.sendall(b"here")
                host.until(lambda number=number: host.received(number) == 4)  # type: ignore[misc]
                assert host.read(rx_base, 4) == b"here"


def test_what_is_dealt_out_beyond_8_kib_begins_again_at_the_start(host: Host) -> None:
    host.write(0x001A, b"\x0e")  # RX: 4 + 8 KiB + ...: socket 1 begins at 4 KiB and reaches beyond the end
    with emu.connected(host, 1) as peer:
        sent = bytes(range(256)) * 24  # 6 KiB
        peer.sendall(sent)
        host.until(lambda: host.received(1) == len(sent))
        assert host.read(0x7000, 4096) + host.read(0x6000, 2048) == sent


def test_a_window_that_is_overlapped_is_overwritten(host: Host) -> None:
    host.write(0x001A, b"\x03")  # RX: 8 KiB for socket 0; socket 1 has 1 KiB on top of its start
    with emu.connected(host, 0) as first, emu.connected(host, 1) as second:
        first.sendall(b"first")
        host.until(lambda: host.received(0) == 5)
        second.sendall(b"2nd")
        host.until(lambda: host.received(1) == 3)
        assert host.read(0x6000, 5) == b"2ndst"


def test_a_socket_without_memory_receives_nothing(host: Host) -> None:
    host.write(0x041E, b"\x00")
    with emu.connected(host, 0) as peer:
        peer.sendall(b"no room")
        assert not host.chip.wait_interrupt(0.05)
        assert host.received(0) == 0
        assert host.sr(0) == emu.SR_ESTABLISHED


# --- commands that do not fit, modes that do not run ----------------------------------------------------


@pytest.mark.parametrize("mode", [0x00, 0x06, 0x0F, 0x20])
def test_open_without_a_protocol_is_ignored(host: Host, mode: int) -> None:
    host.open(0, mode=mode)
    assert host.sr(0) == emu.SR_CLOSED


@pytest.mark.parametrize(
    ("mode", "status"),
    [
        (emu.TCP, emu.SR_INIT),
        (emu.TCP_ND, emu.SR_INIT),
        (emu.UDP, emu.SR_UDP),
        (emu.MACRAW, emu.SR_MACRAW),
        (emu.PPPOE, emu.SR_PPPOE),
    ],
)
def test_open_sets_the_status_of_the_protocol(host: Host, mode: int, status: int) -> None:
    host.open(0, mode=mode)
    assert host.sr(0) == status
    host.command(0, emu.CLOSE)
    assert host.sr(0) == emu.SR_CLOSED
    assert host.ir(0) == 0


@pytest.mark.parametrize("mode", [emu.MACRAW, emu.PPPOE])
def test_macraw_and_pppoe_are_for_socket_0(host: Host, mode: int) -> None:
    host.open(1, mode=mode)
    assert host.sr(1) == emu.SR_CLOSED


def test_macraw_send_ends(host: Host) -> None:
    host.open(0, mode=emu.MACRAW)
    host.send(0, bytes(60))
    assert host.ir(0) == emu.IR_SEND_OK
    assert host.word(0x0422) == host.word(0x0424) == 60


@pytest.mark.parametrize("command", [emu.LISTEN, emu.CONNECT, emu.DISCON, emu.SEND, emu.SEND_MAC, emu.SEND_KEEP])
def test_commands_to_a_closed_socket_are_ignored(host: Host, command: int) -> None:
    before = host.read(0x0400, 0x30)
    host.command(0, command)
    assert host.read(0x0400, 0x30) == before


@pytest.mark.parametrize("command", [emu.DISCON, emu.SEND, emu.SEND_MAC, emu.SEND_KEEP, 0x23, 0x27, 0x7F, 0x00])
def test_commands_to_an_opened_socket_that_do_not_fit_are_ignored(host: Host, command: int) -> None:
    host.open(0)
    host.write_word(0x0424, 10)
    before = host.read(0x0400, 0x30)
    host.command(0, command)
    assert host.read(0x0400, 0x30) == before


@pytest.mark.parametrize("command", [emu.LISTEN, emu.CONNECT, emu.DISCON, emu.SEND_KEEP])
def test_commands_to_a_udp_socket_that_do_not_fit_are_ignored(host: Host, command: int) -> None:
    host.open(0, mode=emu.UDP)
    before = host.read(0x0400, 0x30)
    host.command(0, command)
    assert host.read(0x0400, 0x30) == before


@pytest.mark.parametrize("command", [emu.LISTEN, emu.CONNECT, emu.SEND_MAC])
def test_commands_to_a_connection_that_do_not_fit_are_ignored(host: Host, command: int) -> None:
    with emu.connected(host) as peer:
        host.command(0, command)
        assert host.sr(0) == emu.SR_ESTABLISHED
        host.send(0, b"still there")
        assert emu.receive_exactly(peer, 11) == b"still there"


def test_recv_is_taken_in_any_status(host: Host) -> None:
    host.write_word(0x0428, 7)
    host.command(0, emu.RECV)
    assert host.word(0x0428) == 7
    assert host.received(0) == 0xFFF9  # RX_WR - RX_RD, 16 bits


# --- time -----------------------------------------------------------------------------------------------


def test_reset_values_give_the_documented_times() -> None:
    assert arp_timeout_s(2000, 8) == pytest.approx(1.8)
    assert tcp_timeout_s(2000, 8) == pytest.approx(31.8)


@pytest.mark.parametrize(
    ("rtr", "rcr", "tries"),
    [
        (2000, 0, [2000]),
        (2000, 2, [2000, 4000, 8000]),
        (10000, 4, [10000, 20000, 40000, 40000, 40000]),
        (0xFFFF, 3, [0xFFFF] * 4),
        (1, 17, [1 << min(n, 15) for n in range(18)]),
        (0, 5, [0]),
    ],
)
def test_tcp_tries_double_within_16_bits(rtr: int, rcr: int, tries: list[int]) -> None:
    assert tcp_timeout_s(rtr, rcr) == pytest.approx(sum(tries) * 100e-6)


def test_a_forgotten_emulator_leaves_no_kernel_socket() -> None:
    emulator = Emulator()
    host = Host(emulator)
    with socket.create_server(("127.0.0.1", 0)) as server:
        host.connect(0, emu.port_of(server))
        peer, _ = server.accept()
        peer.settimeout(emu.DEADLINE_S)
        del host, emulator
        with peer:
            assert peer.recv(1) == b""
