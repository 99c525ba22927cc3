"""Closing: the pitfalls of the silicon, on a chip that does exactly what the test says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from plugin.w5100 import ChipTimeout, TcpSocket
from plugin.w5100 import registers as reg
from plugin.w5100.registers import Command, Status
from tests.w5100.scripted import (
    PEER,
    PORT,
    ScriptedChip,
    connected,
    ready,
    silently,
    unacknowledged,
)


def test_close_sends_fin_then_closes_and_clears_sn_ir(bus: ScriptedChip) -> None:
    socket = connected(bus)
    socket.send_all(b"QUIT\r\n", timeout_s=1)
    socket.close()
    assert [command for _, command in bus.commands][-2:] == [Command.DISCON, Command.CLOSE]
    assert bus.memory[0x0402] == 0
    socket.close()
    assert len(bus.commands) == 5


def test_discon_waits_until_all_is_acknowledged(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.on[Command.SEND] = unacknowledged(bus)
    socket.send_all(b"QUIT\r\n", timeout_s=1)
    bus.clock.at(0.4, lambda: bus.set16(0, reg.Sn_TX_FSR, 8192))
    when: list[float] = []

    def discon(number: int) -> None:
        when.append(bus.clock.now)
        bus.do_discon(number)

    bus.on[Command.DISCON] = discon
    socket.close()
    assert len(when) == 1
    assert when[0] >= 1000.4


def test_no_discon_while_a_send_is_unfinished_although_all_seems_free(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.on[Command.SEND] = silently  # not even taken over: Sn_TX_FSR says that the ring is free
    with pytest.raises(ChipTimeout):
        socket.send_all(b"QUIT\r\n", timeout_s=0.1)
    socket.close(timeout_s=0.2)
    assert (0, Command.DISCON) not in bus.commands
    assert bus.commands[-1] == (0, Command.CLOSE)


def test_what_is_never_acknowledged_is_closed_without_fin(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.on[Command.SEND] = unacknowledged(bus)
    socket.send_all(b"QUIT\r\n", timeout_s=1)
    socket.close(timeout_s=0.5)
    assert (0, Command.DISCON) not in bus.commands
    assert bus.commands[-1] == (0, Command.CLOSE)
    assert 1000.5 <= bus.clock.now < 1000.6


def test_a_peer_that_never_closes_is_waited_for_no_longer_than_asked(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.on[Command.DISCON] = lambda number: bus.status(Status.FIN_WAIT)
    socket.close(timeout_s=0.7)
    assert bus.commands[-1] == (0, Command.CLOSE)
    assert 1000.7 <= bus.clock.now < 1000.8


def test_close_after_the_peers_fin_passes_through_last_ack(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.peer_ends()

    def discon(number: int) -> None:
        bus.status(Status.LAST_ACK)
        bus.clock.at(0.02, lambda: bus.do_discon(0))

    bus.on[Command.DISCON] = discon
    socket.close()
    assert socket.status == "CLOSED"
    assert 1000.02 <= bus.clock.now < 1000.05


def test_close_of_a_connection_that_is_gone_gives_no_discon(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.peer_resets()
    socket.close()
    assert [command for _, command in bus.commands] == [Command.OPEN, Command.CONNECT, Command.CLOSE]


def test_close_without_connection_does_not_touch_the_bus(bus: ScriptedChip) -> None:
    socket = ready(bus).tcp_socket()
    bus.forget_frames()
    socket.close()
    assert bus.exchanges == []


@pytest.mark.parametrize("command", [Command.DISCON, Command.CLOSE])
def test_close_never_raises_and_releases_the_socket(bus: ScriptedChip, command: Command) -> None:
    chip = ready(bus)
    socket = chip.tcp_socket()
    socket.connect(PEER, PORT, timeout_s=1)
    bus.untaken.add(command)
    socket.close()
    assert bus.clock.now < 1002
    bus.untaken.clear()
    bus.memory[0x0401] = 0
    again = chip.tcp_socket()
    again.connect(PEER, PORT, timeout_s=1)
    assert again.number == 0


def sent_and_silent(bus: ScriptedChip, socket: TcpSocket) -> None:
    """The peer never answers our FIN."""
    bus.on[Command.DISCON] = lambda number: bus.status(Status.FIN_WAIT, number)


def sent_and_unacknowledged(bus: ScriptedChip, socket: TcpSocket) -> None:
    """The peer never acknowledges what was transmitted."""
    bus.on[Command.SEND] = unacknowledged(bus)
    socket.send_all(bytes(5000), timeout_s=1)


def torn(bus: ScriptedChip, socket: TcpSocket) -> None:
    """The last SEND never got its SEND_OK."""
    bus.on[Command.SEND] = silently
    with pytest.raises(ChipTimeout):
        socket.send_all(b"QUIT\r\n", timeout_s=0.1)


@pytest.mark.parametrize("trouble", [sent_and_silent, sent_and_unacknowledged, torn])
@pytest.mark.parametrize("timeout_s", [0.0, 0.05, 3.0])
def test_close_takes_its_time_and_no_more(
    bus: ScriptedChip, trouble: Callable[[ScriptedChip, TcpSocket], None], timeout_s: float
) -> None:
    socket = connected(bus)
    trouble(bus, socket)
    before = bus.clock.now
    socket.close(timeout_s=timeout_s)
    assert bus.clock.now - before == pytest.approx(timeout_s, abs=0.001)
    assert bus.commands[-1] == (0, Command.CLOSE)


def test_close_survives_a_dead_bus_of_any_kind(bus: ScriptedChip) -> None:
    socket = connected(bus)

    def dead(out: bytes) -> bytes:
        raise RuntimeError("unplugged")

    bus.corrupt = dead
    socket.close()
