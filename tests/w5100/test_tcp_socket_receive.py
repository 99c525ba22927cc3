"""Receiving: the pitfalls of the silicon, on a chip that does exactly what the test says."""

from __future__ import annotations

import pytest

from plugin.w5100 import (
    ChipLost,
    ConnectionLost,
    PeerTimeout,
    SocketTimeout,
)
from plugin.w5100 import registers as reg
from plugin.w5100.registers import Command, SocketInterrupt, Status
from tests.w5100.scripted import (
    ScriptedChip,
    connected,
    ready,
)


def test_the_last_bytes_before_a_fin_are_kept(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.peer_sends(b"221 bye\r\n")
    bus.peer_ends()
    assert socket.receive(4, timeout_s=1) == b"221 "
    assert socket.receive(100, timeout_s=1) == b"bye\r\n"
    assert socket.receive(100, timeout_s=1) == b""
    assert socket.receive(100, timeout_s=1) == b""


def test_data_and_fin_between_the_status_and_the_counter_are_kept(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.peer_sends(b"221 bye\r\n")
    bus.peer_ends()
    bus.script(reg.Sn_SR, [Status.ESTABLISHED])
    assert socket.receive(100, timeout_s=1) == b"221 bye\r\n"
    assert socket.receive(100, timeout_s=1) == b""


def test_a_fin_between_status_and_sn_ir_is_seen_without_another_interrupt(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.clock.at(1.0, bus.peer_ends)
    bus.clock.at(1.0, lambda: bus.script(reg.Sn_SR, [Status.ESTABLISHED]))
    assert socket.receive(100, timeout_s=10) == b""
    assert bus.clock.now < 1001.1


def test_the_last_bytes_before_a_rst_are_kept(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.peer_sends(b"550 no")
    bus.peer_resets()
    assert socket.receive(3, timeout_s=1) == b"550"
    assert socket.receive(100, timeout_s=1) == b" no"
    with pytest.raises(ConnectionLost, match=r"192\.0\.2\.25:25: connection reset by the peer"):
        socket.receive(100, timeout_s=1)
    assert (0, Command.CLOSE) not in bus.commands


def test_the_end_stays_the_end_when_the_peer_resets_after_it(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.peer_ends()
    assert socket.receive(100, timeout_s=1) == b""
    bus.peer_resets()
    assert socket.receive(100, timeout_s=1) == b""


def test_what_is_not_asked_for_yet_is_kept_and_costs_no_second_look(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.peer_sends(b"abcdef")
    assert socket.receive(2, timeout_s=5) == b"ab"
    bus.forget_frames()
    assert [socket.receive(2, timeout_s=5) for _ in range(2)] == [b"cd", b"ef"]
    assert bus.exchanges == []


@pytest.mark.parametrize(("size", "given"), [(1023, 0), (1024, 1), (8192, 1)])
def test_recv_is_given_once_an_eighth_of_the_ring_is_read(bus: ScriptedChip, size: int, given: int) -> None:
    socket = connected(bus)
    bus.peer_sends(bytes(size))
    assert socket.receive(8192, timeout_s=1) == bytes(size)
    assert bus.commands.count((0, Command.RECV)) == given
    bus.peer_sends(b"next")
    assert socket.receive(8192, timeout_s=1) == b"next"


def test_replies_that_were_never_released_are_not_read_again_after_a_rst(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.peer_sends(b"220 ready\r\n")
    assert socket.receive(100, timeout_s=1) == b"220 ready\r\n"
    bus.peer_sends(b"421 no\r\n")
    bus.peer_resets()
    assert socket.receive(100, timeout_s=1) == b"421 no\r\n"
    with pytest.raises(ConnectionLost):
        socket.receive(100, timeout_s=1)


def test_without_time_only_what_is_there_is_received(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.clock.slept.clear()
    bus.forget_frames()
    with pytest.raises(SocketTimeout):
        socket.receive(100, timeout_s=0)
    assert bus.frames() == ["0f040300", "0f040200"]  # Sn_SR, Sn_IR: one look
    bus.peer_sends(b"250 ok\r\n")
    assert socket.receive(4, timeout_s=0) == b"250 "
    bus.forget_frames()
    assert socket.receive(100, timeout_s=0) == b"ok\r\n"
    assert bus.exchanges == []
    with pytest.raises(SocketTimeout):
        socket.receive(100, timeout_s=0)
    assert bus.clock.slept == []


def test_without_time_the_end_and_a_rst_are_told_after_the_data(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.peer_sends(b"221 bye\r\n")
    bus.peer_ends()
    assert socket.receive(100, timeout_s=0) == b"221 bye\r\n"
    assert socket.receive(100, timeout_s=0) == b""
    socket.close()
    bus.clock.slept.clear()
    socket = connected(bus)
    bus.peer_sends(b"421 no\r\n")
    bus.peer_resets()
    assert socket.receive(100, timeout_s=0) == b"421 no\r\n"
    with pytest.raises(ConnectionLost, match="reset by the peer"):
        socket.receive(100, timeout_s=0)


@pytest.mark.parametrize(("lanes", "windows"), [(1, [8192]), (2, [4096, 4096]), (3, [4096, 2048, 2048])])
def test_the_window_is_the_rx_ring(bus: ScriptedChip, lanes: int, windows: list[int]) -> None:
    chip = ready(bus, lanes)
    assert [chip.tcp_socket().window_bytes for _ in range(lanes)] == windows


def test_data_that_comes_between_counting_and_recv_raises_its_own_interrupt(bus: ScriptedChip) -> None:
    socket = connected(bus)

    def recv(number: int) -> None:
        bus.peer_sends(b"later")
        bus.do_recv(number)
        bus.on.clear()

    bus.on[Command.RECV] = recv
    bus.peer_sends(b"first" * 300)
    assert socket.receive(2000, timeout_s=5) == b"first" * 300
    assert socket.receive(100, timeout_s=5) == b"later"
    assert bus.clock.now < 1000.1


def test_nothing_received_is_a_socket_timeout_at_the_deadline(bus: ScriptedChip) -> None:
    socket = connected(bus)
    with pytest.raises(SocketTimeout, match=r"192\.0\.2\.25:25: nothing received within 2 s"):
        socket.receive(100, timeout_s=2)
    assert 1002 <= bus.clock.now < 1002.1
    bus.peer_sends(b"late")
    assert socket.receive(100, timeout_s=0) == b"late"


def test_a_timeout_of_the_chip_while_receiving_is_a_peer_timeout(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.clock.at(0.5, bus.gives_up)
    with pytest.raises(PeerTimeout):
        socket.receive(100, timeout_s=60)
    assert bus.clock.now < 1001


def test_a_chip_that_resets_itself_while_we_wait_is_found_although_it_falls_silent(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.clock.at(0.2, bus.reset)
    with pytest.raises(ChipLost, match="RMSR and TMSR read 55 55"):
        socket.receive(100, timeout_s=60)
    assert bus.clock.now < 1001


def test_sn_ir_bits_may_come_in_any_order(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.on[Command.SEND] = bus.transmit
    bus.clock.at(0.01, lambda: bus.event(SocketInterrupt.RECV))  # before there is any data
    bus.clock.at(0.05, lambda: bus.event(SocketInterrupt.SEND_OK))
    socket.send_all(b"x", timeout_s=1)
    bus.clock.at(0.02, lambda: bus.event(SocketInterrupt.DISCON))  # before the status follows
    bus.clock.at(0.04, lambda: bus.peer_sends(b"bye"))
    bus.clock.at(0.06, lambda: bus.status(Status.CLOSE_WAIT))
    assert socket.receive(10, timeout_s=1) == b"bye"
    assert socket.receive(10, timeout_s=1) == b""
