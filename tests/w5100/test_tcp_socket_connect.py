"""Connecting: the pitfalls of the silicon, on a chip that does exactly what the test says."""

from __future__ import annotations

import pytest

from plugin.w5100 import (
    ChipLost,
    ChipTimeout,
    ConnectionLost,
    ConnectRefused,
    PeerTimeout,
    SocketTimeout,
    W5100Error,
)
from plugin.w5100 import registers as reg
from plugin.w5100.registers import Command, SocketInterrupt, Status
from plugin.w5100.verdict import connecting, ended
from tests.w5100.scripted import (
    PEER,
    PORT,
    ScriptedChip,
    connected,
    ready,
    silently,
)


def test_no_delayed_ack_is_asked_for(bus: ScriptedChip) -> None:
    connected(bus)
    assert bus.memory[0x0400] == 0x21


def test_connect_passes_through_arp_and_synsent(bus: ScriptedChip) -> None:
    def slowly(number: int) -> None:
        bus.status(Status.ARP)
        bus.clock.at(0.3, lambda: bus.status(Status.SYNSENT))
        bus.clock.at(0.6, bus.establish)

    bus.on[Command.CONNECT] = slowly
    socket = connected(bus)
    assert socket.status == "ESTABLISHED"
    assert 1000.6 <= bus.clock.now < 1000.7


@pytest.mark.parametrize("status", [0x01, 0x11, 0x15, 0x16, 0x18, 0x1A, 0x1B, 0x1D, 0x21, 0x31, 0x14, 0x99])
def test_a_passing_or_unknown_status_is_neither_open_nor_closed(status: int) -> None:
    for bits in range(32):
        events = SocketInterrupt(bits)
        assert connecting(status, events) == "wait"
        assert ended(status, events, seen_end=False) == "no"


def test_a_fin_that_came_before_established_was_seen_is_an_open_connection(bus: ScriptedChip) -> None:
    def at_once(number: int) -> None:
        bus.establish()
        bus.peer_sends(b"421 go away\r\n")
        bus.peer_ends()

    bus.on[Command.CONNECT] = at_once
    socket = connected(bus)
    assert socket.receive(100, timeout_s=1) == b"421 go away\r\n"
    assert socket.receive(100, timeout_s=1) == b""


def test_a_reset_that_came_before_established_was_seen_loses_no_data(bus: ScriptedChip) -> None:
    def at_once(number: int) -> None:
        bus.establish()
        bus.peer_sends(b"554 no\r\n")
        bus.peer_resets()

    bus.on[Command.CONNECT] = at_once
    socket = connected(bus)
    assert socket.receive(100, timeout_s=1) == b"554 no\r\n"
    with pytest.raises(ConnectionLost, match=r"192\.0\.2\.25:25: connection reset"):
        socket.receive(100, timeout_s=1)


def test_a_rst_to_the_syn_is_a_refused_connection(bus: ScriptedChip) -> None:
    bus.on[Command.CONNECT] = bus.peer_resets
    with pytest.raises(ConnectRefused, match=r"192\.0\.2\.25:25"):
        connected(bus)
    assert bus.commands[-1] == (0, Command.CLOSE)


def test_the_chip_giving_up_is_a_peer_timeout_that_says_at_what(bus: ScriptedChip) -> None:
    def unanswered(number: int) -> None:
        bus.status(Status.ARP)
        bus.clock.at(1.8, bus.gives_up)

    bus.on[Command.CONNECT] = unanswered
    with pytest.raises(PeerTimeout, match=r"192\.0\.2\.25:25: no answer to ARP"):
        connected(bus)
    assert 1001.8 <= bus.clock.now < 1001.9
    assert bus.commands[-1] == (0, Command.CLOSE)


def test_connect_has_its_own_deadline_and_closes_when_it_passes(bus: ScriptedChip) -> None:
    bus.on[Command.CONNECT] = lambda number: bus.status(Status.SYNSENT)
    socket = ready(bus).tcp_socket()
    with pytest.raises(SocketTimeout, match=r"no answer to (ARP or )?SYN.* within 3 s"):
        socket.connect(PEER, PORT, timeout_s=3)
    assert 1003 <= bus.clock.now < 1003.2
    assert bus.commands[-1] == (0, Command.CLOSE)
    assert socket.status == "CLOSED"


