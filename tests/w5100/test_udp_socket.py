"""UdpSocket on the emulator, on a bus that has ``exchange`` alone, and on a scripted chip."""

from __future__ import annotations

import socket as kernel
from collections.abc import Iterator
from contextlib import closing, suppress
from ipaddress import IPv4Address

import pytest

from plugin.w5100 import registers as reg
from plugin.w5100.chip import Addressing, Chip
from plugin.w5100.emulator import (
    ChipReset,
    Emulator,
    ExchangeError,
    LinkDown,
    UnansweredSend,
)
from plugin.w5100.errors import ChipLost, ChipTimeout, NoSocketError, PeerTimeout, SocketTimeout, W5100Error
from plugin.w5100.registers import Command, Status
from plugin.w5100.udp_socket import UdpSocket
from tests.w5100.scripted import ADDRESSING, FakeClock, ScriptedChip, ready

HERE = "127.0.0.1"
DEADLINE_S = 5.0


class Counted:
    """A foreign bus with ``exchange`` alone that keeps what was written to registers, in order."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.written: list[tuple[int, int]] = []

    def exchange(self, frames: bytes, /) -> bytes:
        runs = [frames[at : at + 4] for at in range(0, len(frames), 4)]
        self.written += [(run[1] << 8 | run[2], run[3]) for run in runs if run[0] == 0xF0]
        return self.emulator.exchange(frames)


class Place:
    """A chip, time that passes only while it sleeps, and a kernel socket as its peer."""

    def __init__(self, kind: str, peer: kernel.socket) -> None:
        self.clock = FakeClock()
        self.emulator = Emulator(clock=self.clock)
        self.bus = Counted(self.emulator)
        self.peer = peer
        self.port: int = peer.getsockname()[1]
        if kind == "emulator":
            self.chip = Chip(self.emulator)
        else:
            self.chip = Chip(self.bus, clock=self.clock, sleep=self.clock.sleep)
        self.chip.reset()
        self.chip.configure(ADDRESSING)

    def asked(self) -> tuple[bytes, tuple[str, int]]:
        data, source = self.peer.recvfrom(4096)
        return data, source

    def exchange(self, socket: UdpSocket) -> None:
        """Ask and be answered."""
        socket.send_to(b"question", HERE, self.port, timeout_s=DEADLINE_S)
        data, source = self.asked()
        assert (data, source[1]) == (b"question", socket.port)
        self.peer.sendto(b"answer", source)
        assert socket.receive_from(100, timeout_s=DEADLINE_S) == (b"answer", IPv4Address(HERE), self.port)


@pytest.fixture
def peer() -> Iterator[kernel.socket]:
    with kernel.socket(kernel.AF_INET, kernel.SOCK_DGRAM) as one:
        one.settimeout(DEADLINE_S)
        one.bind((HERE, 0))
        yield one


@pytest.fixture(params=["emulator", "exchange-only"])
def place(request: pytest.FixtureRequest, peer: kernel.socket) -> Iterator[Place]:
    place = Place(request.param, peer)
    with closing(place.emulator):
        yield place


@pytest.fixture
def polled(peer: kernel.socket) -> Iterator[Place]:
    place = Place("exchange-only", peer)
    with closing(place.emulator):
        yield place


# --- the contract ---------------------------------------------------------------------------------------------


def test_a_question_and_its_answer(place: Place) -> None:
    with closing(place.chip.udp_socket()) as socket:
        assert socket.port >= 49152
        for _ in range(3):
            place.exchange(socket)


def test_datagrams_keep_their_bounds_their_order_and_who_sent_them(place: Place) -> None:
    with closing(place.chip.udp_socket()) as socket, kernel.socket(kernel.AF_INET, kernel.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", 0))
        socket.send_to(b"x", HERE, place.port, timeout_s=DEADLINE_S)
        source = place.asked()[1]
        place.peer.sendto(b"one", source)
        other.sendto(b"", source)
        place.peer.sendto(b"three", source)
        assert socket.receive_from(100, timeout_s=DEADLINE_S) == (b"one", IPv4Address(HERE), place.port)
        assert socket.receive_from(100, timeout_s=DEADLINE_S) == (
            b"",
            IPv4Address("127.0.0.2"),
            other.getsockname()[1],
        )
        assert socket.receive_from(3, timeout_s=DEADLINE_S)[0] == b"thr"  # cut, the rest is lost
        with pytest.raises(SocketTimeout):
            socket.receive_from(100, timeout_s=0)


def test_the_rings_wrap_in_both_directions(place: Place) -> None:
    with closing(place.chip.udp_socket()) as socket:
        for n in range(30):
            letter = bytes((n,)) * (1472 - n)
            socket.send_to(letter, HERE, place.port, timeout_s=DEADLINE_S)
            data, source = place.asked()
            assert data == letter
            place.peer.sendto(data[::-1] + b"!", source)
            assert socket.receive_from(1473, timeout_s=DEADLINE_S)[0] == letter + b"!"


def test_a_broadcast_is_heard(place: Place) -> None:
    with kernel.socket(kernel.AF_INET, kernel.SOCK_DGRAM) as listener:
        listener.settimeout(DEADLINE_S)
        listener.bind(("127.255.255.255", 0))
        with closing(place.chip.udp_socket()) as socket:
            socket.send_to(b"all", "127.255.255.255", listener.getsockname()[1], timeout_s=DEADLINE_S)
        assert listener.recv(100) == b"all"


def test_a_hardware_socket_serves_one_at_a_time_and_tcp_afterwards(place: Place) -> None:
    socket = place.chip.udp_socket()
    with pytest.raises(NoSocketError):
        place.chip.udp_socket()
    with pytest.raises(NoSocketError):
        place.chip.tcp_socket()
    socket.close()
    socket.close()
    with pytest.raises(W5100Error, match="closed"):
        socket.send_to(b"x", HERE, place.port, timeout_s=1)
    with kernel.create_server((HERE, 0)) as server, closing(place.chip.tcp_socket()) as connection:
        connection.connect(HERE, server.getsockname()[1], timeout_s=DEADLINE_S)
        assert connection.number == socket.number
        connection.close(timeout_s=0)


@pytest.mark.parametrize(
    ("data", "address", "port", "error"),
    [
        (b"", HERE, 53, ValueError),
        (bytes(1473), HERE, 53, ValueError),
        (b"x", HERE, 0, ValueError),
        (b"x", HERE, 65536, ValueError),
        (b"x", "no address", 53, ValueError),
        (b"x", "0.0.0.0", 53, W5100Error),
    ],
)
def test_what_cannot_be_sent_never_reaches_the_chip(
    polled: Place, data: bytes, address: str, port: int, error: type[Exception]
) -> None:
    with closing(polled.chip.udp_socket()) as socket:
        polled.bus.written.clear()
        with pytest.raises(error):
            socket.send_to(data, address, port, timeout_s=1)
        assert polled.bus.written == []
        polled.exchange(socket)


# --- what the silicon does wrong ------------------------------------------------------------------------------


def test_a_send_that_does_not_end_is_sent_again_and_what_had_come_is_kept(polled: Place) -> None:
    with closing(polled.chip.udp_socket()) as socket:
        socket.send_to(b"one", HERE, polled.port, timeout_s=DEADLINE_S)
        _, source = polled.asked()
        polled.peer.sendto(b"early", source)
        polled.emulator.inject(UnansweredSend(exchanges=2))
        started = polled.clock()
        socket.send_to(b"two", HERE, polled.port, timeout_s=60)
        assert 3.6 <= polled.clock() - started < 3.8  # twice RTR x (RCR + 1)
        assert polled.asked()[0] == b"two"
        assert socket.receive_from(100, timeout_s=0)[0] == b"early"


def test_a_send_that_never_ends_is_a_chip_timeout(polled: Place) -> None:
    polled.emulator.inject(UnansweredSend())
    with closing(polled.chip.udp_socket()) as socket:
        started = polled.clock()
        with pytest.raises(ChipTimeout, match="SEND_OK"):
            socket.send_to(b"x", HERE, polled.port, timeout_s=60)
        assert polled.clock() - started < 11.5
        with pytest.raises(SocketTimeout):
            socket.send_to(b"x", HERE, polled.port, timeout_s=0.5)
        polled.emulator.clear_faults()
        polled.exchange(socket)


def test_no_answer_to_arp_is_told_and_the_socket_lives_on(polled: Place) -> None:
    with closing(polled.chip.udp_socket()) as socket:
        polled.emulator.inject(LinkDown())
        started = polled.clock()
        with pytest.raises(PeerTimeout, match="ARP"):
            socket.send_to(b"x", HERE, polled.port, timeout_s=60)
        assert 1.8 <= polled.clock() - started < 2.0
        polled.emulator.clear_faults()
        polled.exchange(socket)


@pytest.mark.parametrize("own", ["192.0.2.10", "0.0.0.0"])
def test_without_an_address_the_mask_is_0_for_the_time_of_the_send(polled: Place, own: str) -> None:
    mask = IPv4Address("255.255.255.0")
    polled.chip.configure(
        Addressing(
            mac=ADDRESSING.mac, address=IPv4Address(own), subnet_mask=mask, gateway=IPv4Address("192.0.2.1")
        )
    )
    with closing(polled.chip.udp_socket()) as socket:
        polled.bus.written.clear()
        socket.send_to(b"x", HERE, polled.port, timeout_s=DEADLINE_S)
    command = reg.socket_base(0) + reg.Sn_CR
    seen = [one for one in polled.bus.written if reg.SUBR <= one[0] < reg.SHAR or one == (command, Command.SEND)]
    before = [(reg.SUBR + n, 0) for n in range(4)]
    after = [(reg.SUBR + n, octet) for n, octet in enumerate(mask.packed)]
    send = (command, int(Command.SEND))
    assert seen == ([*before, send, *after] if own == "0.0.0.0" else [send])


# --- what goes wrong with the chip ----------------------------------------------------------------------------


@pytest.mark.parametrize("nth", range(1, 6))
def test_a_bus_that_fails_once_costs_one_call_and_not_the_socket(polled: Place, nth: int) -> None:
    with closing(polled.chip.udp_socket()) as socket:
        polled.emulator.inject(ExchangeError(first_exchange=nth))
        sent = [b"%d" % n for n in range(8)]
        failed = 0
        for data in sent:
            try:
                socket.send_to(data, HERE, polled.port, timeout_s=DEADLINE_S)
                source = polled.asked()[1]
                polled.peer.sendto(data, source)
                assert socket.receive_from(100, timeout_s=DEADLINE_S)[0] == data
            except OSError as error:
                assert "SPI" in str(error)  # noqa: PT017 - which of the calls it is depends on nth
                failed += 1
                socket.send_to(b"afterwards", HERE, polled.port, timeout_s=DEADLINE_S)
                while polled.asked()[0] != b"afterwards":
                    pass
                with suppress(SocketTimeout):
                    socket.receive_from(100, timeout_s=0)
        assert failed == 1


def test_a_chip_that_has_reset_itself_is_lost(polled: Place) -> None:
    with closing(polled.chip.udp_socket()) as socket:
        polled.emulator.inject(ChipReset())
        with pytest.raises(ChipLost, match="reset itself"):
            socket.receive_from(100, timeout_s=1)
        with pytest.raises(ChipLost):
            socket.send_to(b"x", HERE, polled.port, timeout_s=1)


def test_a_socket_from_before_a_reset_is_dead(polled: Place) -> None:
    socket = polled.chip.udp_socket()
    polled.chip.reset()
    with pytest.raises(ChipLost):
        socket.receive_from(100, timeout_s=1)
    polled.chip.configure(ADDRESSING)
    with closing(polled.chip.udp_socket()) as other:
        socket.close()
        polled.exchange(other)


def test_a_socket_that_does_not_open_is_given_back(bus: ScriptedChip) -> None:
    chip = ready(bus)
    bus.on[Command.OPEN] = lambda number: bus.status(Status.CLOSED, number)
    with pytest.raises(ChipTimeout, match="does not open"):
        chip.udp_socket(68)
    assert chip.tcp_socket().number == 0


@pytest.mark.parametrize("rubbish", [b"\x7f", bytes((127, 0, 0, 1, 0, 53, 0xFF, 0xFF)) + b"x"])
def test_a_ring_that_holds_no_datagram_is_begun_anew(bus: ScriptedChip, rubbish: bytes) -> None:
    chip = ready(bus)

    def opened(number: int) -> None:
        bus.do_open(number)
        bus.status(Status.UDP, number)

    bus.on[Command.OPEN] = opened
    with closing(chip.udp_socket(68)) as socket:
        assert bus.get16(0, reg.Sn_PORT) == 68
        bus.peer_sends(rubbish)
        bus.clock.at(1.5, lambda: bus.peer_sends(bytes((192, 0, 2, 1, 0, 67, 0, 2)) + b"ok"))
        assert socket.receive_from(100, timeout_s=3) == (b"ok", IPv4Address("192.0.2.1"), 67)


def test_a_datagram_that_comes_in_parts_is_waited_for(bus: ScriptedChip) -> None:
    chip = ready(bus)

    def opened(number: int) -> None:
        bus.do_open(number)
        bus.status(Status.UDP, number)

    bus.on[Command.OPEN] = opened
    whole = bytes((192, 0, 2, 1, 0, 67, 0, 4)) + b"data"
    with closing(chip.udp_socket()) as socket:
        bus.peer_sends(whole[:5])
        bus.clock.at(0.02, lambda: bus.peer_sends(whole[5:10]))
        bus.clock.at(0.04, lambda: bus.peer_sends(whole[10:]))
        assert socket.receive_from(100, timeout_s=3) == (b"data", IPv4Address("192.0.2.1"), 67)


def test_a_conflict_is_told_once(place: Place) -> None:
    assert not place.chip.conflict()
    place.emulator.arp_request(str(ADDRESSING.address))
    assert place.chip.conflict()
    assert not place.chip.conflict()
