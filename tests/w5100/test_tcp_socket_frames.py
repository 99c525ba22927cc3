"""Golden SPI frames of each operation of a TCP socket, written by hand from the datasheet's register map."""

from __future__ import annotations

import pytest

from plugin.w5100 import TcpSocket
from plugin.w5100.registers import Command, SocketInterrupt
from tests.w5100.scripted import PEER, PORT, InterruptChip, carry_mail, ready

OPEN = """
0f001a00 0f001b00                      RMSR, TMSR: does the chip still hold its split
f0040021                               Sn_MR: TCP, no delayed ACK
f00404c0 f0040501                      Sn_PORT 49153
f00402ff                               Sn_IR: clear all
f0040101 0f040100                      Sn_CR OPEN, until it reads 0
0f040300                               Sn_SR
"""
CONNECT = """
f0040cc0 f0040d00 f0040e02 f0040f19    Sn_DIPR 192.0.2.25
f0041000 f0041119                      Sn_DPORT 25
f0040104 0f040100 0f040300             Sn_CR CONNECT, Sn_SR
"""
CONNECTED = """
0f040300 0f040200                      Sn_SR, then Sn_IR
0f042400 0f042500                      Sn_TX_WR: ISN + 1
0f042800 0f042900                      Sn_RX_RD
"""
SEND = """
f0040211                               Sn_IR: clear SEND_OK, and CON
f05ffe41 f05fff42 f0400043             "ABC" at the end of the ring, and round to its beginning
f00424ff f0042501                      Sn_TX_WR = 0x1FFE + 0xE000 + 3, in 16 bits
f0040120 0f040100 0f040200             Sn_CR SEND, Sn_IR
"""
COUNT = """
f0040204                               Sn_IR: clear RECV before the octets are counted
0f040300 0f040200                      Sn_SR first, then Sn_IR
0f042600 0f042700 0f042600 0f042700    Sn_RX_RSR, twice
"""
TAKE = """
0f600000 0f600100                      two octets
"""
RECV = """
f0042804 f0042900                      Sn_RX_RD = 1024
f0040140 0f040100                      Sn_CR RECV
"""
DISCON = """
f0040201                               Sn_IR: clear CON
0f040300 0f040200                      state
0f042000 0f042000                      Sn_TX_FSR, its high octet twice: all acknowledged
f0040108 0f040100 0f040300             Sn_CR DISCON, Sn_SR
"""
CLOSE = """
f0040110 0f040100                      Sn_CR CLOSE
f00402ff                               Sn_IR: clear all
0f040300 0f040200                      state
"""


def golden(*texts: str) -> list[str]:
    return [word for text in texts for line in text.splitlines() for word in line[:39].split() if len(word) == 8]


@pytest.fixture
def bus() -> InterruptChip:
    return InterruptChip(isn=0xFFFE)


@pytest.fixture
def socket(bus: InterruptChip, monkeypatch: pytest.MonkeyPatch) -> TcpSocket:
    chip = ready(bus)
    monkeypatch.setattr(chip._ports, "take", lambda: 49153)
    bus.forget_frames()
    return chip.tcp_socket()


def test_golden_frames_of_connect(bus: InterruptChip, socket: TcpSocket) -> None:
    socket.connect(PEER, PORT, timeout_s=1)
    assert bus.frames() == golden(OPEN, CONNECT, CONNECTED)
    assert len(bus.exchanges) == 3


def test_golden_frames_of_send_across_the_end_of_the_ring(bus: InterruptChip, socket: TcpSocket) -> None:
    socket.connect(PEER, PORT, timeout_s=1)
    bus.forget_frames()
    socket.send_all(b"ABC", timeout_s=1)
    assert bus.frames() == golden(SEND.replace("f00424ff f0042501", "f0042400 f0042501"))
    assert bus.sent == b"ABC"
    assert len(bus.exchanges) == 1


