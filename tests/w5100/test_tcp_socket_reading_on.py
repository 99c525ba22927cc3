"""A send that waits reads on: what the peer says meanwhile is kept, in order and in bounds, and so is its end."""

from __future__ import annotations

import contextlib
import socket as kernel
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from plugin.w5100 import ConnectionLost, PeerTimeout, TcpSocket
from plugin.w5100 import registers as reg
from plugin.w5100.receiving import INBOX_BYTES
from plugin.w5100.registers import Command, SocketInterrupt
from tests.w5100.emulated import listening, port_of
from tests.w5100.foreign_chip import Temper
from tests.w5100.scripted import InterruptChip, ScriptedChip, connected
from tests.w5100.test_contract import KINDS, Place, pattern
from tests.w5100.test_foreign_chip import Script, Steps, exactly, receive, send, tempers, world

RING_BYTES = 8192


def slow_send(bus: ScriptedChip, duration_s: float) -> None:
    """Let SEND_OK come ``duration_s`` after SEND."""

    def begin(number: int) -> None:
        bus.transmit(number)
        bus.clock.at(duration_s, lambda: bus.event(SocketInterrupt.SEND_OK, number))

    bus.on[Command.SEND] = begin


def taken(socket: TcpSocket) -> bytes:
    """Return all that is there."""
    data = b""
    with contextlib.suppress(TimeoutError):
        while piece := socket.receive(5000, timeout_s=0):
            data += piece
    return data


# --- Nothing for nothing --------------------------------------------------------------------------------------


def test_a_send_whose_first_wait_brings_send_ok_reads_nothing_else() -> None:
    bus = InterruptChip()
    socket = connected(bus)

    def begin(number: int) -> None:
        bus.transmit(number)
        bus.clock.at(0.01, lambda: bus.peer_sends(b"250 ok\r\n"))
        bus.clock.at(0.01, lambda: bus.event(SocketInterrupt.SEND_OK))

    bus.on[Command.SEND] = begin
    with pytest.raises(TimeoutError):
        socket.receive(1, timeout_s=0.1)  # so that IMR is set
    bus.forget_frames()
    socket.send_all(b"NOOP\r\n", timeout_s=1)
    assert bus.frames()[-2:] == ["0f040300", "0f040200"]  # the look after the wait
    assert len(bus.frames()) == 6 + len(b"NOOP\r\n") + 2


def test_a_long_wait_in_which_nothing_comes_counts_twice_a_second(bus: ScriptedChip) -> None:
    socket = connected(bus)
    slow_send(bus, 10)
    bus.forget_frames()
    socket.send_all(b"x", timeout_s=20)
    counts = bus.frames().count("0f042600") // 2  # Sn_RX_RSR
    assert 15 <= counts <= 20


# --- Order and bound ------------------------------------------------------------------------------------------


