"""The driver on a chip by another hand (foreign_chip.py), in many tempers; time passes only while it sleeps."""

from __future__ import annotations

import contextlib
import random
import socket as kernel
import struct
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from plugin.w5100 import (
    Addressing,
    BusError,
    Chip,
    ChipNotFound,
    ChipTimeout,
    ConnectionLost,
    ConnectRefused,
    PeerTimeout,
    SocketTimeout,
    TcpSocket,
)
from tests.w5100.foreign_chip import CLOSED, ECHOES, FOR_EVER, ForeignChip, ForeignW5100S, Temper, chip_of

HERE = "127.0.0.1"
NOBODY = "192.0.2.25"
ADDRESSING = Addressing(
    mac=bytes.fromhex("0208dc010203"),
    address=IPv4Address(HERE),
    subnet_mask=IPv4Address("255.0.0.0"),
    gateway=IPv4Address(0),
)
GREETING = b"220 ready\r\n"
Steps = Generator[None, None, None]
Script = Callable[[kernel.socket], Steps]


class World:
    """The clock, the chip and its peers. A peer is a generator that yields while there is nothing for it to do."""

    def __init__(self, temper: Temper, *, lanes: int = 1) -> None:
        self.now = 1000.0
        self.foreign = chip_of(temper, clock=self)
        self.chip = Chip(self.foreign, clock=self, sleep=self.sleep)
        self.listener = kernel.create_server((HERE, 0))
        self.listener.setblocking(False)
        self.port: int = self.listener.getsockname()[1]
        self.scripts: deque[Script] = deque()  # one a connection, in the order of connecting
        self.peers: list[Steps] = []
        self.chip.reset()
        self.chip.configure(ADDRESSING, lanes=lanes)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 1e-6)
        with contextlib.suppress(BlockingIOError):
            connection, _ = self.listener.accept()
            connection.setblocking(False)
            # Else what it says waits for the kernel's delayed acknowledgement: 40 ms, and minutes here.
            connection.setsockopt(kernel.IPPROTO_TCP, kernel.TCP_NODELAY, 1)
            self.peers.append(self.scripts.popleft()(connection))
        self.peers = [peer for peer in self.peers if next(peer, self) is not self]
        self.foreign.tick()

    def pass_ticks(self, count: int = 200) -> None:
        """Let much happen without the driver."""
        for _ in range(count):
            self.sleep(0.001)

    def connect(self, script: Script) -> TcpSocket:
        self.scripts.append(script)
        socket = self.chip.tcp_socket()
        socket.connect(HERE, self.port, timeout_s=10)
        return socket

    def close(self) -> None:
        for peer in self.peers:
            peer.close()
        self.listener.close()
        self.chip.close()
        self.foreign.close()


@contextlib.contextmanager
def world(temper: Temper, *, lanes: int = 1) -> Iterator[World]:
    """Give a world, and see at its end that the driver did nothing that a W5100 suffers from."""
    with contextlib.closing(World(temper, lanes=lanes)) as one:
        yield one
        assert one.foreign.complaints == []


# --- peers ----------------------------------------------------------------------------------------------------


def receive(connection: kernel.socket, count: int) -> Generator[None, None, bytes]:
    """Return ``count`` octets, fewer at the end."""
    data = b""
    while len(data) < count:
        try:
            more = connection.recv(count - len(data))
        except BlockingIOError:
            yield
            continue
        if not more:
            break
        data += more
    return data


def send(connection: kernel.socket, data: bytes) -> Steps:
    while data:
        with contextlib.suppress(BlockingIOError):
            data = data[connection.send(data) :]
        yield


def silent(connection: kernel.socket) -> Steps:
    """Say nothing, hear nothing, never end."""
    with connection:
        while True:
            yield


def polite(answers: int, farewell: bytes) -> Script:
    """Greet, answer lines of six octets, say farewell and end."""

    def script(connection: kernel.socket) -> Steps:
        with connection:
            yield from send(connection, GREETING)
            for _ in range(answers):
                line = yield from receive(connection, 6)
                yield from send(connection, line[::-1])
            yield from send(connection, farewell)
            connection.shutdown(kernel.SHUT_WR)
            yield from receive(connection, 1)

    return script


def mirror(count: int) -> Script:
    """Take ``count`` octets, then give them back, and wait for the end."""

    def script(connection: kernel.socket) -> Steps:
        with connection:
            data = yield from receive(connection, count)
            yield from send(connection, data)
            yield from receive(connection, 1)

    return script


