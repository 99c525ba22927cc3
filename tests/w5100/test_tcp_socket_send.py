"""Sending: the pitfalls of the silicon, on a chip that does exactly what the test says."""

from __future__ import annotations

import pytest

from plugin.w5100 import (
    ChipTimeout,
    ConnectionLost,
    PeerTimeout,
    SocketTimeout,
)
from plugin.w5100 import registers as reg
from plugin.w5100.registers import Command, SocketInterrupt, Status
from plugin.w5100.verdict import portion
from tests.w5100.scripted import (
    ScriptedChip,
    connected,
    silently,
    unacknowledged,
)


def test_more_than_the_ring_holds_goes_in_parts_and_whole(bus: ScriptedChip) -> None:
    socket = connected(bus)
    letter = bytes(n * 7 % 256 for n in range(100_001))
    socket.send_all(letter, timeout_s=10)
    assert bus.sent == letter


@pytest.mark.parametrize(("size", "sends"), [(1, 1), (4097, 1), (8192, 1), (8193, 2)])
def test_what_fits_the_ring_goes_in_one_send(bus: ScriptedChip, size: int, sends: int) -> None:
    socket = connected(bus)
    socket.send_all(bytes(size), timeout_s=10)
    assert bus.commands.count((0, Command.SEND)) == sends
    assert len(bus.sent) == size


def test_sending_waits_for_room_that_acknowledgements_make(bus: ScriptedChip) -> None:
    socket = connected(bus)

    def send(number: int) -> None:
        free = bus.get16(0, reg.Sn_TX_FSR)
        bus.transmit(number, acknowledged=False)
        bus.event(SocketInterrupt.SEND_OK, number)
        bus.clock.at(0.05, lambda: bus.set16(0, reg.Sn_TX_FSR, free))

    bus.on[Command.SEND] = send
    letter = bytes(n * 3 % 256 for n in range(50_000))
    socket.send_all(letter, timeout_s=30)
    assert bus.sent == letter