def test_what_came_while_sending_comes_before_what_came_later(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.peer_sends(b"0")
    assert socket.receive(1, timeout_s=1) == b"0"
    bus.peer_sends(b"1")  # in the ring before the send
    slow_send(bus, 0.5)
    bus.clock.at(0.1, lambda: bus.peer_sends(b"2"))
    bus.clock.at(0.3, lambda: bus.peer_sends(b"3"))
    socket.send_all(b"NOOP\r\n", timeout_s=1)
    bus.peer_sends(b"4")  # in the ring after it
    assert [socket.receive(1, timeout_s=1) for _ in range(4)] == [b"1", b"2", b"3", b"4"]


def test_a_full_ring_is_freed_while_a_send_waits(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.peer_sends(bytes(1000))
    socket.receive(1000, timeout_s=1)  # read, and too little for RECV
    bus.peer_sends(bytes(bus.window()))
    slow_send(bus, 0.1)
    socket.send_all(b"x", timeout_s=1)
    assert bus.window() == RING_BYTES


def test_the_inbox_has_a_bound_and_leaves_the_rest_in_the_ring(bus: ScriptedChip) -> None:
    socket = connected(bus)
    said = b""

    def talk() -> None:
        nonlocal said
        more = pattern(len(said) + bus.window())[len(said) :]
        if more:
            bus.peer_sends(more)
        said += more
        bus.clock.at(0.05, talk)

    talk()
    slow_send(bus, 5)
    socket.send_all(b"x", timeout_s=10)
    assert len(said) == INBOX_BYTES + RING_BYTES
    assert taken(socket)[: len(said)] == said


# --- The end --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when_s", [0.01, 0.02, 0.1])
def test_a_fin_while_sending_is_told_after_all_data(bus: ScriptedChip, when_s: float) -> None:
    socket = connected(bus)
    slow_send(bus, 0.1)
    bus.clock.at(0.01, lambda: bus.peer_sends(b"250 ok\r\n"))
    bus.clock.at(when_s, lambda: bus.peer_sends(b"421 bye\r\n"))
    bus.clock.at(when_s, bus.peer_ends)
    socket.send_all(b"NOOP\r\n", timeout_s=1)
    assert exactly(socket, 17) == b"250 ok\r\n421 bye\r\n"
    assert [socket.receive(100, timeout_s=1) for _ in range(2)] == [b"", b""]


@pytest.mark.parametrize(
    ("end", "error"), [("peer_resets", ConnectionLost), ("gives_up", PeerTimeout)], ids=["rst", "timeout"]
)
def test_a_send_to_a_peer_that_is_gone_fails_and_its_last_words_stay(
    bus: ScriptedChip, end: str, error: type[Exception]
) -> None:
    socket = connected(bus)
    bus.on[Command.SEND] = bus.transmit
    bus.clock.at(0.02, lambda: bus.peer_sends(b"250 ok\r\n"))
    bus.clock.at(0.1, lambda: bus.peer_sends(b"552 too big\r\n"))
    bus.clock.at(0.1, getattr(bus, end))
    with pytest.raises(error):
        socket.send_all(bytes(20_000), timeout_s=10)
    assert bus.clock.now < 1000.2
    assert exactly(socket, 21) == b"250 ok\r\n552 too big\r\n"
    for _ in range(2):
        with pytest.raises(error):
            socket.receive(100, timeout_s=1)


def test_a_ring_that_cannot_be_freed_while_sending_breaks_the_send(bus: ScriptedChip) -> None:
    socket = connected(bus)
    slow_send(bus, 1.0)
    bus.untaken.add(Command.RECV)
    bus.clock.at(0.1, lambda: bus.peer_sends(b"250 ok\r\n"))
    with pytest.raises(TimeoutError, match="does not take RECV"):
        socket.send_all(b"x", timeout_s=5)
    with pytest.raises(ConnectionLost, match="broke off"):
        socket.receive(100, timeout_s=1)
    with pytest.raises(ConnectionLost, match="broke off"):
        socket.send_all(b"x", timeout_s=1)


# --- Peers that read only while they are read -----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_peer_with_small_buffers_that_answers_as_it_reads_does_not_deadlock(kind: str) -> None:
    """RFC 2920, section 3.1: many commands in one group, and a server that waits until its replies are taken."""
    commands = pattern(85_000)  # more than rings and kernels hold in both directions, less than with the inbox
    place = Place(kind)
    with (
        contextlib.closing(place.wire),
        listening(receive_buffer_bytes=4096) as listener,
        ThreadPoolExecutor(1) as pool,
    ):
        listener.setsockopt(kernel.SOL_SOCKET, kernel.SO_SNDBUF, 4096)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(30)
                while data := connection.recv(200):
                    connection.sendall(data)

        served = pool.submit(serve)
        with contextlib.closing(place.chip(lanes=3).tcp_socket()) as socket:
            socket.connect(place.peer, port_of(listener), timeout_s=5)
            socket.send_all(commands, timeout_s=10)
            assert exactly(socket, len(commands)) == commands
        served.result()


def answering(step: int) -> Script:
    """Give back every ``step`` octets as they come."""

    def script(connection: kernel.socket) -> Steps:
        with connection:
            while data := (yield from receive(connection, step)):
                yield from send(connection, data)

    return script


@tempers(24)
def test_answers_that_come_all_through_a_long_send_are_kept_in_order(temper: Temper) -> None:
    commands = pattern(30_000)
    with world(temper, lanes=1 + temper.isn % 3) as one:
        socket = one.connect(answering(100))
        socket.send_all(commands, timeout_s=600)
        assert exactly(socket, len(commands), most=5000) == commands
        socket.close()


def last_words(data: bytes, end: Callable[[kernel.socket], None]) -> Script:
    """Read a little, say ``data`` and end."""

    def script(connection: kernel.socket) -> Steps:
        with connection:
            yield from receive(connection, 100)
            yield from send(connection, data)
            end(connection)
            for _ in range(300):
                yield

    return script


@tempers(24)
def test_a_fin_amid_a_send_leaves_the_last_words_readable(temper: Temper) -> None:
    """The peer ends its side and reads no more; the send ends at its deadline, and the reason is there."""
    with world(temper) as one:
        socket = one.connect(
            last_words(b"552 too big\r\n", lambda connection: connection.shutdown(kernel.SHUT_WR))
        )
        with contextlib.suppress(OSError):
            socket.send_all(bytes(20_000), timeout_s=2)
        assert exactly(socket, 13) == b"552 too big\r\n"
        socket.close(timeout_s=0.1)


def test_sn_rx_rsr_is_looked_at_although_no_bit_tells_of_it(bus: ScriptedChip) -> None:
    socket = connected(bus)
    slow_send(bus, 3)

    def silently() -> None:
        bus.peer_sends(bytes(RING_BYTES))
        bus.memory[reg.socket_base(0) + reg.Sn_IR] = 0

    bus.clock.at(0.1, silently)
    socket.send_all(b"x", timeout_s=5)
    assert bus.window() == RING_BYTES
