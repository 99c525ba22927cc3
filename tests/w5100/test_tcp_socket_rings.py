"""Commands, live registers, ring pointers and a failing bus, on a chip that does exactly what the test says."""

from __future__ import annotations

import itertools

import pytest

from plugin.w5100 import (
    BusError,
    ChipLost,
    ChipTimeout,
    ConnectionLost,
)
from plugin.w5100 import registers as reg
from plugin.w5100.hardware_socket import Ring, advance
from plugin.w5100.registers import Command
from tests.w5100.scripted import (
    PEER,
    PORT,
    InterruptChip,
    ScriptedChip,
    connected,
    ready,
    unacknowledged,
)


@pytest.mark.parametrize("command", [Command.OPEN, Command.CONNECT, Command.SEND, Command.RECV])
def test_a_command_that_is_never_taken_is_a_chip_timeout(bus: ScriptedChip, command: Command) -> None:
    bus.untaken.add(command)

    def dialogue() -> None:
        socket = connected(bus)
        bus.peer_sends(bytes(1024))  # an eighth of the ring: RECV is due
        socket.receive(10, timeout_s=10)
        socket.send_all(b"EHLO\r\n", timeout_s=10)

    with pytest.raises(ChipTimeout, match=f"does not take {command.name}"):
        dialogue()
    assert bus.clock.now < 1001