def test_a_peer_that_takes_no_more_data_is_a_socket_timeout(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.on[Command.SEND] = unacknowledged(bus)
    with pytest.raises(SocketTimeout, match=r"192\.0\.2\.25:25: not all could be sent within 2 s"):
        socket.send_all(bytes(10_000), timeout_s=2)
    assert 1002 <= bus.clock.now < 1002.1
    assert len(bus.sent) == 8192


def test_a_bus_too_slow_for_the_deadline_is_a_socket_timeout() -> None:
    class Slow(ScriptedChip):
        def exchange(self, frames: bytes) -> bytes:
            self.clock.sleep(len(frames) * 8 / 1e6)
            return super().exchange(frames)

    bus = Slow()
    socket = connected(bus)
    started = bus.clock.now
    with pytest.raises((SocketTimeout, ChipTimeout), match="within 1 s"):
        socket.send_all(bytes(100_000), timeout_s=1)
    assert 1 <= bus.clock.now - started < 1.3


@pytest.mark.parametrize(
    ("left", "room", "staged", "most", "copied"),
    [
        (100, 8192, 0, 8192, 100),  # all there is
        (9000, 8192, 0, 4096, 4096),  # no more than one SEND should have
        (9000, 8192, 1000, 4096, 3096),  # what is staged counts
        (9000, 2047, 0, 4096, 0),  # a trickle
        (9000, 2048, 0, 4096, 2048),  # a quarter of the ring
        (300, 300, 0, 4096, 300),  # little, but all that is wanted
        (300, 299, 0, 4096, 0),
        (9000, 4000, 4096, 4096, 0),  # a whole portion is staged
        (0, 8192, 0, 8192, 0),
    ],
)
def test_how_much_is_copied(left: int, room: int, staged: int, most: int, copied: int) -> None:
    assert portion(left=left, room=room, staged=staged, ring_bytes=8192, most=most) == copied


def test_a_peer_that_acknowledges_by_crumbs_is_not_sent_crumbs(bus: ScriptedChip) -> None:
    socket = connected(bus)

    def crumb() -> None:
        bus.set16(0, reg.Sn_TX_FSR, min(bus.get16(0, reg.Sn_TX_FSR) + 100, 8192))
        bus.clock.at(0.01, crumb)

    bus.on[Command.SEND] = unacknowledged(bus)
    crumb()
    letter = bytes(n * 5 % 256 for n in range(30_000))
    socket.send_all(letter, timeout_s=30)
    assert bus.sent == letter
    assert bus.commands.count((0, Command.SEND)) <= 2 + (30_000 - 8192) // 2048 + 1


def test_one_send_at_a_time_each_after_the_send_ok_before(bus: ScriptedChip) -> None:
    socket = connected(bus)
    running: list[int] = []

    def send(number: int) -> None:
        assert not running, "SEND while the one before is unfinished"
        assert not bus.memory[0x0402] & SocketInterrupt.SEND_OK, "a stale SEND_OK was left"
        running.append(number)
        bus.transmit(number)

        def done() -> None:
            running.clear()
            bus.event(SocketInterrupt.SEND_OK)

        bus.clock.at(0.01, done)

    bus.on[Command.SEND] = send
    letter = bytes(n * 11 % 256 for n in range(40_000))
    socket.send_all(letter, timeout_s=10)
    assert bus.sent == letter
    assert not running


def test_the_ring_is_filled_while_a_send_is_running(bus: ScriptedChip) -> None:
    socket = connected(bus)
    during: list[int] = []

    def send(number: int) -> None:
        start = len(bus.exchanges)
        bus.transmit(number)

        def done() -> None:
            during.append(sum(len(one) // 4 for one in bus.exchanges[start:]))
            bus.event(SocketInterrupt.SEND_OK)

        bus.clock.at(0.01, done)

    bus.on[Command.SEND] = send
    socket.send_all(bytes(20_000), timeout_s=10)
    assert during[0] >= 4096


def test_a_tx_fsr_that_lags_behind_send_does_not_let_running_data_be_overwritten(bus: ScriptedChip) -> None:
    socket = connected(bus)

    def send(number: int) -> None:  # Sn_TX_FSR still says that all is free; the ring is read only later
        def later() -> None:
            bus.do_send(0)

        bus.clock.at(0.01, later)

    bus.on[Command.SEND] = send
    letter = bytes(n * 13 % 251 for n in range(50_000))
    socket.send_all(letter, timeout_s=10)
    assert bus.sent == letter


def test_a_fin_seen_beside_send_ok_is_not_cleared_and_slept_over(bus: ScriptedChip) -> None:
    socket = connected(bus)

    def send(number: int) -> None:
        bus.do_send(number)
        bus.script(reg.Sn_SR, [Status.ESTABLISHED])  # read just before the FIN came in
        bus.peer_ends()

    bus.on[Command.SEND] = send
    socket.send_all(b"QUIT\r\n", timeout_s=1)
    assert socket.receive(10, timeout_s=5) == b""
    assert bus.clock.now < 1000.1


def test_a_stale_send_ok_is_not_taken_for_the_next_ones(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.event(SocketInterrupt.SEND_OK)
    bus.on[Command.SEND] = silently
    with pytest.raises(ChipTimeout, match="SEND_OK"):
        socket.send_all(b"x", timeout_s=1)


def test_a_send_ok_that_never_comes_is_a_chip_timeout(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.on[Command.SEND] = silently
    with pytest.raises(ChipTimeout, match=r"192\.0\.2\.25:25: SEND of 5 octets without SEND_OK within 2 s"):
        socket.send_all(b"QUIT\r", timeout_s=2)
    assert 1002 <= bus.clock.now < 1002.1
    with pytest.raises(ConnectionLost, match="broke off"):
        socket.send_all(b"more", timeout_s=2)
    socket.close()
    assert bus.commands[-1] == (0, Command.CLOSE)


@pytest.mark.parametrize("status", [Status.LISTEN, Status.FIN_WAIT, 0x99])
def test_an_odd_status_without_send_ok_ends_at_the_deadline(bus: ScriptedChip, status: int) -> None:
    socket = connected(bus)
    bus.on[Command.SEND] = lambda number: bus.status(status)
    with pytest.raises(ChipTimeout, match=reg.status_name(status)):
        socket.send_all(b"x", timeout_s=1)
    assert 1001 <= bus.clock.now < 1001.1


def test_a_timeout_while_sending_is_a_peer_timeout(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.on[Command.SEND] = lambda number: bus.clock.at(1.0, bus.gives_up)
    with pytest.raises(PeerTimeout, match=r"192\.0\.2\.25:25: no acknowledgement"):
        socket.send_all(b"x", timeout_s=60)
    assert bus.clock.now < 1001.1


def test_a_rst_while_sending_is_a_lost_connection_whose_last_words_can_be_read(bus: ScriptedChip) -> None:
    socket = connected(bus)

    def send(number: int) -> None:
        bus.peer_sends(b"421 shutting down\r\n")
        bus.peer_resets()

    bus.on[Command.SEND] = send
    with pytest.raises(ConnectionLost, match="reset by the peer"):
        socket.send_all(b"MAIL", timeout_s=1)
    assert socket.receive(100, timeout_s=1) == b"421 shutting down\r\n"
    with pytest.raises(ConnectionLost):
        socket.receive(100, timeout_s=1)


def test_a_rst_right_after_send_ok_does_not_undo_what_was_sent(bus: ScriptedChip) -> None:
    socket = connected(bus)

    def send(number: int) -> None:
        bus.do_send(number)
        bus.peer_sends(b"250 queued\r\n")
        bus.peer_resets()

    bus.on[Command.SEND] = send
    socket.send_all(b".\r\n", timeout_s=1)
    assert socket.receive(100, timeout_s=1) == b"250 queued\r\n"


def test_sending_is_allowed_after_the_peers_fin(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.peer_ends()
    assert socket.receive(10, timeout_s=1) == b""
    socket.send_all(b"QUIT\r\n", timeout_s=1)
    assert bus.sent == b"QUIT\r\n"


def test_what_the_peer_says_while_we_send_is_kept(bus: ScriptedChip) -> None:
    socket = connected(bus)

    def send(number: int) -> None:
        bus.peer_sends(b"x")
        bus.transmit(number)
        bus.clock.at(0.01, lambda: bus.event(SocketInterrupt.SEND_OK))

    bus.on[Command.SEND] = send
    socket.send_all(bytes(20_000), timeout_s=10)
    bus.clock.slept.clear()
    assert socket.receive(100, timeout_s=10) == b"x" * 5
    assert sum(bus.clock.slept) < 0.01


def test_nothing_to_send_is_nothing_sent(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.forget_frames()
    socket.send_all(b"", timeout_s=1)
    assert bus.exchanges == []
