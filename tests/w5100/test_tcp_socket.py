"""Every pitfall of the silicon that concerns TCP, on a chip that does exactly what the test says."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from plugin.w5100 import (
    BusError,
    ChipLost,
    ChipTimeout,
    ConnectionLost,
    ConnectRefused,
    PeerTimeout,
    SocketTimeout,
    W5100Error,
)
from plugin.w5100 import registers as reg
from plugin.w5100.hardware_socket import Ring, advance
from plugin.w5100.registers import Command, SocketInterrupt, Status
from plugin.w5100.verdict import connecting, ended
from tests.w5100.scripted import PEER, PORT, InterruptChip, ScriptedChip, connected, ready

SEND_OK, RECV = SocketInterrupt.SEND_OK, SocketInterrupt.RECV
PASSING = [0x01, 0x11, 0x15, 0x16, 0x18, 0x1A, 0x1B, 0x1D, 0x21, 0x31, 0x14, 0x99]


@pytest.fixture(params=[ScriptedChip, InterruptChip], ids=["polled", "interrupt"])
def bus(request: pytest.FixtureRequest) -> ScriptedChip:
    chip = request.param()
    assert isinstance(chip, ScriptedChip)
    return chip


def silently(number: int) -> None:
    """A command that is taken and does nothing."""


# --- Connect ------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("status", PASSING)
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
    with pytest.raises(SocketTimeout, match=r"no answer to SYN.* within 3 s"):
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


# --- Commands and live registers ----------------------------------------------------------------------------


@pytest.mark.parametrize("command", [Command.OPEN, Command.CONNECT, Command.SEND, Command.RECV])
def test_a_command_that_is_never_taken_is_a_chip_timeout(bus: ScriptedChip, command: Command) -> None:
    bus.untaken.add(command)

    def dialogue() -> None:
        socket = connected(bus)
        bus.peer_sends(b"220\r\n")
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
        bus.peer_sends(letter)
        assert socket.receive(8192, timeout_s=1) == letter
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


# --- Send -----------------------------------------------------------------------------------------------------


def unacknowledged(bus: ScriptedChip) -> Callable[[int], None]:
    """A SEND that is transmitted at once and acknowledged never."""

    def send(number: int) -> None:
        bus.transmit(number, acknowledged=False)
        bus.event(SEND_OK, number)

    return send


def test_more_than_the_ring_holds_goes_in_parts_and_whole(bus: ScriptedChip) -> None:
    socket = connected(bus)
    letter = bytes(n * 7 % 256 for n in range(100_001))
    socket.send_all(letter, timeout_s=10)
    assert bus.sent == letter


def test_sending_waits_for_room_that_acknowledgements_make(bus: ScriptedChip) -> None:
    socket = connected(bus)

    def send(number: int) -> None:
        free = bus.get16(0, reg.Sn_TX_FSR)
        bus.transmit(number, acknowledged=False)
        bus.event(SEND_OK, number)
        bus.clock.at(0.05, lambda: bus.set16(0, reg.Sn_TX_FSR, free))

    bus.on[Command.SEND] = send
    letter = bytes(n * 3 % 256 for n in range(50_000))
    socket.send_all(letter, timeout_s=30)
    assert bus.sent == letter


def test_a_peer_that_takes_no_more_data_is_a_socket_timeout(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.on[Command.SEND] = unacknowledged(bus)
    with pytest.raises(SocketTimeout, match=r"192\.0\.2\.25:25: the peer takes no more data within 2 s"):
        socket.send_all(bytes(10_000), timeout_s=2)
    assert 1002 <= bus.clock.now < 1002.1
    assert len(bus.sent) == 8192


def test_one_send_at_a_time_each_after_the_send_ok_before(bus: ScriptedChip) -> None:
    socket = connected(bus)
    running: list[int] = []

    def send(number: int) -> None:
        assert not running, "SEND while the one before is unfinished"
        assert not bus.memory[0x0402] & SEND_OK, "a stale SEND_OK was left"
        running.append(number)
        bus.transmit(number)

        def done() -> None:
            running.clear()
            bus.event(SEND_OK)

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
            bus.event(SEND_OK)

        bus.clock.at(0.01, done)

    bus.on[Command.SEND] = send
    socket.send_all(bytes(20_000), timeout_s=10)
    assert during[0] >= 4096


def test_a_stale_send_ok_is_not_taken_for_the_next_ones(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.event(SEND_OK)
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


def test_what_the_peer_says_while_we_send_stays_in_the_ring(bus: ScriptedChip) -> None:
    socket = connected(bus)

    def send(number: int) -> None:
        bus.peer_sends(b"x")
        bus.transmit(number)
        bus.clock.at(0.01, lambda: bus.event(SEND_OK))

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


# --- Receive --------------------------------------------------------------------------------------------------


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


def test_recv_with_data_left_is_not_forgotten(bus: ScriptedChip) -> None:
    def without_raising_it_again(number: int) -> None:
        bus.do_recv(number)
        bus.memory[0x0402] = 0

    bus.on[Command.RECV] = without_raising_it_again
    socket = connected(bus)
    bus.peer_sends(b"abcdef")
    bus.clock.slept.clear()
    assert [socket.receive(2, timeout_s=5) for _ in range(3)] == [b"ab", b"cd", b"ef"]
    assert sum(bus.clock.slept) < 0.01


def test_data_that_comes_between_counting_and_recv_raises_its_own_interrupt(bus: ScriptedChip) -> None:
    socket = connected(bus)

    def recv(number: int) -> None:
        bus.peer_sends(b"later")
        bus.do_recv(number)
        bus.on.clear()

    bus.on[Command.RECV] = recv
    bus.peer_sends(b"first")
    assert socket.receive(100, timeout_s=5) == b"first"
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
    bus.clock.at(0.01, lambda: bus.event(RECV))  # before there is any data
    bus.clock.at(0.05, lambda: bus.event(SEND_OK))
    socket.send_all(b"x", timeout_s=1)
    bus.clock.at(0.02, lambda: bus.event(SocketInterrupt.DISCON))  # before the status follows
    bus.clock.at(0.04, lambda: bus.peer_sends(b"bye"))
    bus.clock.at(0.06, lambda: bus.status(Status.CLOSE_WAIT))
    assert socket.receive(10, timeout_s=1) == b"bye"
    assert socket.receive(10, timeout_s=1) == b""


# --- Close ----------------------------------------------------------------------------------------------------


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


def test_close_survives_a_dead_bus_of_any_kind(bus: ScriptedChip) -> None:
    socket = connected(bus)

    def dead(out: bytes) -> bytes:
        raise RuntimeError("unplugged")

    bus.corrupt = dead
    socket.close()


# --- The bus ----------------------------------------------------------------------------------------------------


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


def test_after_a_broken_receive_no_octet_is_handed_out_twice(bus: ScriptedChip) -> None:
    socket = connected(bus)
    bus.peer_sends(b"once")

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