def test_golden_frames_of_receive(bus: InterruptChip, socket: TcpSocket) -> None:
    socket.connect(PEER, PORT, timeout_s=1)
    bus.forget_frames()
    bus.peer_sends(b"OK")
    assert socket.receive(100, timeout_s=1) == b"OK"
    con_cleared, interrupts_on = "f0040201", "f0001601"  # IMR, once per chip: socket 0 has not waited before
    assert bus.frames() == [con_cleared, interrupts_on, *golden(COUNT, TAKE)]


def test_golden_frames_of_a_receive_that_frees_the_ring(bus: InterruptChip, socket: TcpSocket) -> None:
    socket.connect(PEER, PORT, timeout_s=1)
    bus.peer_sends(bytes(1024))
    bus.forget_frames()
    socket.receive(100, timeout_s=1)
    assert bus.frames()[-4:] == golden(RECV)
    assert len(bus.frames()) == 1 + 1 + len(golden(COUNT)) + 1024 + 4


def test_golden_frames_of_a_request_and_its_answer(bus: InterruptChip, socket: TcpSocket) -> None:
    """The step of a dialogue that counts: four exchanges, 14 frames beside the data."""
    socket.connect(PEER, PORT, timeout_s=1)
    bus.peer_sends(b"OK")
    socket.receive(100, timeout_s=1)
    bus.forget_frames()

    def answer(number: int) -> None:
        bus.do_send(number)
        bus.clock.at(0.1, lambda: bus.peer_sends(b"HI"))

    bus.on[Command.SEND] = answer
    socket.send_all(b"ABC", timeout_s=1)
    assert socket.receive(100, timeout_s=1) == b"HI"
    settle = ["f0040210"]  # SEND_OK is cleared, else /INT would stay low
    send = golden(SEND.replace("f00424ff f0042501", "f0042400 f0042501").replace("f0040211", "f0040210"))
    take = golden(TAKE.replace("0f600000 0f600100", "0f600200 0f600300"))
    assert bus.frames() == [*send, *settle, *golden(COUNT), *take]
    assert len(bus.exchanges) == 4
    assert len(bus.frames()) - len(b"ABC" + b"HI") == 14


def test_golden_frames_of_close(bus: InterruptChip, socket: TcpSocket) -> None:
    socket.connect(PEER, PORT, timeout_s=1)
    bus.forget_frames()
    socket.close()
    assert bus.frames() == golden(DISCON, CLOSE)
    assert len(bus.exchanges) == 3


@pytest.mark.parametrize(("mail", "most"), [(1024, 1.07), (102_400, 1.002)])
def test_what_a_mail_costs_on_the_wire(bus: InterruptChip, socket: TcpSocket, mail: int, most: float) -> None:
    payload = carry_mail(bus, socket, mail)
    assert len(bus.exchanges) <= 40
    assert len(bus.frames()) / payload <= most


def test_waiting_for_an_answer_costs_two_looks_a_second(bus: InterruptChip, socket: TcpSocket) -> None:
    socket.connect(PEER, PORT, timeout_s=1)
    bus.clock.at(60.0, lambda: bus.peer_sends(b"250 at last\r\n"))
    bus.forget_frames()
    assert socket.receive(100, timeout_s=600) == b"250 at last\r\n"
    assert len(bus.exchanges) <= 125


def test_sn_ir_seen_is_cleared_by_writing_ones_and_nothing_else(bus: InterruptChip, socket: TcpSocket) -> None:
    socket.connect(PEER, PORT, timeout_s=1)
    bus.peer_ends()
    assert socket.receive(10, timeout_s=1) == b""
    socket.close()
    cleared = [int(frame[6:], 16) for frame in bus.frames() if frame.startswith("f00402")]
    con, discon, recv = SocketInterrupt.CON, SocketInterrupt.DISCON, SocketInterrupt.RECV
    assert cleared == [0xFF, con, recv, discon, 0xFF]