def resetting(data: bytes, after: int) -> Script:
    """Send ``data``, and some steps later RST."""

    def script(connection: kernel.socket) -> Steps:
        with connection:
            yield from send(connection, data)
            for _ in range(after):
                yield
            connection.setsockopt(kernel.SOL_SOCKET, kernel.SO_LINGER, struct.pack("ii", 1, 0))

    return script


def exactly(socket: TcpSocket, count: int, most: int = 4096) -> bytes:
    data = b""
    while len(data) < count:
        piece = socket.receive(min(most, count - len(data)), timeout_s=10)
        assert piece, f"the end after {len(data)} of {count} octets"
        data += piece
    return data


def to_the_end(socket: TcpSocket, most: int = 4096) -> bytes:
    data = b""
    while piece := socket.receive(most, timeout_s=10):
        data += piece
    return data


def tempers(count: int) -> pytest.MarkDecorator:
    """So many of the W5100, and a quarter as many of the W5100S."""
    drawn = [Temper.drawn(seed) for seed in range(count)]
    drawn += [Temper.drawn(seed, w5100s=True) for seed in range(count // 4)]
    ids = [f"{'s' if temper.w5100s else ''}{number % count}" for number, temper in enumerate(drawn)]
    return pytest.mark.parametrize("temper", drawn, ids=ids)


# --- in every temper ------------------------------------------------------------------------------------------


@tempers(80)
def test_a_dialogue_that_the_peer_ends(temper: Temper) -> None:
    with world(temper) as one:
        for number in range(2):
            one.foreign.litter()
            socket = one.connect(polite(3, b"221 bye %d\r\n" % number))
            assert exactly(socket, len(GREETING)) == GREETING
            for line in (b"EHLO\r\n", b"NOOP\r\n", b"QUIT\r\n"):
                socket.send_all(line, timeout_s=10)
                assert exactly(socket, 6, most=4) == line[::-1]
            assert to_the_end(socket, most=5) == b"221 bye %d\r\n" % number
            assert socket.receive(1, timeout_s=10) == b""
            socket.close(timeout_s=1)
            assert one.foreign.sockets[0].status == CLOSED
        assert one.now < 1020


@tempers(80)
def test_a_dialogue_that_we_end_is_ended_by_fin(temper: Temper) -> None:
    heard: list[bytes] = []

    def script(connection: kernel.socket) -> Steps:
        with connection:
            yield from send(connection, GREETING)
            data = yield from receive(connection, 1000)  # to the end
            heard.append(data)
            yield from send(connection, b"too late")

    with world(temper) as one:
        socket = one.connect(script)
        assert exactly(socket, len(GREETING)) == GREETING
        socket.send_all(b"QUIT\r\n", timeout_s=10)
        socket.close(timeout_s=5)
        assert heard == [b"QUIT\r\n"]
        assert one.now < 1010


@tempers(16)
def test_more_than_64_kib_go_both_ways(temper: Temper) -> None:
    data = random.Random(temper.isn).randbytes(70_001)
    with world(temper, lanes=1 + temper.arp % 3) as one:
        socket = one.connect(mirror(len(data)))
        socket.send_all(data, timeout_s=600)
        assert exactly(socket, len(data), most=5000) == data
        socket.close()


@tempers(24)
def test_sends_of_all_sizes_join_up(temper: Temper) -> None:
    draw = random.Random(temper.isn)
    sizes = [1, 2, *(draw.randrange(1, 5000) for _ in range(4)), 8192, 8193, 1]
    data = draw.randbytes(sum(sizes))
    with world(temper) as one:
        socket = one.connect(mirror(len(data)))
        start = 0
        for size in sizes:
            socket.send_all(data[start : start + size], timeout_s=60)
            start += size
        assert exactly(socket, len(data), most=8192) == data
        socket.close()


@tempers(40)
def test_what_came_before_a_reset_is_handed_out_once(temper: Temper) -> None:
    with world(temper) as one:
        socket = one.connect(resetting(b"421 too many connections\r\n", after=100))
        one.pass_ticks()
        assert exactly(socket, 26, most=7) == b"421 too many connections\r\n"
        for _ in range(2):
            with pytest.raises(ConnectionLost, match="reset by the peer"):
                socket.receive(100, timeout_s=10)
        with pytest.raises(ConnectionLost):
            socket.send_all(b"QUIT\r\n", timeout_s=10)
        socket.close()
        socket = one.connect(polite(0, b""))
        assert to_the_end(socket) == GREETING
        socket.close()


@tempers(24)
def test_a_reset_while_we_send_is_told(temper: Temper) -> None:
    with world(temper) as one:
        socket = one.connect(resetting(b"", after=5))

        def talk() -> None:
            for _ in range(10):
                socket.send_all(bytes(3000), timeout_s=10)
                one.sleep(0.001)

        with pytest.raises(ConnectionLost, match="reset by the peer"):
            talk()
        socket.close()


@tempers(40)
def test_a_refused_connection_is_told_and_the_socket_is_free_again(temper: Temper) -> None:
    with world(temper) as one:
        one.foreign.litter()
        with kernel.socket() as closed:
            closed.bind((HERE, 0))
            socket = one.chip.tcp_socket()
            with pytest.raises(ConnectRefused):
                socket.connect(HERE, closed.getsockname()[1], timeout_s=10)
        one.scripts.append(polite(0, b""))
        socket.connect(HERE, one.port, timeout_s=10)
        assert to_the_end(socket) == GREETING
        socket.close()


@tempers(40)
def test_who_never_answers_is_given_up_by_chip_or_deadline(temper: Temper) -> None:
    with world(temper) as one:
        one.foreign.litter()
        socket = one.chip.tcp_socket()
        with pytest.raises(SocketTimeout):
            socket.connect(NOBODY, 25, timeout_s=1.5)
        assert one.now < 1002
        with pytest.raises(PeerTimeout, match="ARP" if temper.silent_in_arp and not temper.w5100s else "SYN"):
            socket.connect(NOBODY, 25, timeout_s=60)
        assert one.now < 1035
        socket.close()


@tempers(24)
def test_three_lanes_do_not_disturb_each_other(temper: Temper) -> None:
    with world(temper, lanes=3) as one:
        sockets = [one.connect(polite(2, b"bye %d" % number)) for number in range(3)]
        for socket in sockets:
            socket.send_all(b"line 1", timeout_s=10)
        for number, socket in reversed(list(enumerate(sockets))):
            socket.send_all(b"line 2", timeout_s=10)
            assert to_the_end(socket) == GREETING + b"1 enil2 enil" + b"bye %d" % number
        for socket in sockets:
            socket.close()


# --- one oddity alone -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("echo", ECHOES)
def test_a_w5100s_is_served_in_long_frames_whatever_its_echo(echo: bytes) -> None:
    data = random.Random(3).randbytes(20_000)
    with world(Temper(w5100s=True, echo=echo, isn=0xFFFE, rx_start=0xFFF0)) as one:
        assert one.chip.model == "w5100s"
        assert one.chip.link() is True
        socket = one.connect(mirror(len(data)))
        socket.send_all(data, timeout_s=60)
        assert exactly(socket, len(data)) == data
        assert isinstance(one.foreign, ForeignW5100S)
        assert one.foreign.long_frames > 5
        socket.close()


def test_a_last_ack_that_lasts_ends_with_close() -> None:
    with world(Temper(last_ack=FOR_EVER, open_needs_closed=True)) as one:
        for _ in range(2):
            socket = one.connect(polite(0, b""))
            assert to_the_end(socket) == GREETING
            before = one.now
            socket.close(timeout_s=0.5)
            assert 0.5 <= one.now - before < 0.6


def test_a_socket_that_was_left_in_some_other_state_is_opened_all_the_same() -> None:
    with world(Temper(open_needs_closed=True)) as one:
        one.foreign.sockets[0].status = 0x1D
        socket = one.connect(polite(0, b""))
        assert to_the_end(socket) == GREETING
        socket.close()


@pytest.mark.parametrize("acknowledged_first", [False, True])
def test_a_peer_that_never_acknowledges_ends_at_the_deadline_and_gets_no_fin(acknowledged_first: bool) -> None:
    with world(Temper(acknowledged=0, acknowledged_first=acknowledged_first)) as one:
        socket = one.connect(silent)
        socket.send_all(bytes(8192), timeout_s=10)  # the ring takes it, SEND_OK says it is transmitted
        before = one.now
        with pytest.raises(SocketTimeout):
            socket.send_all(b"x", timeout_s=2)
        socket.close(timeout_s=1)
        assert one.now - before < 3.1


def test_a_send_without_send_ok_is_a_chip_timeout() -> None:
    with world(Temper(send_ok=FOR_EVER)) as one:
        socket = one.connect(silent)
        with pytest.raises(ChipTimeout, match="SEND_OK"):
            socket.send_all(b"x", timeout_s=2)
        socket.close(timeout_s=1)


def test_free_space_that_changes_at_every_look_is_no_fault() -> None:
    """An acknowledgement of few octets with every register read: two reads never agree for hundreds of them."""
    data = random.Random(1).randbytes(40_000)
    with world(Temper(restless=True, acknowledged=3, isn=0xFFF0)) as one:
        socket = one.connect(mirror(len(data)))
        socket.send_all(data, timeout_s=600)
        assert exactly(socket, len(data)) == data
        socket.close(timeout_s=10)


def test_octets_that_come_one_by_one_with_every_look_are_no_fault() -> None:
    data = random.Random(2).randbytes(9_000)

    def script(connection: kernel.socket) -> Steps:
        with connection:
            yield from send(connection, data)

    with world(Temper(restless=True, dribble=1, rx_start=0xFF80)) as one:
        socket = one.connect(script)
        assert to_the_end(socket) == data
        socket.close()


@pytest.mark.parametrize("needs_connection", [False, True])
def test_a_recv_that_a_closed_socket_ignores_gives_no_octet_twice(needs_connection: bool) -> None:
    with world(Temper(recv_needs_connection=needs_connection, rx_start=0xFFFE)) as one:
        socket = one.connect(resetting(b"550 no such user\r\n", after=20))
        assert socket.receive(2, timeout_s=10) == b"55"  # RECV still counts
        one.pass_ticks(50)
        assert socket.receive(3, timeout_s=10) == b"0 n"
        assert socket.receive(100, timeout_s=10) == b"o such user\r\n"
        with pytest.raises(ConnectionLost):
            socket.receive(100, timeout_s=10)
        socket.close()


def test_a_reason_that_comes_after_closed_is_waited_for() -> None:
    with world(Temper(event_lag=5, silent_in_arp=True)) as one:
        socket = one.chip.tcp_socket()
        with pytest.raises(PeerTimeout):
            socket.connect(NOBODY, 25, timeout_s=60)
        socket.close()


# --- the bus itself -------------------------------------------------------------------------------------------


class Odd:
    """A bus whose answers ``change`` has passed through."""

    def __init__(self, foreign: ForeignChip, change: Callable[[bytes], object]) -> None:
        self.foreign = foreign
        self.change = change

    def exchange(self, frames: bytes, /) -> bytes:
        return self.change(self.foreign.exchange(frames))  # type: ignore[return-value]


@pytest.mark.parametrize("kind", [bytearray, memoryview, list, tuple])
def test_a_bus_may_answer_with_any_run_of_octets(kind: Callable[[bytes], object]) -> None:
    with world(Temper()) as one:
        chip = Chip(Odd(one.foreign, kind), clock=one, sleep=one.sleep)
        chip.reset()
        chip.configure(ADDRESSING)
        assert chip.holds(ADDRESSING)


def unplugged(_received: bytes) -> object:
    raise RuntimeError("the adapter is unplugged")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (unplugged, "RuntimeError: the adapter is unplugged"),
        (lambda _received: None, "NoneType"),
        (lambda _received: 4, "int"),
        (lambda received: received.decode("latin-1"), "str"),
        (lambda received: [octet + 256 for octet in received], "list"),
        (lambda received: received[:-1], "adapter"),
    ],
)
def test_what_a_foreign_bus_raises_or_gives_is_a_bus_error(change: Callable[[bytes], object], words: str) -> None:
    with world(Temper()) as one:
        chip = Chip(Odd(one.foreign, change), clock=one, sleep=one.sleep)
        with pytest.raises(BusError, match=words):
            chip.holds(ADDRESSING)
        with pytest.raises(ChipNotFound, match=words):
            chip.reset(timeout_s=0.1)


def test_an_adapter_that_comes_late_is_waited_for() -> None:
    calls = iter(range(1000))

    def late(received: bytes) -> bytes:
        if next(calls) < 5:
            raise OSError("no such device yet")
        return received

    with world(replace(Temper(), deaf_exchanges=2)) as one:
        Chip(Odd(one.foreign, late), clock=one, sleep=one.sleep).reset()