def test_a_command_may_take_a_while(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.script(reg.Sn_CR, [0x20, 0x20, 0x20])
    socket.send_all(b"slow", timeout_s=1)
    assert bus.sent == b"slow"


@pytest.mark.parametrize("torn", [(0x00, 0xFF, 0x01, 0x00), (0x01, 0xFF, 0x01, 0x00), (0x00, 0x00, 0x01, 0x00)])
def test_a_torn_rx_rsr_is_read_again_until_two_reads_agree(bus: ScriptedChip, torn: tuple[int, ...]) -> None:
    socket = connected(bus)
    bus.peer_sends(bytes(range(256)))
    bus.script(reg.Sn_RX_RSR, torn[0::2])
    bus.script(reg.Sn_RX_RSR + 1, torn[1::2])
    assert socket.receive(8192, timeout_s=1) == bytes(range(256))


def test_a_torn_tx_fsr_is_read_again_until_two_reads_agree(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.on[Command.SEND] = unacknowledged(bus)
    first, second = bytes(8000), b"\x01" * 1000
    socket.send_all(first, timeout_s=1)
    bus.set16(0, reg.Sn_TX_FSR, 0x0400)
    bus.script(reg.Sn_TX_FSR, [0x04, 0x1F])  # once 0x04FF, once 0x1F00: both more than there is
    bus.script(reg.Sn_TX_FSR + 1, [0xFF, 0x00])
    socket.send_all(second, timeout_s=1)
    assert bus.sent == first + second


def test_a_counter_that_never_agrees_with_itself_is_a_chip_timeout(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.script(reg.Sn_RX_RSR, itertools.islice(itertools.cycle([0x01, 0x02]), 1000))
    with pytest.raises(ChipTimeout, match="never reads the same twice"):
        socket.receive(10, timeout_s=1)


def test_more_in_the_ring_than_it_holds_is_a_lost_chip(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.set16(0, reg.Sn_RX_RSR, 0xFFFF)
    with pytest.raises(ChipLost, match="65535 in a ring of 8192"):
        socket.receive(10, timeout_s=1)


def test_pointers_start_anywhere_and_wrap_at_16_bits(bus: ScriptedChip) -> None:
    bus.isn, bus.rx_start = 0xFFF0, 0xFFFB
    socket = connected(bus)
    for size in (10, 6, 1, 40, 8192, 100):
        letter = bytes(n % 251 for n in range(size))
        bus.sent = b""
        socket.send_all(letter, timeout_s=1)
        assert bus.sent == letter
        answer = letter[: bus.window()]
        bus.peer_sends(answer)
        assert socket.receive(8192, timeout_s=1) == answer
    assert bus.get16(0, reg.Sn_TX_WR) == (0xFFF0 + 8349) & 0xFFFF


@pytest.mark.parametrize("pointer", [0x0000, 0x0FFF, 0x7FFF, 0x8000, 0xFFFF])
def test_a_ring_wraps_inside_its_window(pointer: int) -> None:
    ring = Ring(base=0x5000, size_bytes=0x1000)
    spans = ring.spans(pointer, 0x1000)
    touched = [address for start, size in spans for address in range(start, start + size)]
    assert touched == [0x5000 + ((pointer + n) & 0x0FFF) for n in range(0x1000)]
    assert advance(pointer, 0x1000) == (pointer + 0x1000) % 0x10000
    with pytest.raises(ValueError, match="do not fit"):
        ring.spans(pointer, 0x1001)


def test_a_second_lane_uses_its_own_windows_and_registers(bus: ScriptedChip) -> None:
    chip = ready(bus, lanes=3)
    sockets = [chip.tcp_socket() for _ in range(3)]
    for number, socket in enumerate(sockets):
        socket.connect(PEER, PORT, timeout_s=1)
        bus.peer_sends(b"%d greets" % number, number)
    for number, socket in reversed(list(enumerate(sockets))):
        socket.send_all(b"%d speaks " % number, timeout_s=1)
        assert socket.receive(100, timeout_s=1) == b"%d greets" % number
    assert bus.sent == b"2 speaks 1 speaks 0 speaks "


class Failing(InterruptChip):
    """Exchange ``fails`` (counted from 0) has a wrong echo, or does not even reach the chip."""

    def __init__(self, fails: int = -1, *, unheard: bool = False) -> None:
        self.fails = fails
        self.unheard = unheard
        super().__init__()

    def exchange(self, frames: bytes) -> bytes:
        if len(self.exchanges) != self.fails:
            return super().exchange(frames)
        if self.unheard:
            self.exchanges.append(frames)
            raise OSError("the adapter is gone")
        return b"\x10" + super().exchange(frames)[1:]


@pytest.mark.parametrize("unheard", [False, True])
def test_a_failing_exchange_is_an_oserror_wherever_it_happens(unheard: bool) -> None:
    """The nth exchange of a dialogue fails, for every n: nothing hangs, nothing is doubled, close still closes."""

    def dialogue(bus: Failing) -> None:
        chip = ready(bus)
        socket = chip.tcp_socket()
        try:
            socket.connect(PEER, PORT, timeout_s=1)
            bus.peer_sends(b"220\r\n")
            assert socket.receive(100, timeout_s=1) == b"220\r\n"
            socket.send_all(b"QUIT\r\n", timeout_s=1)
        finally:
            socket.close()
        again = chip.tcp_socket()
        again.connect(PEER, PORT, timeout_s=1)
        assert again.number == 0

    whole = Failing()
    dialogue(whole)
    survived = 0
    for n in range(len(whole.exchanges)):
        bus = Failing(n, unheard=unheard)
        try:
            dialogue(bus)
        except BusError as error:
            fault: OSError = error
            assert not unheard
        except OSError as error:
            fault = error
            assert unheard
        else:
            survived += 1
            continue
        assert ("the adapter is gone" if unheard else "00 01 02") in str(fault)
        assert bus.clock.now < 1005
    # Only a reset that tries again and a close that never raises get over a failing exchange.
    assert survived <= 6


def test_what_could_not_be_read_out_of_the_ring_is_read_by_the_next_receive(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.peer_sends(b"220 ready\r\n")

    def corrupt(out: bytes) -> bytes:
        return b"\xff" * len(out) if bus.exchanges[-1].startswith(b"\x0f\x60\x00") else out

    bus.corrupt = corrupt
    with pytest.raises(BusError):
        socket.receive(100, timeout_s=1)
    bus.corrupt = None
    assert socket.receive(100, timeout_s=1) == b"220 ready\r\n"


def test_after_a_broken_recv_no_octet_is_handed_out_twice(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.peer_sends(b"once" * 256)

    def corrupt(out: bytes) -> bytes:
        return out[:-4] + b"\xff\xff\xff\xff" if bus.commands[-1][1] == Command.RECV else out

    bus.corrupt = corrupt
    with pytest.raises(BusError):
        socket.receive(100, timeout_s=1)
    bus.corrupt = None
    with pytest.raises(ConnectionLost, match="broke off"):
        socket.receive(100, timeout_s=1)


def test_statuses_are_observed_in_wiznets_names() -> None:
    from plugin.w5100 import Chip
    from tests.w5100.scripted import ADDRESSING

    bus = ScriptedChip()
    seen: list[tuple[int, str, str]] = []
    chip = Chip(bus, clock=bus.clock, sleep=bus.clock.sleep, observe=lambda *change: seen.append(change))
    chip.reset()
    chip.configure(ADDRESSING)
    socket = chip.tcp_socket()
    socket.connect(PEER, PORT, timeout_s=1)
    socket.close()
    assert seen == [(0, "CLOSED", "INIT"), (0, "INIT", "ESTABLISHED"), (0, "ESTABLISHED", "CLOSED")]
