"""Faults on order: each does what it says, when it says, and nothing else."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from plugin.w5100.emulator import (
    ChipReset,
    Emulator,
    ExchangeError,
    Fault,
    FlippedBit,
    HeldStatus,
    LinkDown,
    StuckBus,
    StuckCommand,
    UnansweredSend,
)
from tests.w5100 import emulated as emu
from tests.w5100.emulated import Clock, Host

READ_RTR = bytes.fromhex("0f001700 0f001800")
RTR = bytes.fromhex("00010207 000102d0")
WRITE_GAR = bytes.fromhex("f0000155")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def chip(clock: Clock) -> Iterator[Emulator]:
    emulator = Emulator(clock=clock)
    yield emulator
    emulator.close()


@pytest.fixture
def host(chip: Emulator) -> Host:
    return Host(chip)


# --- when -----------------------------------------------------------------------------------------------


def test_a_fault_is_counted_from_its_injection(chip: Emulator) -> None:
    chip.exchange(READ_RTR)
    chip.inject(StuckBus(first_exchange=3, exchanges=2))
    got = [chip.exchange(READ_RTR) for _ in range(6)]
    assert got == [RTR, RTR, bytes(8), bytes(8), RTR, RTR]


def test_a_fault_without_an_end_lasts_until_it_is_cleared(chip: Emulator) -> None:
    chip.inject(StuckBus())
    assert [chip.exchange(READ_RTR) for _ in range(20)] == [bytes(8)] * 20
    chip.clear_faults()
    assert chip.exchange(READ_RTR) == RTR


def test_faults_add_up(chip: Emulator) -> None:
    chip.inject(FlippedBit(bit=0), FlippedBit(bit=1), FlippedBit(frame=2, bit=7))
    assert chip.exchange(READ_RTR) == bytes.fromhex("00010204 00010250")


@pytest.mark.parametrize("bad", [{"first_exchange": 0}, {"exchanges": 0}])
def test_a_fault_that_can_never_happen_is_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="exchange 1 or later"):
        Fault(**bad)


def test_values_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="0x00 or 0xFF"):
        StuckBus(octet=0x55)
    with pytest.raises(ValueError, match="bits from 0 to 7"):
        FlippedBit(bit=8)
    with pytest.raises(ValueError, match="sockets 0 to 3"):
        UnansweredSend(socket=4)


# --- the wire -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("octet", [0x00, 0xFF])
def test_a_stuck_bus_reaches_no_one(chip: Emulator, octet: int) -> None:
    chip.inject(StuckBus(octet=octet))
    assert chip.exchange(WRITE_GAR) == bytes((octet,)) * 4
    assert chip.exchange(READ_RTR, 3) == bytes((octet,)) * 8
    chip.clear_faults()
    assert Host(chip).read(0x0001) == b"\x00"


def test_only_miso_may_be_stuck(chip: Emulator) -> None:
    chip.inject(StuckBus(chip_hears=True, exchanges=1))
    assert chip.exchange(WRITE_GAR) == bytes(4)
    assert Host(chip).read(0x0001) == b"\x55"


def test_a_bit_is_flipped_on_the_way_to_the_host(chip: Emulator) -> None:
    chip.inject(FlippedBit(first_exchange=2, frame=2, octet=0, bit=6))
    assert chip.exchange(READ_RTR) == RTR
    assert chip.exchange(READ_RTR) == bytes.fromhex("00010207 400102d0")
    assert chip.exchange(READ_RTR) == RTR


def test_a_bit_is_flipped_in_the_nth_frame_of_all(chip: Emulator) -> None:
    chip.inject(FlippedBit(nth_frame=5, bit=0))
    got = [chip.exchange(READ_RTR) for _ in range(4)]
    assert got == [RTR, RTR, bytes.fromhex("00010206 000102d0"), RTR]


def test_a_bit_is_flipped_on_the_way_to_the_chip(chip: Emulator) -> None:
    chip.inject(FlippedBit(heard=True, bit=3))
    assert chip.exchange(WRITE_GAR) == b"\x00\x01\x02\x03"  # the echo cannot show it
    assert Host(chip).read(0x0001) == b"\x5d"
    chip.inject(FlippedBit(heard=True, octet=2, bit=1))
    chip.exchange(bytes.fromhex("f0000577"))
    assert Host(chip).read(0x0005, 3) == b"\x00\x00\x77"
    chip.inject(FlippedBit(heard=True, octet=0, bit=0))
    chip.exchange(bytes.fromhex("f0000977"))  # opcode F1
    assert Host(chip).read(0x0009) == b"\x00"


def test_a_frame_that_is_not_there_cannot_be_hurt(chip: Emulator) -> None:
    chip.inject(FlippedBit(frame=3), FlippedBit(octet=4))
    assert chip.exchange(READ_RTR) == RTR


@pytest.mark.parametrize(("chip_hears", "value"), [(False, b"\x00"), (True, b"\x55")])
def test_an_exchange_fails(chip: Emulator, chip_hears: bool, value: bytes) -> None:
    chip.inject(ExchangeError(first_exchange=2, error_number=errno.EREMOTEIO, chip_hears=chip_hears))
    chip.exchange(READ_RTR)
    with pytest.raises(OSError, match="SPI transfer") as caught:
        chip.exchange(WRITE_GAR)
    assert caught.value.errno == errno.EREMOTEIO
    assert Host(chip).read(0x0001) == value


# --- the chip -------------------------------------------------------------------------------------------


def test_the_chip_resets_itself(host: Host) -> None:
    with emu.connected(host) as peer:
        host.write(0x000F, b"\x0a\x00\x00\x01")
        host.chip.inject(ChipReset(first_exchange=2))
        assert host.read(0x000F) == b"\x0a"
        assert host.read(0x000F) == b"\x00"
        assert host.sr(0) == emu.SR_CLOSED
        host.write(0x000F, b"\x0b")
        assert host.read(0x000F) == b"\x0b"  # once only
        with pytest.raises(ConnectionResetError):
            peer.recv(1)


def test_the_chip_is_held_in_reset(host: Host) -> None:
    host.write(0x0001, b"\x0a")
    host.chip.inject(ChipReset(exchanges=2, answers=False))
    assert host.chip.exchange(READ_RTR) == bytes(8)
    assert host.chip.exchange(WRITE_GAR) == bytes(4)
    assert host.chip.exchange(READ_RTR) == RTR
    assert host.read(0x0001) == b"\x00"


def test_a_send_is_never_done(host: Host, clock: Clock) -> None:
    with emu.connected(host) as peer:
        host.chip.inject(UnansweredSend(socket=0, exchanges=40))
        host.send(0, b"lost")
        assert host.ir(0) == 0
        assert (host.word(0x0424) - host.word(0x0422)) & 0xFFFF == 4
        assert host.free(0) == 2044
        clock.now_s += 3600
        assert host.ir(0) == 0
        host.chip.clear_faults()
        host.send(0, b"too")
        assert host.ir(0) == 0
        assert host.sr(0) == emu.SR_ESTABLISHED
        peer.sendall(b"still heard")
        assert host.take_all(0, 11) == b"still heard"
        host.command(0, emu.CLOSE)
    with emu.connected(host) as peer:
        host.send(0, b"well again")
        assert host.ir(0) == emu.IR_SEND_OK
        assert emu.receive_exactly(peer, 10) == b"well again"


def test_a_send_fault_concerns_its_socket_only(host: Host) -> None:
    with emu.connected(host, 0), emu.connected(host, 1) as peer:
        host.chip.inject(UnansweredSend(socket=0))
        host.send(1, b"fine")
        assert host.ir(1) == emu.IR_SEND_OK
        assert emu.receive_exactly(peer, 4) == b"fine"


def test_a_udp_send_is_never_done(host: Host) -> None:
    host.open(0, mode=emu.UDP)
    host.aim(0, emu.free_port())
    host.chip.inject(UnansweredSend())
    host.send(0, b"lost")
    assert host.ir(0) == 0
    assert host.sr(0) == emu.SR_UDP
    assert host.word(0x0422) == 0


@pytest.mark.parametrize("status", [emu.SR_ARP, emu.SR_SYNSENT])
def test_a_status_is_held_until_the_fault_is_over(host: Host, clock: Clock, status: int) -> None:
    host.chip.inject(HeldStatus(status=status))
    with emu.listening() as server:
        host.connect(0, emu.port_of(server))
        clock.now_s += 3600
        for _ in range(3):
            assert host.sr(0) == status
        assert host.ir(0) == 0
        host.chip.clear_faults()
        clock.now_s -= 3600
        host.until_sr(0, emu.SR_ESTABLISHED)


def test_a_held_connection_hears_no_command_but_close(host: Host) -> None:
    with emu.connected(host) as peer:
        host.chip.inject(HeldStatus(socket=0, status=emu.SR_ESTABLISHED))
        peer.sendall(b"unheard")
        host.send(0, b"unsent")
        host.command(0, emu.DISCON)
        assert host.sr(0) == emu.SR_ESTABLISHED
        assert host.ir(0) == 0
        assert host.received(0) == 0
        host.command(0, emu.CLOSE)
        assert host.sr(0) == emu.SR_CLOSED


def test_fin_wait_is_held_though_the_peer_has_closed(host: Host) -> None:
    host.chip.inject(HeldStatus(status=emu.SR_FIN_WAIT))
    with emu.connected(host):
        host.command(0, emu.DISCON)
    for _ in range(3):
        assert host.sr(0) == emu.SR_FIN_WAIT
    host.write(0x0000, b"\x80")
    assert host.sr(0) == emu.SR_CLOSED


def test_a_command_is_never_taken(host: Host) -> None:
    host.chip.inject(StuckCommand(socket=1, exchanges=6))
    host.write(0x0500, bytes((emu.TCP,)))
    host.write(0x0501, bytes((emu.OPEN,)))
    for _ in range(4):
        assert host.read(0x0501) == bytes((emu.OPEN,))
    assert host.sr(1) == emu.SR_CLOSED
    assert host.read(0x0501) == b"\x00"
    assert host.sr(1) == emu.SR_CLOSED
    host.open(1)
    assert host.sr(1) == emu.SR_INIT


def test_other_sockets_take_their_commands(host: Host) -> None:
    host.chip.inject(StuckCommand(socket=1))
    host.open(2)
    assert host.sr(2) == emu.SR_INIT


# --- the cable ------------------------------------------------------------------------------------------


def test_without_a_link_no_one_answers(host: Host, clock: Clock) -> None:
    host.chip.inject(LinkDown())
    with emu.listening() as server:
        host.connect(0, emu.port_of(server))
        clock.now_s += 1.7
        assert host.sr(0) == emu.SR_ARP
        clock.now_s += 0.2
        assert host.sr(0) == emu.SR_CLOSED
        assert host.ir(0) == emu.IR_TIMEOUT


def test_a_link_that_comes_back_in_time_lets_the_connection_happen(host: Host, clock: Clock) -> None:
    host.chip.inject(LinkDown())
    with emu.listening() as server:
        host.connect(0, emu.port_of(server))
        clock.now_s += 1.0
        assert host.sr(0) == emu.SR_ARP
        host.chip.clear_faults()
        host.until_sr(0, emu.SR_ESTABLISHED)


def test_a_lost_link_is_sent_into_until_the_retries_are_over(host: Host, clock: Clock) -> None:
    with emu.connected(host):
        host.chip.inject(LinkDown())
        host.send(0, b"into the void")
        assert host.ir(0) == emu.IR_SEND_OK  # transmitted; that no one heard it shows in Sn_TX_FSR
        assert host.free(0) == 2048 - 13
        assert host.word(0x0422) == host.word(0x0424)
        clock.now_s += 31.7
        assert host.sr(0) == emu.SR_ESTABLISHED
        clock.now_s += 0.2
        assert host.sr(0) == emu.SR_CLOSED
        assert host.ir(0) & emu.IR_TIMEOUT


def test_what_was_sent_into_a_lost_link_is_repeated(host: Host, clock: Clock) -> None:
    with emu.connected(host) as peer:
        host.chip.inject(LinkDown())
        host.send(0, b"one ")
        host.send(0, b"two ")
        peer.sendall(b"unheard yet")
        clock.now_s += 5
        assert host.received(0) == 0
        host.chip.clear_faults()
        host.send(0, b"three")
        assert emu.receive_exactly(peer, 13) == b"one two three"
        assert host.free(0) == 2048
        assert host.take_all(0, 11) == b"unheard yet"


def test_an_idle_connection_does_not_notice_a_lost_link(host: Host, clock: Clock) -> None:
    with emu.connected(host) as peer:
        host.send(0, b"data")
        host.chip.inject(LinkDown())
        emu.receive_exactly(peer, 4)
        peer.close()
        clock.now_s += 3600
        assert host.sr(0) == emu.SR_ESTABLISHED
        host.command(0, emu.SEND_KEEP)  # this does
        clock.now_s += 31.9
        assert host.sr(0) == emu.SR_CLOSED
        assert host.ir(0) & emu.IR_TIMEOUT


@pytest.mark.parametrize("half_closed", [False, True])
def test_discon_without_a_link_times_out(host: Host, clock: Clock, half_closed: bool) -> None:
    with emu.connected(host) as peer:
        if half_closed:
            peer.shutdown(socket.SHUT_WR)
            host.until_sr(0, emu.SR_CLOSE_WAIT)
        host.chip.inject(LinkDown())
        host.command(0, emu.DISCON)
        assert host.sr(0) == (emu.SR_LAST_ACK if half_closed else emu.SR_FIN_WAIT)
        clock.now_s += 31.9
        assert host.sr(0) == emu.SR_CLOSED
        assert host.ir(0) & emu.IR_TIMEOUT


def test_a_listener_hears_no_one_without_a_link(host: Host) -> None:
    port = emu.free_port()
    host.open(0, port=port)
    host.command(0, emu.LISTEN)
    host.chip.inject(LinkDown())
    assert host.chip.ping(b"") is None
    with socket.create_connection(("127.0.0.1", port), emu.DEADLINE_S):
        assert host.sr(0) == emu.SR_LISTEN
        host.chip.clear_faults()
        host.until_sr(0, emu.SR_ESTABLISHED)


def test_the_same_faults_meet_the_same_calls(clock: Clock) -> None:
    def run() -> list[bytes]:
        emulator = Emulator(clock=clock)
        emulator.inject(
            FlippedBit(first_exchange=2, exchanges=3, octet=1, bit=4),
            StuckBus(first_exchange=6, exchanges=1, octet=0xFF),
            ChipReset(first_exchange=8),
        )
        got = [emulator.exchange(bytes((0xF0, 0, 1, n, 0x0F, 0, 1, 0))) for n in range(10)]
        emulator.close()
        return got

    assert run() == run()