def test_a_failed_connect_can_be_tried_again_from_another_source_port(bus: ScriptedChip) -> None:
    socket = ready(bus).tcp_socket()
    bus.on[Command.CONNECT] = bus.peer_resets
    ports = []
    for _ in range(2):
        with pytest.raises(ConnectRefused):
            socket.connect(PEER, PORT, timeout_s=1)
        ports.append(bus.get16(0, reg.Sn_PORT))
    bus.on.clear()
    socket.connect(PEER, PORT, timeout_s=1)
    ports.append(bus.get16(0, reg.Sn_PORT))
    assert len(set(ports)) == 3
    assert min(ports) >= 49152


def test_what_sn_ir_held_before_open_means_nothing(bus: ScriptedChip) -> None:
    chip = ready(bus)
    bus.event(0x1F)
    socket = chip.tcp_socket()
    bus.on[Command.CONNECT] = bus.peer_resets
    with pytest.raises(ConnectRefused):
        socket.connect(PEER, PORT, timeout_s=1)


def test_a_hardware_socket_left_open_is_closed_before_it_opens(bus: ScriptedChip) -> None:
    chip = ready(bus)
    bus.status(Status.ESTABLISHED)

    def only_from_closed(number: int) -> None:
        if bus.memory[0x0403] == Status.CLOSED:
            bus.do_open(number)

    bus.on[Command.OPEN] = only_from_closed
    socket = chip.tcp_socket()
    socket.connect(PEER, PORT, timeout_s=1)
    assert [command for _, command in bus.commands] == [
        Command.OPEN,
        Command.CLOSE,
        Command.OPEN,
        Command.CONNECT,
    ]


def test_an_open_that_is_taken_late_is_waited_for(bus: ScriptedChip) -> None:
    chip = ready(bus)
    bus.on[Command.OPEN] = lambda number: bus.clock.at(0.15, lambda: bus.do_open(number))
    chip.tcp_socket().connect(PEER, PORT, timeout_s=1)
    assert bus.commands == [(0, Command.OPEN), (0, Command.CONNECT)]


def test_a_hardware_socket_that_does_not_reach_init_is_not_taken_for_open(bus: ScriptedChip) -> None:
    chip = ready(bus)
    bus.on[Command.OPEN] = silently
    with pytest.raises(ChipTimeout, match="CLOSED instead of INIT"):
        chip.tcp_socket().connect(PEER, PORT, timeout_s=1)
    assert (0, Command.CONNECT) not in bus.commands


def test_a_chip_that_has_reset_itself_is_found_before_connecting(bus: ScriptedChip) -> None:
    socket = ready(bus).tcp_socket()
    bus.reset()
    with pytest.raises(ChipLost, match="reset itself"):
        socket.connect(PEER, PORT, timeout_s=1)
    assert (0, Command.CONNECT) not in bus.commands


@pytest.mark.parametrize("address", ["0.0.0.0", "255.255.255.255", "224.0.0.1"])
def test_what_no_host_can_have_is_no_peer(address: str) -> None:
    bus = ScriptedChip()
    socket = ready(bus).tcp_socket()
    with pytest.raises(W5100Error, match="no host"):
        socket.connect(address, PORT, timeout_s=1)
    assert bus.commands == []


@pytest.mark.parametrize(("address", "port"), [("mail.example", 25), ("192.0.2.1", 0), ("192.0.2.1", 65536)])
def test_a_peer_is_an_ipv4_address_and_a_port(address: str, port: int) -> None:
    with pytest.raises(ValueError, match=r"mail|port"):
        ready(ScriptedChip()).tcp_socket().connect(address, port, timeout_s=1)


def test_a_connected_or_closed_socket_does_not_connect(bus: ScriptedChip) -> None:
    socket = connected(bus)
    with pytest.raises(W5100Error, match="in use"):
        socket.connect(PEER, PORT, timeout_s=1)
    socket.close()
    with pytest.raises(W5100Error, match="closed"):
        socket.connect(PEER, PORT, timeout_s=1)
    for use in (lambda: socket.send_all(b"x", timeout_s=1), lambda: socket.receive(1, timeout_s=1)):
        with pytest.raises(ConnectionLost, match="not connected"):
            use()
